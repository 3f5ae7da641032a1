package charts

import (
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
)

// TestGrounds: a values file makes only those results stale that it goes into.
func TestGrounds(t *testing.T) {
	site := []install.ValuesFile{
		{Name: "a.yaml", Data: []byte("a: 1")},
		{Name: "b.yaml", Chart: "cert-manager", Data: []byte("b: 1")},
		{Name: "c.yaml", Chart: "spacelift", Data: []byte("c: 1")},
	}
	for name, c := range map[string]struct {
		with map[string]any
		want string
	}{
		"main":           {map[string]any{"chart": "spacelift", "files": true}, "=,spacelift="},
		"not main":       {map[string]any{"chart": "cert-manager"}, "cert-manager="},
		"files false":    {map[string]any{"chart": "cert-manager", "files": false}, "cert-manager="},
		"none":           {map[string]any{"chart": "ingress-nginx"}, ""},
		"files later":    {map[string]any{"chart": "ingress-nginx", "files": "${in.x}"}, "="},
		"chart later":    {map[string]any{"chart": "${in.chart}"}, "cert-manager=,spacelift="},
		"no arguments":   {nil, ""},
		"files no chart": {map[string]any{"files": true}, "="},
	} {
		var got []string
		for _, g := range Grounds(install.Input{With: c.with, Values: site}) {
			chart, sum, _ := strings.Cut(g, "=")
			if !strings.HasPrefix(sum, "sha256:") {
				t.Errorf("%s: no digest: %s", name, g)
			}
			got = append(got, chart+"=")
		}
		if strings.Join(got, ",") != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
