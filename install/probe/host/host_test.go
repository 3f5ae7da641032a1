package host

import (
	"slices"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/google/go-cmp/cmp"
)

func TestSyntax(t *testing.T) {
	for name, c := range map[string]struct {
		with map[string]any
		want []string // codes
	}{
		"good": {map[string]any{
			"hosts": map[string]any{"server": "a.example.com", "mqtt": "m.example.com"}, "required": []any{"server", "mqtt"},
			"ports": map[string]any{"mqtt": int64(1984)}, "reserved": map[string]any{"1983": "HTTP"},
		}, nil},
		"scheme":        {map[string]any{"hosts": map[string]any{"server": "https://a.example.com"}}, []string{"HOST-01"}},
		"port in name":  {map[string]any{"hosts": map[string]any{"server": "a.example.com:443"}}, []string{"HOST-01"}},
		"address":       {map[string]any{"hosts": map[string]any{"server": "10.0.0.1"}}, []string{"HOST-01"}},
		"missing":       {map[string]any{"hosts": map[string]any{"server": "a.example.com"}, "required": []any{"mqtt"}}, []string{"HOST-02"}},
		"no host":       {map[string]any{"hosts": map[string]any{"server": nil, "mqtt": ""}, "ports": map[string]any{"mqtt": int64(1984)}}, []string{"HOST-02"}},
		"nothing":       {nil, []string{"HOST-02"}},
		"once":          {map[string]any{"hosts": map[string]any{"server": ""}, "required": []any{"server"}}, []string{"HOST-02"}},
		"ports only":    {map[string]any{"ports": map[string]any{"mqtt": int64(1984)}}, nil},
		"reserved port": {map[string]any{"ports": map[string]any{"mqtt": int64(1983)}, "reserved": map[string]any{"1983": "HTTP"}}, []string{"HOST-03"}},
		"no such port":  {map[string]any{"ports": map[string]any{"mqtt": int64(70000), "x": int64(0)}}, []string{"HOST-03", "HOST-03"}},
		"same":          {map[string]any{"hosts": map[string]any{"server": "a.example.com", "mqtt": "a.example.com"}}, []string{"HOST-04"}},
		"single label":  {map[string]any{"hosts": map[string]any{"server": "airlock"}}, []string{"HOST-05"}},
		"multicast":     {map[string]any{"hosts": map[string]any{"server": "a.local"}}, []string{"HOST-05"}},
	} {
		res, err := Probe{}.Run(t.Context(), install.Input{With: c.with})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		known := Probe{}.Codes()
		for _, f := range res.Findings {
			got = append(got, f.Code)
			for field := range f.Fields {
				if !slices.Contains(known[f.Code], field) {
					t.Errorf("%s: field %s is not listed with %s", name, field, f.Code)
				}
			}
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	if _, err := (Probe{}).Run(t.Context(), install.Input{With: map[string]any{"host": "x"}}); err == nil {
		t.Error("an unknown argument is accepted")
	}
}
