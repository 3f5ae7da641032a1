package certmanager

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/kube/kubetest"
)

// unready is an issuer of generation 2 with a condition as cert-manager words it.
func unready(generation int, reason, message string) map[string]any {
	return map[string]any{
		"apiVersion": "cert-manager.io/v1", "kind": "ClusterIssuer", "metadata": map[string]any{"name": "i", "generation": 2},
		"status": map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "False", "reason": reason, "message": message, "observedGeneration": generation}}},
	}
}

// TestFinal ends with the first look where cert-manager has ended its tries.
func TestFinal(t *testing.T) {
	for name, c := range map[string]struct{ reason, message, code, says string }{
		"no CA":           {"ErrInvalidKeyPair", "Error getting keypair for CA issuer: certificate is not a CA", "ISS-01", "not a CA"},
		"no secret":       {"ErrGetKeyPair", `Error getting keypair for CA issuer: secrets "enclave-ca" not found`, "ISS-02", "enclave-ca"},
		"secret of Vault": {"VaultError", `Failed to initialize Vault client: secret "enclave-vault" not found`, "ISS-02", "enclave-vault"},
		"registration":    {"ErrRegisterACMEAccount", `Failed to register ACME account: 403 urn:ietf:params:acme:error:unauthorized: no such account`, "ISS-01", "unauthorized"},
		"authority":       {"ErrRegisterACMEAccount", `Failed to register ACME account: Get "https://acme.example/dir": tls: failed to verify certificate: x509: certificate signed by unknown authority`, "ISS-01", "unknown authority"},
		"account key":     {"ErrVerifyACMEAccount", `Account private key is invalid: error decoding private key`, "ISS-01", "private key"},
		"url":             {"InvalidURL", `Failed to parse existing ACME server URI "::"`, "ISS-01", "ACME server URI"},
		"Vault's login":   {"VaultError", "Vault Kubernetes auth requires a role to be set", "ISS-01", "a role"},
	} {
		s := kubetest.Start(t)
		looks := 0
		s.Handle("GET /apis/cert-manager.io/v1/clusterissuers/i", func(w http.ResponseWriter, _ *http.Request) {
			looks++
			kubetest.Answer(w, 200, unready(2, c.reason, c.message))
		})
		res, err := Issuer{}.Run(t.Context(), install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig, "name": "i", "wait": "3s"}})
		if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != c.code || !strings.Contains(res.Findings[0].Detail, c.says) || looks != 1 {
			t.Errorf("%s: %d looks, %+v, %v", name, looks, res, err)
		}
	}
}

// TestWaits goes on where cert-manager does: what it says becomes true after the
// second look.
func TestWaits(t *testing.T) {
	for name, c := range map[string]struct {
		issuer map[string]any
		secret string
	}{
		"no such host":      {unready(2, "ErrRegisterACMEAccount", `Failed to register ACME account: Get "https://acme.example/dir": dial tcp: lookup acme.example: no such host`), ""},
		"server error":      {unready(2, "ErrRegisterACMEAccount", "Failed to register ACME account: 503 urn:ietf:params:acme:error:serverInternal: 429 of 400"), ""},
		"sealed":            {unready(2, "VaultError", "Failed to verify Vault is initialized and unsealed: Vault is sealed"), ""},
		"of before":         {unready(1, "ErrInvalidKeyPair", "Error getting keypair for CA issuer: certificate is not a CA"), ""},
		"secret is there":   {unready(2, "ErrGetKeyPair", `Error getting keypair for CA issuer: secret "enclave-ca" not found`), "enclave-ca"},
		"no condition":      {map[string]any{"apiVersion": "cert-manager.io/v1", "kind": "ClusterIssuer", "metadata": map[string]any{"name": "i", "generation": 2}}, ""},
		"reason of nothing": {unready(2, "Pending", ""), ""},
	} {
		s := kubetest.Start(t)
		if c.secret != "" {
			s.Put(map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": c.secret, "namespace": "cert-manager"}})
		}
		looks := 0
		s.Handle("GET /apis/cert-manager.io/v1/clusterissuers/i", func(w http.ResponseWriter, _ *http.Request) {
			if looks++; looks < 2 {
				kubetest.Answer(w, 200, c.issuer)
				return
			}
			kubetest.Answer(w, 200, issuer("i", "True", ""))
		})
		res, err := Issuer{}.Run(t.Context(), install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig, "name": "i", "wait": "1m"}})
		if err != nil || len(res.Findings) != 0 || looks != 2 {
			t.Errorf("%s: %d looks, %+v, %v", name, looks, res, err)
		}
	}
}

// TestRequestFailed ends where the request for the Certificate has.
func TestRequestFailed(t *testing.T) {
	s := kubetest.Start(t)
	s.Put(issuer("i", "True", ""))
	s.Handle("POST /apis/cert-manager.io/v1/namespaces/cert-manager/certificates", func(w http.ResponseWriter, r *http.Request) {
		var o map[string]any
		_ = json.NewDecoder(r.Body).Decode(&o)
		o["status"] = map[string]any{"conditions": []any{
			map[string]any{"type": "Ready", "status": "False", "reason": "DoesNotExist", "message": "Issuing certificate as Secret does not exist"},
			map[string]any{"type": "Issuing", "status": "False", "reason": "Denied", "message": "The certificate request has failed to complete and will be retried: denied by the policy"},
		}}
		s.Put(o)
		kubetest.Answer(w, 201, o)
	})
	res, err := Issuer{}.Run(t.Context(), install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig, "name": "i", "issue": host, "wait": "3s"}})
	if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != "ISS-01" || !strings.Contains(res.Findings[0].Detail, "denied by the policy") {
		t.Errorf("%+v, %v", res, err)
	}
}
