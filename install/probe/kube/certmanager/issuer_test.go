package certmanager

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/kube/kubetest"
	"github.com/airlock-project/airlock/testdata/pki"
	"github.com/google/go-cmp/cmp"
)

const host = "probe.spacelift.site-a.example"

func issuer(name, status, message string) map[string]any {
	return map[string]any{
		"apiVersion": "cert-manager.io/v1", "kind": "ClusterIssuer", "metadata": map[string]any{"name": name},
		"status": map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": status, "reason": "Because", "message": message}}},
	}
}

// manager stands in for cert-manager: it issues what is asked for, or says why
// not.
func manager(s *kubetest.Server, chain, ready, message string) {
	s.Handle("POST /apis/cert-manager.io/v1/namespaces/cert-manager/certificates", func(w http.ResponseWriter, r *http.Request) {
		var o map[string]any
		_ = json.NewDecoder(r.Body).Decode(&o)
		o["status"] = map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": ready, "reason": "Because", "message": message}}}
		name := o["metadata"].(map[string]any)["name"]
		s.Put(o, map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": name, "namespace": "cert-manager"}, "data": map[string]any{"tls.crt": base64.StdEncoding.EncodeToString([]byte(chain))}})
		kubetest.Answer(w, 201, o)
	})
}

func chain(t *testing.T, ca *pki.Authority, name string) string {
	t.Helper()
	path, _ := pki.Files(t, ca.Server(t, []string{name}))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestIssuer(t *testing.T) {
	ca, other := pki.New(t, "enclave CA"), pki.New(t, "another CA")
	leaf := chain(t, ca, host)
	for name, c := range map[string]struct {
		issuer map[string]any
		chain  string
		ready  string
		says   string
		ca     string
		want   []string
		has    string
	}{
		"good":         {issuer: issuer("i", "True", ""), chain: leaf, ready: "True", ca: ca.File(t)},
		"no authority": {issuer: issuer("i", "True", ""), chain: leaf, ready: "True"},
		"other chain":  {issuer: issuer("i", "True", ""), chain: leaf, ready: "True", ca: other.File(t), want: []string{"ISS-04"}, has: "enclave CA"},
		"other name":   {issuer: issuer("i", "True", ""), chain: chain(t, ca, "else.example"), ready: "True", ca: ca.File(t), want: []string{"ISS-04"}, has: host},
		"no chain":     {issuer: issuer("i", "True", ""), ready: "True", want: []string{"ISS-04"}, has: "no certificate"},
		"not issued":   {issuer: issuer("i", "True", ""), ready: "False", says: "denied by policy", want: []string{"ISS-01"}, has: "denied by policy"},
		"missing":      {issuer: issuer("x", "True", ""), want: []string{"ISS-01"}, has: "does not exist"},
		"not ready":    {issuer: issuer("i", "False", "lookup acme-v02.api.letsencrypt.org: no such host"), want: []string{"ISS-01"}, has: "letsencrypt"},
		"no secret":    {issuer: issuer("i", "False", `Error getting keypair for CA issuer: secrets "enclave-ca" not found`), want: []string{"ISS-02"}, has: "enclave-ca"},
	} {
		s := kubetest.Start(t)
		s.Put(c.issuer)
		manager(s, c.chain, c.ready, c.says)
		res, err := Issuer{}.Run(t.Context(), install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig, "name": "i", "issue": host, "ca": c.ca, "wait": "1ms"}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := []string{}
		for _, f := range res.Findings {
			got = append(got, f.Code)
			for field := range f.Fields {
				if !slices.Contains(Issuer{}.Codes()[f.Code], field) {
					t.Errorf("%s: field %s is not listed with %s", name, field, f.Code)
				}
			}
			if !strings.Contains(f.Detail, c.has) {
				t.Errorf("%s: %q lacks %q", name, f.Detail, c.has)
			}
		}
		if d := cmp.Diff(append([]string{}, c.want...), got); d != "" {
			t.Errorf("%s: %s\n%+v", name, d, res.Findings)
		}
		for _, path := range []string{"/apis/cert-manager.io/v1/namespaces/cert-manager/certificates/airlock-probe-i", "/api/v1/namespaces/cert-manager/secrets/airlock-probe-i"} {
			if s.Object(path) != nil {
				t.Errorf("%s: %s is left", name, path)
			}
		}
	}
}

// TestChallenge: an ACME challenge that nobody answers is the reason.
func TestChallenge(t *testing.T) {
	s := kubetest.Start(t)
	s.Put(issuer("i", "True", ""))
	manager(s, "", "False", "Issuing certificate as Secret does not exist")
	s.Handle("GET /apis/acme.cert-manager.io/v1/namespaces/cert-manager/challenges", func(w http.ResponseWriter, _ *http.Request) {
		kubetest.Answer(w, 200, map[string]any{"kind": "ChallengeList", "apiVersion": "acme.cert-manager.io/v1", "items": []any{
			map[string]any{"apiVersion": "acme.cert-manager.io/v1", "kind": "Challenge", "metadata": map[string]any{"name": "c"}, "spec": map[string]any{"dnsName": host}, "status": map[string]any{"reason": "Waiting for HTTP-01 challenge propagation: no such host"}},
		}})
	})
	res, err := Issuer{}.Run(t.Context(), install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig, "name": "i", "issue": host, "wait": "1ms"}})
	if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != "ISS-03" || !strings.Contains(res.Findings[0].Fields["reason"], "no such host") {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestArguments(t *testing.T) {
	s := kubetest.Start(t)
	for name, with := range map[string]map[string]any{"no name": {}, "kind": {"name": "i", "kind": "X"}, "wait": {"name": "i", "wait": "x"}} {
		with["kubeconfig"] = s.Kubeconfig
		if _, err := (Issuer{}).Run(t.Context(), install.Input{With: with}); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	res, err := Issuer{}.Run(t.Context(), install.Input{With: map[string]any{"kubeconfig": "/nonexistent/config", "name": "i"}})
	if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != "K8S-07" {
		t.Errorf("%+v, %v", res, err)
	}
}
