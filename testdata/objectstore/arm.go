package objectstore

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// ARMToken is the token that the stand-in gives and wants.
const ARMToken = "arm-token-that-must-not-show"

// ARMSecret is the client secret that it takes.
const ARMSecret = "cl1ent-secret-that-must-not-show"

// ARM is a stand-in for Azure Resource Manager and the authority that gives
// tokens for it. It speaks TLS, as both do.
type ARM struct {
	*httptest.Server
	Policy     any  // answer to managementPolicies/default; nil is 404
	Versioning bool // of the blob service
	Deny       bool // 403 to everything about the account
}

// NewARM starts a stand-in.
func NewARM(t testing.TB) *ARM {
	t.Helper()
	a := &ARM{}
	a.Server = httptest.NewTLSServer(a)
	t.Cleanup(a.Close)
	return a
}

// Env is what makes DefaultAzureCredential take its tokens here.
func (a *ARM) Env() map[string]string {
	return map[string]string{
		"AZURE_AUTHORITY_HOST": a.URL, "AZURE_TENANT_ID": "11111111-2222-3333-4444-555555555555",
		"AZURE_CLIENT_ID": "66666666-7777-8888-9999-000000000000", "AZURE_CLIENT_SECRET": ARMSecret,
	}
}

// DeleteRule is a management policy with one rule that deletes blobs of names
// with these prefixes so many days after they were made.
func DeleteRule(name string, days int, prefixes ...string) any {
	del := map[string]any{"delete": map[string]any{"daysAfterCreationGreaterThan": days}}
	return map[string]any{"properties": map[string]any{"policy": map[string]any{"rules": []any{map[string]any{
		"name": name, "enabled": true, "type": "Lifecycle",
		"definition": map[string]any{"actions": map[string]any{"baseBlob": del, "version": del}, "filters": map[string]any{"blobTypes": []any{"blockBlob"}, "prefixMatch": prefixes}},
	}}}}}
}

// ServeHTTP implements http.Handler.
func (a *ARM) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := func(status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	fail := func(status int, code string) {
		answer(status, map[string]any{"error": map[string]any{"code": code, "message": "no, " + ARMToken}})
	}
	tenant, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration"):
		answer(http.StatusOK, map[string]any{
			"issuer": a.URL + "/" + tenant + "/v2.0", "token_endpoint": a.URL + "/" + tenant + "/oauth2/v2.0/token",
			"authorization_endpoint": a.URL + "/" + tenant + "/oauth2/v2.0/authorize",
		})
	case strings.HasSuffix(r.URL.Path, "/oauth2/v2.0/token"):
		if r.FormValue("client_secret") != ARMSecret {
			answer(http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
			return
		}
		answer(http.StatusOK, map[string]any{"access_token": ARMToken, "token_type": "Bearer", "expires_in": 3600})
	case r.Header.Get("Authorization") != "Bearer "+ARMToken:
		fail(http.StatusUnauthorized, "AuthenticationFailed")
	case a.Deny:
		fail(http.StatusForbidden, "AuthorizationFailed")
	case strings.HasSuffix(r.URL.Path, "/blobServices/default"):
		answer(http.StatusOK, map[string]any{"properties": map[string]any{"isVersioningEnabled": a.Versioning}})
	case strings.HasSuffix(r.URL.Path, "/managementPolicies/default") && a.Policy != nil:
		answer(http.StatusOK, a.Policy)
	default:
		fail(http.StatusNotFound, "ManagementPolicyNotFound")
	}
}
