package render

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
)

func authorityPEM(t *testing.T, name string, ca bool, until time.Time) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: ca, BasicConstraintsValid: true,
		NotBefore: until.Add(-48 * time.Hour), NotAfter: until,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func put(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRender(t *testing.T) {
	dir := t.TempDir()
	secrets := filepath.Join(dir, "secrets")
	if err := os.Mkdir(secrets, 0o700); err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(secrets, "token")
	if err := os.WriteFile(token, []byte("hunter2hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	in := install.Input{Render: filepath.Join(dir, "render"), Secrets: secrets, With: map[string]any{
		"data": map[string]any{"image": "registry.example/runner:v1", "pool": "main"},
		"read": map[string]any{"token": token},
		"files": []any{
			map[string]any{"name": "worker/spacelift-worker.service", "mode": "0644", "template": "[Service]\nEnvironment=IMAGE={{.image}}\n", "output": "unit"},
			map[string]any{"name": "worker.env", "secret": true, "template": "TOKEN={{.token}}\nKEY={{base64 .token}}\n", "output": "env"},
		},
	}}
	if c, err := (Action{}).Plan(t.Context(), in); err != nil || c.Nothing || len(c.Details) != 2 {
		t.Fatalf("plan %+v, %v", c, err)
	}
	res, err := Action{}.Apply(t.Context(), in)
	if err != nil || !res.Changed {
		t.Fatalf("%+v, %v", res, err)
	}
	unit, env := res.Outputs["unit"].(string), res.Outputs["env"].(string)
	for path, want := range map[string]string{
		unit: "[Service]\nEnvironment=IMAGE=registry.example/runner:v1\n",
		env:  "TOKEN=hunter2hunter2\nKEY=" + base64.StdEncoding.EncodeToString([]byte("hunter2hunter2")) + "\n",
	} {
		if have, err := os.ReadFile(path); err != nil || string(have) != want {
			t.Errorf("%s holds %q: %v", path, have, err)
		}
	}
	for path, want := range map[string]os.FileMode{unit: 0o644, env: 0o600} {
		if fi, err := os.Stat(path); err != nil || fi.Mode() != want {
			t.Errorf("%s has mode %v, want %v", path, fi.Mode(), want)
		}
	}
	if filepath.Dir(env) != secrets {
		t.Errorf("the file with secrets is %s", env)
	}
	raw, err := json.Marshal(res)
	if err != nil || strings.Contains(string(raw), "hunter2") {
		t.Errorf("a secret shows: %s", raw)
	}
	if c, err := (Action{}).Plan(t.Context(), in); err != nil || !c.Nothing {
		t.Errorf("plan after it %+v, %v", c, err)
	}
	if res, err = (Action{}).Apply(t.Context(), in); err != nil || res.Changed {
		t.Errorf("second time: %+v, %v", res, err)
	}
	// Somebody changed a file: it is made as it has to be.
	if err := os.WriteFile(unit, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if res, err = (Action{}).Apply(t.Context(), in); err != nil || !res.Changed {
		t.Errorf("after a change: %+v, %v", res, err)
	}
}

// TestAuthorities renders what a product reads its authorities from, and a
// bundle with the system's.
func TestAuthorities(t *testing.T) {
	good, system := authorityPEM(t, "Enclave CA", true, time.Now().Add(time.Hour)), authorityPEM(t, "System", true, time.Now().Add(time.Hour))
	files := []any{
		map[string]any{"name": "roots.txt", "encode": "base64", "template": `{"caCertificates":[{{range $i, $c := authorities .ca}}{{if $i}},{{end}}{{json (base64 $c)}}{{end}}]}`},
		map[string]any{"name": "bundle.pem", "mode": "0644", "template": "{{range certificates .system}}{{.}}{{end}}{{range authorities .ca}}{{.}}{{end}}"},
	}
	run := func(ca string) (install.Result, string, error) {
		dir := t.TempDir()
		res, err := Action{}.Apply(t.Context(), install.Input{Render: dir, Secrets: t.TempDir(), With: map[string]any{
			"files": files, "read": map[string]any{"ca": put(t, ca), "system": put(t, "# comment\n"+system)},
		}})
		return res, dir, err
	}
	res, dir, err := run(good + good)
	if err != nil || len(res.Findings) != 2 {
		t.Fatalf("%+v, %v", res, err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "roots.txt"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct{ CaCertificates []string }
	if err := json.Unmarshal(raw, &doc); err != nil || len(doc.CaCertificates) != 2 {
		t.Fatalf("%s: %v", raw, err)
	}
	if cert, err := base64.StdEncoding.DecodeString(doc.CaCertificates[0]); err != nil || string(cert) != good {
		t.Errorf("%s: %v", cert, err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "bundle.pem")); err != nil || string(b) != system+good+good {
		t.Errorf("bundle: %v", err)
	}
	for name, c := range map[string]struct{ ca, code, says string }{
		"a leaf":  {authorityPEM(t, "leaf", false, time.Now().Add(time.Hour)), codeRender, "CN=leaf is not an authority"},
		"expired": {authorityPEM(t, "Old CA", true, time.Now().Add(-time.Hour)), codeRender, "CN=Old CA has expired"},
		"no PEM":  {"hello", codeRender, "no PEM certificate"},
		"damaged": {"-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n", codeRender, "certificate 1 cannot be read"},
	} {
		res, dir, err := run(c.ca)
		if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != c.code || !strings.Contains(res.Findings[0].Detail, c.says) {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s: left %v, %v", name, left, err)
		}
	}
}

// TestSecretsStay shows what does not get into an open file.
func TestSecretsStay(t *testing.T) {
	secrets := t.TempDir()
	path := filepath.Join(secrets, "token")
	if err := os.WriteFile(path, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	key := put(t, "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n")
	for name, p := range map[string]string{"secret": path, "link to a secret": link, "private key": key} {
		res, err := Action{}.Apply(t.Context(), install.Input{Render: t.TempDir(), Secrets: secrets, With: map[string]any{
			"read": map[string]any{"x": p}, "files": []any{map[string]any{"name": "open", "template": "{{.x}}"}},
		}})
		if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != codeRender || strings.Contains(res.Findings[0].Detail, "hunter2") {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
	}
}

func TestArguments(t *testing.T) {
	one := func(f map[string]any) map[string]any { return map[string]any{"files": []any{f}} }
	for name, with := range map[string]map[string]any{
		"none": {}, "outside": one(map[string]any{"name": "../x", "template": ""}), "hidden": one(map[string]any{"name": ".x", "template": ""}),
		"open mode of a secret": one(map[string]any{"name": "x", "secret": true, "mode": "0644", "template": ""}),
		"wild mode":             one(map[string]any{"name": "x", "mode": "4755", "template": ""}),
		"encode":                one(map[string]any{"name": "x", "encode": "rot13", "template": ""}),
		"template":              one(map[string]any{"name": "x", "template": "{{"}),
		"unknown function":      one(map[string]any{"name": "x", "template": "{{env 1}}"}),
	} {
		if _, err := (Action{}).Apply(t.Context(), install.Input{Render: t.TempDir(), Secrets: t.TempDir(), With: with}); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	res, err := Action{}.Apply(t.Context(), install.Input{Render: t.TempDir(), With: map[string]any{
		"files": []any{map[string]any{"name": "x", "template": "a"}}, "read": map[string]any{"ca": "/nonexistent/ca"},
	}})
	if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != codeRead || res.Findings[0].Fields["file"] != "/nonexistent/ca" {
		t.Errorf("%+v, %v", res, err)
	}
	res, err = Action{}.Apply(t.Context(), install.Input{Render: t.TempDir(), With: one(map[string]any{"name": "x", "template": "{{.missing}}"})})
	if err != nil || len(res.Findings) != 1 || !strings.Contains(res.Findings[0].Detail, "missing") {
		t.Errorf("%+v, %v", res, err)
	}
}
