package rsakey

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/airlock-project/airlock/install"
)

// testKeys are two small keys for all tests.
var testKeys = sync.OnceValue(func() [2]*rsa.PrivateKey {
	var out [2]*rsa.PrivateKey
	for i := range out {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		out[i] = k
	}
	return out
})

func pkcs8(k any) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func pkcs1(k *rsa.PrivateKey) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)})
}

func line(text []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(text)) }

// fold breaks base64 as base64(1) does without -w 0.
func fold(b []byte) []byte {
	var out []byte
	for len(b) > 76 {
		out, b = append(append(out, b[:76]...), '\n'), b[76:]
	}
	return append(append(out, b...), '\n')
}

func spki(k *rsa.PrivateKey) string {
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

func write(t *testing.T, data []byte, mode os.FileMode) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(name, data, mode); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestProbe(t *testing.T) {
	k := testKeys()[0]
	good := pkcs8(k)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	broken := *k
	broken.Primes = testKeys()[1].Primes
	locked := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}, Bytes: []byte{1}})
	for name, c := range map[string]struct {
		data []byte
		mode os.FileMode
		more map[string]any
		code string
		says string
	}{
		"good":          {line(good), 0o600, nil, "", ""},
		"line end":      {append(line(good), '\n'), 0o600, nil, "", ""},
		"any size":      {line(good), 0o600, map[string]any{"bits": int64(0)}, "", ""},
		"its own":       {line(good), 0o600, map[string]any{"fingerprint": strings.ToUpper(spki(k))}, "", ""},
		"wrapped":       {fold(line(good)), 0o600, nil, "RSA-01", "line breaks"},
		"no base64":     {[]byte("%%%"), 0o600, nil, "RSA-01", "not base64"},
		"empty":         {nil, 0o600, nil, "RSA-01", "not base64"},
		"bare PEM":      {good, 0o600, nil, "RSA-01", "PEM"},
		"passphrase":    {line(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{1}})), 0o600, nil, "RSA-02", "passphrase"},
		"old form":      {line(locked), 0o600, nil, "RSA-02", "passphrase"},
		"too small":     {line(good), 0o600, map[string]any{"bits": int64(4096)}, "RSA-03", "2048 bits, 4096"},
		"another":       {line(good), 0o600, map[string]any{"fingerprint": spki(testKeys()[1])}, "RSA-04", "fingerprint"},
		"two blocks":    {line(append(good, good...)), 0o600, nil, "RSA-05", "more than one"},
		"text before":   {line(append([]byte("key:\n"), good...)), 0o600, nil, "RSA-05", "before"},
		"no PEM":        {line([]byte("hello")), 0o600, nil, "RSA-05", "no PEM"},
		"elliptic":      {line(pkcs8(ec)), 0o600, nil, "RSA-05", "not an RSA key"},
		"a certificate": {line(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}})), 0o600, nil, "RSA-05", "CERTIFICATE"},
		"damaged":       {line(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1, 2}})), 0o600, nil, "RSA-05", "PKCS#8"},
		"foreign prime": {line(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(&broken)})), 0o600, nil, "RSA-05", ""},
		"PKCS#1":        {line(pkcs1(k)), 0o600, nil, "RSA-06", "PKCS#1"},
		"open to all":   {line(good), 0o644, nil, "RSA-07", "0644"},
		"too large":     {make([]byte, maxFile+1), 0o600, nil, "RSA-05", "larger"},
	} {
		with := map[string]any{"file": write(t, c.data, c.mode), "bits": int64(2048)}
		maps.Copy(with, c.more)
		res, err := Probe{}.Run(t.Context(), install.Input{With: with})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		check(t, name, res, c.code, c.says)
		if len(c.data) > 200 {
			if text := fmt.Sprintf("%+v", res); strings.Contains(text, string(c.data[100:140])) {
				t.Errorf("%s: the key shows in %s", name, text)
			}
		}
	}
	missing, err := Probe{}.Run(t.Context(), install.Input{With: map[string]any{"file": "/nowhere/key", "codes": map[string]any{"RSA-05": "ENC-08"}}})
	if err != nil {
		t.Fatal(err)
	}
	check(t, "missing", missing, "ENC-08", "no such file")
}

func check(t *testing.T, name string, res install.Result, code, says string) {
	t.Helper()
	switch {
	case code == "" && len(res.Findings) > 0:
		t.Errorf("%s: %+v", name, res.Findings)
	case code != "" && (len(res.Findings) != 1 || res.Findings[0].Code != code || !strings.Contains(res.Findings[0].Detail, says)):
		t.Errorf("%s: %+v, want %s %q", name, res.Findings, code, says)
	}
}

func apply(t *testing.T, dir string, more map[string]any) install.Result {
	t.Helper()
	with := map[string]any{"name": "enc", "bits": int64(2048)}
	maps.Copy(with, more)
	res, err := Action{}.Apply(t.Context(), install.Input{With: with, Secrets: dir})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func plan(t *testing.T, dir string, more map[string]any) install.Change {
	t.Helper()
	with := map[string]any{"name": "enc", "bits": int64(2048)}
	maps.Copy(with, more)
	c, err := Action{}.Plan(t.Context(), install.Input{With: with, Secrets: dir})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestMakes makes a key, finds it again, and refuses to replace it.
func TestMakes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secrets")
	if c := plan(t, dir, nil); c.Nothing || !strings.Contains(c.Summary, "make an RSA key of 2048 bits") {
		t.Errorf("plan: %+v", c)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("planning made the directory")
	}
	first := apply(t, dir, nil)
	check(t, "made", first, "", "")
	file := filepath.Join(dir, "enc.key.b64")
	if first.Outputs["enc.key_file"] != file || !first.Changed {
		t.Errorf("%+v", first)
	}
	for name, mode := range map[string]os.FileMode{dir: 0o700 | os.ModeDir, file: 0o600} {
		if st, err := os.Stat(name); err != nil || st.Mode() != mode {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
	proven, err := Probe{}.Run(t.Context(), install.Input{With: map[string]any{"file": file, "bits": int64(2048), "fingerprint": first.Outputs["enc.key_fingerprint"]}})
	if err != nil {
		t.Fatal(err)
	}
	check(t, "proven", proven, "", "")
	if c := plan(t, dir, nil); !c.Nothing {
		t.Errorf("plan: %+v", c)
	}
	if again := apply(t, dir, nil); again.Changed || again.Outputs["enc.key_fingerprint"] != first.Outputs["enc.key_fingerprint"] {
		t.Errorf("%+v", again)
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	other := write(t, pkcs8(testKeys()[0]), 0o600)
	check(t, "another is given", apply(t, dir, map[string]any{"file": other}), "RSA-04", "fingerprint")
	check(t, "another is in use", apply(t, dir, map[string]any{"fingerprint": spki(testKeys()[1])}), "RSA-04", "fingerprint")
	if after, err := os.ReadFile(file); err != nil || string(after) != string(before) {
		t.Errorf("the key was touched: %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	check(t, "gone", apply(t, dir, nil), "RSA-04", "the key is gone")
	if _, err := os.Stat(file); err == nil {
		t.Error("a new key took the place of a lost one")
	}
}

// TestTakesOver takes a given key over, in the form that the product takes.
func TestTakesOver(t *testing.T) {
	k := testKeys()[0]
	for name, data := range map[string][]byte{"PEM": pkcs8(k), "base64": append(line(pkcs8(k)), '\n')} {
		dir, given := t.TempDir(), map[string]any{"file": write(t, data, 0o600)}
		if c := plan(t, dir, given); c.Nothing || !strings.Contains(c.Summary, "take") {
			t.Errorf("%s: %+v", name, c)
		}
		res := apply(t, dir, given)
		check(t, name, res, "", "")
		kept, err := os.ReadFile(filepath.Join(dir, "enc.key.b64"))
		if err != nil || string(kept) != string(line(pkcs8(k))) || res.Outputs["enc.key_fingerprint"] != spki(k) {
			t.Errorf("%s: %d bytes, %v, %+v", name, len(kept), err, res.Outputs)
		}
		if c := plan(t, dir, given); !c.Nothing {
			t.Errorf("%s: %+v", name, c)
		}
	}
	dir := t.TempDir()
	check(t, "in use", apply(t, dir, map[string]any{"file": write(t, pkcs8(k), 0o600), "fingerprint": spki(testKeys()[1])}), "RSA-04", "fingerprint")
	check(t, "lost", apply(t, dir, map[string]any{"fingerprint": spki(testKeys()[1])}), "RSA-04", "gone")
	check(t, "wrapped", apply(t, dir, map[string]any{"file": write(t, fold(line(pkcs8(k))), 0o600)}), "RSA-01", "line breaks")
	check(t, "small", apply(t, dir, map[string]any{"file": write(t, pkcs8(k), 0o600), "bits": int64(4096)}), "RSA-03", "2048")
	if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
		t.Errorf("refused keys left %v, %v", names, err)
	}
	check(t, "PKCS#1", apply(t, dir, map[string]any{"file": write(t, pkcs1(k), 0o600)}), "RSA-06", "PKCS#1")
}

// TestCrash starts again where an earlier process died: with half a file, and
// with a key whose fingerprint was not recorded yet.
func TestCrash(t *testing.T) {
	dir := t.TempDir()
	for name, data := range map[string]string{".enc.key.b64.partial": "half", "enc.key.b64": string(line(pkcs8(testKeys()[0])))} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if c := plan(t, dir, nil); c.Nothing || !strings.Contains(c.Summary, "record the fingerprint") {
		t.Errorf("plan: %+v", c)
	}
	if res := apply(t, dir, nil); res.Outputs["enc.key_fingerprint"] != spki(testKeys()[0]) {
		t.Errorf("%+v", res)
	}
	if recorded, err := os.ReadFile(filepath.Join(dir, "enc.key.sha256")); err != nil || string(recorded) != spki(testKeys()[0])+"\n" {
		t.Errorf("%q, %v", recorded, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "enc.key.b64"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	check(t, "damaged", apply(t, dir, nil), "RSA-01", "not base64")
}

func TestArguments(t *testing.T) {
	dir := t.TempDir()
	for _, with := range []map[string]any{
		{"name": "../x"},
		{"name": ""},
		{"bits": int64(512)},
		{"bits": int64(1 << 20)},
		{"fingerprint": "abc"},
		{"fingerprint": "ab"},
		{"codes": map[string]any{"ENC-01": "RSA-01"}},
		{"fle": "x"},
	} {
		if _, err := (Action{}).Apply(t.Context(), install.Input{With: with, Secrets: dir}); err == nil {
			t.Errorf("%v is accepted", with)
		}
	}
	if _, err := (Action{}).Apply(t.Context(), install.Input{With: map[string]any{}}); err == nil {
		t.Error("no directory is accepted")
	}
	for _, with := range []map[string]any{{}, {"file": "x", "bits": int64(1)}, {"file": "x", "fingerprint": "x"}, {"file": "x", "codes": map[string]any{"A": "B"}}} {
		if _, err := (Probe{}).Run(t.Context(), install.Input{With: with}); err == nil {
			t.Errorf("%v is accepted", with)
		}
	}
}
