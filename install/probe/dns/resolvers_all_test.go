//go:build all

package dns

import (
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/nameserver"
	"github.com/google/go-cmp/cmp"
)

// TestResolvers asks BIND as the zone's own server and dnsmasq as resolvers.
func TestResolvers(t *testing.T) {
	zone := nameserver.Named(t, "site-a.example", "spacelift A 10.1.2.3", "alias CNAME spacelift", "loop CNAME pool", "pool CNAME loop")
	inside := nameserver.Dnsmasq(t, zone)
	stale := nameserver.Dnsmasq(t, zone, host+"/10.9.9.9")
	wanted := []any{map[string]any{"name": host, "addresses": []any{"10.1.2.3"}}}
	for name, c := range map[string]struct {
		resolvers []any
		records   []any
		want      []string
		says      string
	}{
		"agree":        {[]any{inside}, wanted, nil, ""},
		"alias":        {[]any{inside}, []any{map[string]any{"name": "alias.site-a.example", "target": host}}, nil, ""},
		"stale":        {[]any{inside, stale}, wanted, []string{"DNS-02", "DNS-03"}, "10.9.9.9"},
		"unknown name": {[]any{inside}, []any{map[string]any{"name": "nothing.site-a.example"}}, []string{"DNS-01", "DNS-01"}, "NXDOMAIN"},
		"loop":         {[]any{inside}, []any{map[string]any{"name": "loop.site-a.example"}}, []string{"DNS-08", "DNS-08"}, "pool.site-a.example"},
	} {
		t.Run(name, func(t *testing.T) {
			res, err := Probe{}.Run(t.Context(), install.Input{With: map[string]any{"records": c.records, "resolvers": c.resolvers, "authoritative": zone, "timeout": "10s"}})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range res.Findings {
				got = append(got, f.Code)
				if !strings.Contains(f.Detail, c.says) {
					t.Errorf("%q does not say %q", f.Detail, c.says)
				}
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("%s\n%+v", d, res.Findings)
			}
		})
	}
}
