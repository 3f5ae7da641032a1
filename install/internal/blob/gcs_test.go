package blob

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// serviceAccount writes a key file whose tokens come from there.
func serviceAccount(t *testing.T, tokens string) (*rsa.PrivateKey, string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "spacelift@project.iam.gserviceaccount.com", "token_uri": tokens,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "account.json")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return key, path
}

// google is a stand-in for tokens and the JSON API of one bucket.
type googleAPI struct {
	bucket string // what GET of the bucket answers
	status int    // other than 200 for everything about the bucket
	refuse bool   // no tokens
}

func (g googleAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/token" && g.refuse:
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"error":"invalid_grant","error_description":"t0ken"}`)
	case r.URL.Path == "/token":
		_, _ = io.WriteString(w, `{"access_token":"t0ken","token_type":"Bearer","expires_in":3600}`)
	case r.Header.Get("Authorization") != "Bearer t0ken":
		w.WriteHeader(http.StatusUnauthorized)
	case g.status != 0:
		w.WriteHeader(g.status)
		_, _ = io.WriteString(w, `{"error":{"code":403,"message":"spacelift@project does not have storage.buckets.get access"}}`)
	default:
		_, _ = io.WriteString(w, g.bucket)
	}
}

func openGoogle(t *testing.T, g googleAPI) (*Service, *rsa.PrivateKey) {
	t.Helper()
	s := httptest.NewServer(g)
	t.Cleanup(s.Close)
	key, path := serviceAccount(t, s.URL+"/token")
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", path)
	t.Setenv("STORAGE_EMULATOR_HOST", "")
	svc, err := Open(t.Context(), Config{Type: TypeGCP, Endpoint: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(svc.Close)
	return svc, key
}

func TestGCSRules(t *testing.T) {
	s, _ := openGoogle(t, googleAPI{bucket: `{"name":"states","versioning":{"enabled":true},"lifecycle":{"rule":[
		{"action":{"type":"SetStorageClass"},"condition":{"age":1}},
		{"action":{"type":"Delete"},"condition":{"age":30,"isLive":false}},
		{"action":{"type":"Delete"},"condition":{"numNewerVersions":3}},
		{"action":{"type":"Delete"},"condition":{"age":2}},
		{"action":{"type":"Delete"},"condition":{"age":9,"matchesPrefix":["x/"]}}]}}`})
	got, err := s.Rules.Expiry(t.Context(), "states")
	if err != nil {
		t.Fatal(err)
	}
	want := []Rule{
		{ID: "number 2", Days: 30, OldOnly: true},
		{ID: "number 3", OldOnly: true},
		{ID: "number 4", Days: 2},
		{ID: "number 5", Days: 9, Part: "those of some names"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if on, err := s.Rules.Versioning(t.Context(), "states"); err != nil || !on {
		t.Errorf("%v, %v", on, err)
	}
}

func TestGCSErrors(t *testing.T) {
	for status, want := range map[int]Reason{403: Denied, 404: Missing, 401: Unknown, 501: Unsupported, 500: Other} {
		s, _ := openGoogle(t, googleAPI{status: status})
		if err := s.Rules.Look(t.Context(), "states"); ReasonOf(err) != want {
			t.Errorf("%d: %v has reason %d, want %d", status, err, ReasonOf(err), want)
		}
	}
	s, _ := openGoogle(t, googleAPI{refuse: true})
	if err := s.Rules.Look(t.Context(), "states"); ReasonOf(err) != Unknown || strings.Contains(err.Error(), "t0ken") {
		t.Error(err)
	}
}

// TestGCSSign checks a signed URL with the public key, as Google does.
func TestGCSSign(t *testing.T) {
	s, key := openGoogle(t, googleAPI{})
	signed, err := s.Signer.Sign(t.Context(), http.MethodPut, "uploads", "a dir/ö b", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	q := signed.URL.Query()
	sig, err := hex.DecodeString(q.Get(signed.Signature))
	if err != nil {
		t.Fatal(err)
	}
	query, _, _ := strings.Cut(signed.URL.RawQuery, "&X-Goog-Signature=")
	if strings.ContainsAny(query, "+") || signed.URL.EscapedPath() != "/uploads/a%20dir/%C3%B6%20b" || q.Get("X-Goog-Expires") != "60" {
		t.Errorf("%s", signed.URL)
	}
	_, scope, _ := strings.Cut(q.Get("X-Goog-Credential"), "/")
	sum := sha256.Sum256([]byte("PUT\n" + signed.URL.EscapedPath() + "\n" + query + "\nhost:" + signed.URL.Host + "\n\nhost\nUNSIGNED-PAYLOAD"))
	text := sha256.Sum256([]byte("GOOG4-RSA-SHA256\n" + q.Get("X-Goog-Date") + "\n" + scope + "\n" + hex.EncodeToString(sum[:])))
	if err := rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, text[:], sig); err != nil {
		t.Error(err)
	}
}

// TestGCSSignThroughIAM has credentials without a key.
func TestGCSSignThroughIAM(t *testing.T) {
	for status, says := range map[int]string{200: "", 403: "IAM does not sign for spacelift@project"} {
		iam := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v1/projects/-/serviceAccounts/spacelift@project:signBlob" {
				t.Errorf("asked for %s", r.URL.Path)
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"signedBlob":"c2lnbmVk"}`)
		}))
		t.Cleanup(iam.Close)
		s := gcsSigner{base: &url.URL{Scheme: "https", Host: "storage.googleapis.com"}, client: iam.Client(), iam: iam.URL, email: "spacelift@project"}
		u, err := s.sign(t.Context(), http.MethodGet, "b", "k", time.Minute, time.Now())
		if says == "" && (err != nil || u.Query().Get("X-Goog-Signature") != hex.EncodeToString([]byte("signed"))) {
			t.Errorf("%v, %v", u, err)
		}
		if says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%v, want %q", err, says)
		}
	}
}
