package csr

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
)

func input(dir string, more map[string]any) install.Input {
	with := map[string]any{"name": "pool-main", "subject": "main", "bits": 2048, "prefix": "pool"}
	maps.Copy(with, more)
	return install.Input{With: with, Secrets: dir}
}

func TestMake(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secrets")
	if c, err := (Action{}).Plan(t.Context(), input(dir, nil)); err != nil || c.Nothing {
		t.Fatalf("plan %+v, error %v", c, err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Fatal("the plan made something")
	}
	res, err := Action{}.Apply(t.Context(), input(dir, nil))
	if err != nil || !res.Changed || len(res.Findings) > 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	keyPath := res.Outputs["pool.key_file"].(string)
	key, err := os.ReadFile(keyPath)
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(keyPath); err != nil || fi.Mode() != 0o600 {
		t.Errorf("the key has mode %v: %v", fi.Mode(), err)
	}
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %v: %v", fi.Mode(), err)
	}
	text, err := base64.StdEncoding.DecodeString(res.Outputs["pool.csr"].(string))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || csr.CheckSignature() != nil || csr.Subject.CommonName != "main" {
		t.Errorf("request %+v, %v", csr, err)
	}
	raw, err := json.Marshal(res)
	if err != nil || strings.Contains(string(raw), "PRIVATE KEY") {
		t.Errorf("the result shows the key: %s", raw)
	}

	// Again: the same key, the same request, nothing to do.
	if c, err := (Action{}).Plan(t.Context(), input(dir, nil)); err != nil || !c.Nothing {
		t.Errorf("plan after it %+v, %v", c, err)
	}
	again, err := Action{}.Apply(t.Context(), input(dir, nil))
	if err != nil || again.Changed || again.Outputs["pool.csr"] != res.Outputs["pool.csr"] {
		t.Errorf("%+v, %v", again, err)
	}
	// A run that died between the two files makes the second one.
	if err := os.Remove(res.Outputs["pool.csr_file"].(string)); err != nil {
		t.Fatal(err)
	}
	again, err = Action{}.Apply(t.Context(), input(dir, nil))
	if err != nil || !again.Changed || again.Outputs["pool.csr"] != res.Outputs["pool.csr"] {
		t.Errorf("%+v, %v", again, err)
	}
	if have, err := os.ReadFile(keyPath); err != nil || string(have) != string(key) {
		t.Errorf("the key was replaced: %v", err)
	}
}

func TestKeyThatIsThere(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pool-main.key")
	for name, content := range map[string]string{
		"nothing": "", "text": "hunter2", "another kind": "-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		res, err := Action{}.Apply(t.Context(), input(dir, nil))
		if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != codeKey || res.Findings[0].Fields["file"] != path {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
		if have, err := os.ReadFile(path); err != nil || string(have) != content {
			t.Errorf("%s: the file was changed", name)
		}
	}
	// One that is too short.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := (Action{}).Apply(t.Context(), input(dir, nil)); err != nil {
		t.Fatal(err)
	}
	res, err := Action{}.Apply(t.Context(), input(dir, map[string]any{"bits": 3072}))
	if err != nil || len(res.Findings) != 1 || !strings.Contains(res.Findings[0].Detail, "3072") {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestArguments(t *testing.T) {
	for _, more := range []map[string]any{{"bits": 1024}, {"bits": 100000}, {"name": "../x"}, {"name": ""}, {"size": 1}} {
		if _, err := (Action{}).Apply(t.Context(), input(t.TempDir(), more)); err == nil {
			t.Errorf("%v is accepted", more)
		}
	}
	// Without a directory there is no key somewhere else.
	if res, err := (Action{}).Apply(t.Context(), input("", nil)); err != nil || len(res.Findings) != 1 || len(res.Outputs) > 0 {
		t.Errorf("%+v, %v", res, err)
	}
}
