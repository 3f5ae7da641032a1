package minio

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/secure-io/sio-go"
	"golang.org/x/crypto/argon2"
)

const (
	adminKey    = "administrator"
	adminSecret = "adm1n/Secret+thatMustNotShow"
)

// fake is the part of MinIO that the action talks to: the administration of
// users and policies, and HEAD of buckets by the rights of a user.
type fake struct {
	mu       sync.Mutex
	secrets  map[string]string
	policies map[string]string
	attached map[string]string
	changes  int
	open     bool // users may see every bucket
	deny     bool // the administrator may nothing
	html     bool // something else answers
}

func newFake(t *testing.T) (*fake, string) {
	t.Helper()
	f := &fake{secrets: map[string]string{}, policies: map[string]string{}, attached: map[string]string{}}
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return f, s.Listener.Addr().String()
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	q := r.URL.Query()
	by := func(name string) bool { return strings.Contains(r.Header.Get("Authorization"), "Credential="+name+"/") }
	call, isAdmin := strings.CutPrefix(r.URL.Path, "/minio/admin/v3/")
	fail := func(status int, code string) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"Code": code, "Message": "said"})
	}
	switch {
	case f.html:
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "<html>"+adminSecret)
	case !isAdmin:
		f.bucket(w, r)
	case f.deny:
		fail(http.StatusForbidden, "AccessDenied")
	case !by(adminKey):
		fail(http.StatusForbidden, "InvalidAccessKeyId")
	case call == "user-info":
		name := q.Get("accessKey")
		if _, ok := f.secrets[name]; !ok {
			fail(http.StatusNotFound, "XMinioAdminNoSuchUser")
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"policyName": f.attached[name], "status": "enabled"})
	case call == "add-user":
		raw, _ := io.ReadAll(r.Body)
		var body struct{ SecretKey, Status string }
		if err := json.Unmarshal(unseal(raw), &body); err != nil {
			fail(http.StatusBadRequest, "XMinioAdminConfigBadJSON")
			return
		}
		f.secrets[q.Get("accessKey")] = body.SecretKey
		f.changes++
	case call == "info-canned-policy":
		p, ok := f.policies[q.Get("name")]
		if !ok {
			fail(http.StatusNotFound, "XMinioAdminNoSuchPolicy")
			return
		}
		_, _ = io.WriteString(w, p)
	case call == "add-canned-policy":
		raw, _ := io.ReadAll(r.Body)
		f.policies[q.Get("name")] = string(raw)
		f.changes++
	case call == "set-user-or-group-policy" && q.Get("isGroup") == "false":
		f.attached[q.Get("userOrGroup")] = q.Get("policyName")
		f.changes++
	default:
		fail(http.StatusNotImplemented, "NotImplemented")
	}
}

func (f *fake) bucket(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Has("location") {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	name := strings.Trim(r.URL.Path, "/")
	status := http.StatusForbidden
	for user, policy := range f.attached {
		if strings.Contains(r.Header.Get("Authorization"), "Credential="+user+"/") &&
			(f.open || strings.Contains(f.policies[policy], `"arn:aws:s3:::`+name+`"`)) {
			status = http.StatusNotFound
		}
	}
	w.WriteHeader(status)
}

// unseal is the other half of what MinIO's client does; nil if it does not fit.
func unseal(raw []byte) []byte {
	if len(raw) < 41 || raw[32] != 0 {
		return nil
	}
	s, err := sio.AES_256_GCM.Stream(argon2.IDKey([]byte(adminSecret), raw[:32], 1, 64<<10, 4, 32))
	if err != nil {
		return nil
	}
	out, err := io.ReadAll(s.DecryptReader(strings.NewReader(string(raw[33+s.NonceSize():])), raw[33:33+s.NonceSize()], nil))
	if err != nil {
		return nil
	}
	return out
}

func input(t *testing.T, endpoint string) install.Input {
	t.Helper()
	return install.Input{Secrets: filepath.Join(t.TempDir(), "secrets"), With: map[string]any{
		"endpoint": endpoint, "admin_access_key": adminKey, "admin_secret_key": adminSecret,
		"name": "spacelift", "buckets": []any{"states", "uploads"},
	}}
}

func apply(t *testing.T, in install.Input) install.Result {
	t.Helper()
	res, err := Action{}.Apply(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(res)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(raw), adminSecret) {
		t.Errorf("the result holds the administrator's secret: %s", raw)
	}
	for _, f := range res.Findings {
		for name := range f.Fields {
			if !slices.Contains((Action{}).Codes()[f.Code], name) {
				t.Errorf("field %s is not listed with %s", name, f.Code)
			}
		}
	}
	return res
}

func TestCredentials(t *testing.T) {
	f, endpoint := newFake(t)
	in := input(t, endpoint)
	if c, err := (Action{}).Plan(t.Context(), in); err != nil || c.Nothing {
		t.Fatalf("%+v, %v", c, err)
	}
	res := apply(t, in)
	if !res.Changed || len(res.Findings) != 0 || res.Outputs["minio.access_key_id"] != "spacelift" {
		t.Fatalf("%+v", res)
	}
	path := res.Outputs["minio.secret_key_file"].(string)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.TrimSpace(string(raw))
	if secret != f.secrets["spacelift"] || len(secret) != 40 || f.attached["spacelift"] != "spacelift" {
		t.Errorf("the file has %q, the server %q", secret, f.secrets["spacelift"])
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi, err)
	}
	if fi, err := os.Stat(in.Secrets); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", fi, err)
	}
	if entries, err := os.ReadDir(in.Secrets); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
	if shown, _ := json.Marshal(res); strings.Contains(string(shown), secret) {
		t.Error("the result holds the new secret")
	}
	before := f.changes
	if c, err := (Action{}).Plan(t.Context(), in); err != nil || !c.Nothing {
		t.Errorf("again: %+v, %v", c, err)
	}
	if res := apply(t, in); res.Changed || f.changes != before {
		t.Errorf("again: %+v", res)
	}
}

func TestCredentialsGoOn(t *testing.T) {
	for name, spoil := range map[string]func(*fake){
		"user lost":   func(f *fake) { delete(f.secrets, "spacelift") },
		"policy lost": func(f *fake) { delete(f.policies, "spacelift") },
		"policy widened": func(f *fake) {
			f.policies["spacelift"] = `{"Statement":[{"Effect":"Allow","Action":["s3:*"],"Resource":["arn:aws:s3:::*"]}]}`
		},
		"policy detached": func(f *fake) { f.attached["spacelift"] = "" },
		"more attached":   func(f *fake) { f.attached["spacelift"] = "spacelift,consoleAdmin" },
	} {
		f, endpoint := newFake(t)
		in := input(t, endpoint)
		apply(t, in)
		secret := f.secrets["spacelift"]
		spoil(f)
		if c, err := (Action{}).Plan(t.Context(), in); err != nil || c.Nothing {
			t.Errorf("%s: planned %+v, %v", name, c, err)
		}
		if res := apply(t, in); !res.Changed || len(res.Findings) != 0 || f.secrets["spacelift"] != secret || f.attached["spacelift"] != "spacelift" {
			t.Errorf("%s: %+v, %v", name, res, f)
		}
	}
}

func TestCredentialsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*fake, map[string]any)
		code  string
		says  string
	}{
		"file lost":  {func(f *fake, _ map[string]any) { f.secrets["spacelift"] = "unknown here" }, "MIN-02", "minio-spacelift.key"},
		"no admin":   {func(f *fake, _ map[string]any) { f.deny = true }, "MIN-01", "AccessDenied"},
		"wrong key":  {func(_ *fake, w map[string]any) { w["admin_access_key"] = "someone" }, "MIN-01", "InvalidAccessKeyId"},
		"not MinIO":  {func(f *fake, _ map[string]any) { f.html = true }, "MIN-01", "404"},
		"sees all":   {func(f *fake, _ map[string]any) { f.open = true }, "MIN-03", "not its own"},
		"scheme":     {func(_ *fake, w map[string]any) { w["endpoint"] = "http://minio:9000" }, "OBJ-08", "http://minio:9000"},
		"no secret":  {func(_ *fake, w map[string]any) { w["admin_secret_key"] = "" }, "OBJ-20", "administrator"},
		"bad bucket": {func(_ *fake, w map[string]any) { w["buckets"] = []any{"states", "a b"} }, "OBJ-10", "space"},
		"no server":  {func(_ *fake, w map[string]any) { w["endpoint"] = "127.0.0.1:1" }, "OBJ-18", "refused"},
	} {
		f, endpoint := newFake(t)
		in := input(t, endpoint)
		c.spoil(f, in.With)
		res := apply(t, in)
		text, _ := json.Marshal(res.Findings)
		if len(res.Findings) != 1 || res.Findings[0].Code != c.code || !strings.Contains(string(text), c.says) {
			t.Errorf("%s: %s, want %s with %q", name, text, c.code, c.says)
		}
		if c.code == "MIN-02" && f.secrets["spacelift"] != "unknown here" {
			t.Error("an existing user got another secret")
		}
	}
}

func TestCredentialsArguments(t *testing.T) {
	_, endpoint := newFake(t)
	for name, spoil := range map[string]func(*install.Input){
		"name":       func(in *install.Input) { in.With["name"] = "a/b" },
		"no buckets": func(in *install.Input) { in.With["buckets"] = []any{} },
		"key":        func(in *install.Input) { in.With["bucket"] = "x" },
		"no dir":     func(in *install.Input) { in.Secrets = "" },
		"ca":         func(in *install.Input) { in.With["ca"] = "/nonexistent" },
	} {
		in := input(t, endpoint)
		spoil(&in)
		if _, err := (Action{}).Apply(t.Context(), in); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestKeyFileIsNeverOverwritten(t *testing.T) {
	k := keyFile{dir: filepath.Join(t.TempDir(), "s"), name: "k"}
	if err := k.create("first"); err != nil {
		t.Fatal(err)
	}
	if err := k.create("second"); err == nil {
		t.Error("a second key is written over the first")
	}
	if got, err := k.read(); err != nil || got != "first" {
		t.Errorf("%q, %v", got, err)
	}
	if entries, _ := os.ReadDir(k.dir); len(entries) != 1 {
		t.Errorf("left: %v", entries)
	}
}
