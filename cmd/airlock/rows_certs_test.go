package main

import (
	"maps"
	"testing"

	"github.com/airlock-project/airlock/install"
)

// TestRowIssuerChoice: what cannot issue in an enclave is refused before anything
// is done with it.
func TestRowIssuerChoice(t *testing.T) {
	const inside = "https://acme.letsencrypt.org.site-a.example/directory"
	for _, r := range []row{
		{name: "Let's Encrypt by name", inputs: map[string]any{"issuer.kind": "letsencrypt"}, want: install.StateFail, code: "ISS-06", says: []string{"letsencrypt", "acme-internal"}},
		{name: "public by address", inputs: map[string]any{"issuer.acme_url": "https://acme-v02.api.letsencrypt.org/directory"}, want: install.StateFail, code: "ISS-07", says: []string{"acme-v02.api.letsencrypt.org", "issuer.acme_url"}},
		{name: "public with a port and a dot", inputs: map[string]any{"issuer.acme_url": "https://ACME.ZeroSSL.com.:443/v2/DV90"}, want: install.StateFail, code: "ISS-07", says: []string{"ZeroSSL"}},
		{name: "Google's", inputs: map[string]any{"issuer.acme_url": "https://dv.acme-v02.api.pki.goog/directory"}, want: install.StateFail, code: "ISS-07", says: []string{"pki.goog"}},
		{name: "inside", inputs: map[string]any{"issuer.acme_url": inside}, want: install.StatePass},
		{name: "with a way out", airgap: "partial", inputs: map[string]any{"issuer.acme_url": "https://acme-v02.api.letsencrypt.org/directory"}, want: install.StatePass},
		{name: "not asked", inputs: map[string]any{"issuer.kind": "ca", "issuer.acme_url": "https://acme-v02.api.letsencrypt.org/directory"}, want: install.StatePass},
	} {
		t.Run(r.name, func(t *testing.T) {
			in := map[string]any{"tls.mode": "cert-manager", "hosts.server": netHost, "issuer.kind": "acme-internal"}
			maps.Copy(in, r.inputs)
			r.item, r.inputs = "choose-issuer", in
			runRow(t, r)
		})
	}
}
