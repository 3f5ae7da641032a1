package cidr

import (
	"fmt"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
)

func TestOverlap(t *testing.T) {
	for name, c := range map[string]struct {
		networks map[string]any
		together []any
		want     []string
	}{
		"apart":          {map[string]any{"pods": "10.244.0.0/16", "services": "10.96.0.0/12", "nodes": []any{"10.0.0.0/24", "10.0.1.0/24"}, "database": "10.0.1.5"}, []any{[]any{"database", "nodes"}}, nil},
		"none":           {nil, nil, nil},
		"inside":         {map[string]any{"pods": "10.0.0.0/8", "services": "10.96.0.0/12"}, nil, []string{"CIDR-01 pods 10.0.0.0/8 and services 10.96.0.0/12 share addresses"}},
		"equal":          {map[string]any{"a": "10.0.0.0/8", "b": "10.0.0.0/8"}, nil, []string{"CIDR-01 a"}},
		"address":        {map[string]any{"pods": "10.244.0.0/16", "database": "10.244.3.4"}, nil, []string{"CIDR-01 database 10.244.3.4/32 and pods"}},
		"mapped address": {map[string]any{"pods": "10.244.0.0/16", "database": "::ffff:10.244.3.4"}, nil, []string{"CIDR-01 database"}},
		"IPv6":           {map[string]any{"pods": "fd00::/48", "nodes": "fd00:0:0:1::/64", "services": "10.0.0.0/8"}, nil, []string{"CIDR-01 nodes"}},
		"one name":       {map[string]any{"nodes": []any{"10.0.0.0/8", "10.1.0.0/16"}}, nil, nil},
		"host bits":      {map[string]any{"pods": "10.244.1.0/16"}, nil, []string{"CIDR-02 pods: \"10.244.1.0/16\" has bits set beyond its length; the network is 10.244.0.0/16"}},
		"no network":     {map[string]any{"pods": "all", "nodes": []any{"x/8", "10.0.0.0/8"}}, nil, []string{"CIDR-02 nodes", "CIDR-02 pods"}},
		"mapped network": {map[string]any{"pods": "::ffff:10.0.0.0/104"}, nil, []string{"CIDR-02 pods"}},
	} {
		with := map[string]any{"networks": c.networks}
		if c.together != nil {
			with["together"] = c.together
		}
		res, err := Probe{}.Run(t.Context(), install.Input{With: with})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for _, f := range res.Findings {
			got = append(got, f.Code+" "+f.Detail)
		}
		if len(got) != len(c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
			continue
		}
		for i := range got {
			if !strings.HasPrefix(got[i], c.want[i]) {
				t.Errorf("%s: %q, want %q", name, got[i], c.want[i])
			}
		}
	}
}

func TestArguments(t *testing.T) {
	many := make([]any, maxNetworks+1)
	for i := range many {
		many[i] = fmt.Sprintf("10.%d.%d.0/24", i/256, i%256)
	}
	for _, with := range []map[string]any{
		{"network": "x"}, {"networks": map[string]any{"a": int64(1)}}, {"networks": map[string]any{"a": many}}, {"codes": map[string]any{"NET-01": "X-01"}},
	} {
		if _, err := (Probe{}).Run(t.Context(), install.Input{With: with}); err == nil {
			t.Errorf("%v is accepted", with)
		}
	}
	res, err := Probe{}.Run(t.Context(), install.Input{With: map[string]any{"networks": map[string]any{"a": "x"}, "codes": map[string]any{"CIDR-02": "VPC-09"}}})
	if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != "VPC-09" {
		t.Errorf("%+v, %v", res, err)
	}
}
