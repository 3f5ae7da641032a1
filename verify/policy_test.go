package verify_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/airlock-project/airlock/testdata/fixture"
	"github.com/airlock-project/airlock/verify"
	"github.com/airlock-project/airlock/verify/sign"
	"github.com/google/go-cmp/cmp"
	"github.com/sigstore/cosign/v2/pkg/cosign"
)

// keys are three signers whose public halves lie in one directory.
type keys struct {
	dir string
	key map[string]*sign.Key
}

func newKeys(t *testing.T, names ...string) keys {
	t.Helper()
	k := keys{dir: t.TempDir(), key: map[string]*sign.Key{}}
	for _, n := range names {
		key, pub := fixture.Key(t)
		k.key[n] = key
		if err := os.WriteFile(filepath.Join(k.dir, n+".pub"), read(t, pub), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

// policy writes and loads a policy: signers as "name role key", requirements as "role n".
func (k keys) policy(t *testing.T, signers, require []string, more string) *verify.Policy {
	t.Helper()
	var b strings.Builder
	b.WriteString("apiVersion: airlock/v1\nkind: Policy\nsigners:\n")
	for _, s := range signers {
		f := strings.Fields(s)
		fmt.Fprintf(&b, "  - name: %s\n    role: %s\n    key: file:%s.pub\n", f[0], f[1], f[2])
	}
	b.WriteString("require:\n")
	for _, s := range require {
		f := strings.Fields(s)
		fmt.Fprintf(&b, "  - role: %s\n    atLeast: %s\n", f[0], f[1])
	}
	b.WriteString(more)
	path := filepath.Join(t.TempDir(), "policy.yaml")
	for name := range k.key {
		if err := os.WriteFile(filepath.Join(filepath.Dir(path), name+".pub"), read(t, filepath.Join(k.dir, name+".pub")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := verify.LoadPolicy(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// signed makes a bundle signed by some of the keys.
func (k keys) signed(t *testing.T, info func(*bundle.Info), by ...string) string {
	t.Helper()
	spool := fixture.Spool(t)
	i := fixture.Info()
	if info != nil {
		info(&i)
	}
	p, err := bundle.Resolve(t.Context(), bundle.ResolveOptions{Info: i, Sources: []bundle.Source{image(t, spool, "example.com/a:1", 1, 1000)}, Created: fixture.Epoch, Spool: spool})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "b.tar.zst")
	_, err = bundle.Create(t.Context(), p, bundle.CreateOptions{Output: path, Sign: func(_ context.Context, index []byte) (out []archive.Signature, err error) {
		for _, n := range by {
			sig, err := k.key[n].Blob(index)
			if err != nil {
				return nil, err
			}
			out = append(out, archive.Signature{Name: n + ".sigstore.json", Data: sig})
		}
		return out, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestThresholds(t *testing.T) {
	k := newKeys(t, "a", "b", "c")
	for _, tt := range []struct {
		name    string
		signers []string
		require []string
		by      []string
		want    []string // names of the decision; nil: refused
	}{
		{"one of one", []string{"ann vendor a"}, []string{"vendor 1"}, []string{"a"}, []string{"ann"}},
		{"another key", []string{"ann vendor a"}, []string{"vendor 1"}, []string{"b"}, nil},
		{"two roles", []string{"ann vendor a", "bob security b"}, []string{"vendor 1", "security 1"}, []string{"b", "a"}, []string{"ann", "bob"}},
		{"one role lacks", []string{"ann vendor a", "bob security b"}, []string{"vendor 1", "security 1"}, []string{"a", "c"}, nil},
		{"two of three", []string{"ann vendor a", "bob vendor b", "cid vendor c"}, []string{"vendor 2"}, []string{"c", "a"}, []string{"ann", "cid"}},
		{"one of three is not two", []string{"ann vendor a", "bob vendor b", "cid vendor c"}, []string{"vendor 2"}, []string{"c"}, nil},
		{"same signature twice", []string{"ann vendor a", "bob vendor b"}, []string{"vendor 2"}, []string{"a"}, nil},
		{"same key under two names", []string{"ann vendor a", "eve vendor a"}, []string{"vendor 2"}, []string{"a"}, nil},
		{"two keys under two names and one twice", []string{"ann vendor a", "eve vendor a", "bob vendor b"}, []string{"vendor 2"}, []string{"a", "b"}, []string{"ann", "eve", "bob"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := k.policy(t, tt.signers, tt.require, "")
			b, err := verify.Open(t.Context(), k.signed(t, nil, tt.by...), p, verify.Options{})
			if tt.want == nil {
				if ue, ok := errors.AsType[*verify.UntrustedError](err); !ok || len(ue.Reasons) != len(tt.by) {
					t.Fatalf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			var got []string
			for _, s := range b.Decision().Signers {
				got = append(got, s.Name)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("signers (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNoPolicy(t *testing.T) {
	k := newKeys(t, "a")
	path := k.signed(t, nil, "a")
	for _, p := range []*verify.Policy{nil, {}} {
		_, err := verify.Open(t.Context(), path, p, verify.Options{})
		if _, ok := errors.AsType[*verify.NoPolicyError](err); !ok {
			t.Errorf("open: %v", err)
		}
		_, _, err = verify.Stream(t.Context(), strings.NewReader(""), nil, p, verify.Options{}, nil)
		if _, ok := errors.AsType[*verify.NoPolicyError](err); !ok {
			t.Errorf("stream: %v", err)
		}
	}
	var zero verify.Bundle
	if err := zero.VerifyAll(t.Context(), nil); err == nil {
		t.Error("the zero Bundle verifies")
	}
	if _, err := zero.Fetch(t.Context(), bundle.EmptyConfig()); err == nil {
		t.Error("the zero Bundle fetches")
	}
	if _, err := zero.Exists(t.Context(), bundle.EmptyConfig()); err == nil {
		t.Error("the zero Bundle knows what exists")
	}
	if _, err := zero.Predecessors(t.Context(), bundle.EmptyConfig()); err == nil {
		t.Error("the zero Bundle knows predecessors")
	}
	for _, err := range zero.Items() {
		if err == nil {
			t.Error("the zero Bundle has items")
		}
	}
}

// TestConditions holds what the signed index demands against the facts.
func TestConditions(t *testing.T) {
	k := newKeys(t, "a")
	one := []string{"ann vendor a"}
	need := []string{"vendor 1"}
	day := 24 * time.Hour
	for _, tt := range []struct {
		name string
		more string // of the policy
		info func(*bundle.Info)
		o    verify.Options
		rule string // "" is accepted
	}{
		{"product", "products: [demo]\n", nil, verify.Options{}, ""},
		{"other product", "products: [other, demo2]\n", nil, verify.Options{}, "product"},
		{"policy floor", "release:\n  atLeast: 7\n", nil, verify.Options{}, ""},
		{"below policy floor", "release:\n  atLeast: 8\n", nil, verify.Options{Floor: 1}, "release"},
		{"below site floor", "release:\n  atLeast: 1\n", nil, verify.Options{Floor: 8}, "release"},
		{"not expired", "", func(i *bundle.Info) { i.Expires = fixture.Epoch }, verify.Options{Now: fixture.Epoch}, ""},
		{"expired", "", func(i *bundle.Info) { i.Expires = fixture.Epoch }, verify.Options{Now: fixture.Epoch.Add(time.Second)}, "expired"},
		{"expired now", "", func(i *bundle.Info) { i.Expires = time.Now().Add(-day) }, verify.Options{}, "expired"},
		{"audience", "", func(i *bundle.Info) { i.Audience = []string{"north", "south"} }, verify.Options{Site: "south"}, ""},
		{"other site", "", func(i *bundle.Info) { i.Audience = []string{"north", "south"} }, verify.Options{Site: "sou"}, "audience"},
		{"no site", "", func(i *bundle.Info) { i.Audience = []string{"north"} }, verify.Options{}, "audience"},
		{"any site", "", func(i *bundle.Info) { i.Audience = []string{"north"} }, verify.Options{AnySite: true}, ""},
		{"tool", "", func(i *bundle.Info) { i.MinTool = "v1.2.0" }, verify.Options{Version: "v1.10.0"}, ""},
		{"tool too old", "", func(i *bundle.Info) { i.MinTool = "v1.2.0" }, verify.Options{Version: "v1.2.0-rc.1"}, "tool"},
		{"tool in development", "", func(i *bundle.Info) { i.MinTool = "v1.2.0" }, verify.Options{Version: "devel"}, "tool"},
		{"tool unknown", "", func(i *bundle.Info) { i.MinTool = "1.2.0" }, verify.Options{}, "tool"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := verify.Open(t.Context(), k.signed(t, tt.info, "a"), k.policy(t, one, need, tt.more), tt.o)
			if err == nil {
				b.Close()
			}
			re, ok := errors.AsType[*verify.RefusedError](err)
			if ok != (tt.rule != "") || ok && re.Rule != tt.rule || !ok && err != nil {
				t.Errorf("want rule %q, got %v", tt.rule, err)
			}
		})
	}
}

// TestSidecars: signatures beside the file count; whatever else lies there
// hinders nothing.
func TestSidecars(t *testing.T) {
	k := newKeys(t, "a", "b")
	p := k.policy(t, []string{"ann vendor a", "bob security b"}, []string{"vendor 1", "security 1"}, "")
	path := k.signed(t, nil, "a")
	f, err := bundle.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	index := f.Head().Index
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	sig, err := k.key["b"].Blob(index)
	if err != nil {
		t.Fatal(err)
	}
	lay := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(path+name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	lay(".malformed.sigstore.json", []byte("{"))
	lay(".large.sigstore.json", make([]byte, archive.MaxSignature+1))
	if err := os.Mkdir(path+".dir.sigstore.json", 0o755); err != nil {
		t.Fatal(err)
	}
	lay("x.sigstore.json", sig)  // beside another file
	lay(".bsigstore.json", sig)  // not the pattern
	lay(".sigstore.json.x", sig) // not the pattern
	_, err = verify.Open(t.Context(), path, p, verify.Options{})
	if ue, ok := errors.AsType[*verify.UntrustedError](err); !ok || len(ue.Reasons) != 4 {
		t.Fatalf("without the countersignature: %v", err)
	}
	lay(".bob.sigstore.json", sig)
	b, err := verify.Open(t.Context(), path, p, verify.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	for i := range archive.MaxSignatures {
		lay(fmt.Sprintf(".%d.sigstore.json", i), sig)
	}
	if _, err := verify.Open(t.Context(), path, p, verify.Options{}); !errors.Is(err, archive.ErrLimit) {
		t.Errorf("too many: %v", err)
	}
}

// imported writes a private key as cosign's import-key-pair does.
func imported(t *testing.T, key crypto.Signer) (private, public string, err error) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain.pem")
	if err := os.WriteFile(plain, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	private, public = filepath.Join(dir, "k.key"), filepath.Join(dir, "k.pub")
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}), 0o644); err != nil {
		t.Fatal(err)
	}
	kb, err := cosign.ImportKeyPair(plain, func(bool) ([]byte, error) { return []byte("secret"), nil })
	if err != nil {
		return "", public, err
	}
	if err := os.WriteFile(private, kb.PrivateBytes, 0o600); err != nil {
		t.Fatal(err)
	}
	return private, public, nil
}

func secret() ([]byte, error) { return []byte("secret"), nil }

func TestKeyKinds(t *testing.T) {
	ec := func(c elliptic.Curve) crypto.Signer {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	rs := func(bits int) crypto.Signer {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		key  crypto.Signer
		ok   bool
	}{
		{"P-256", ec(elliptic.P256()), true},
		{"P-384", ec(elliptic.P384()), true},
		{"RSA-3072", rs(3072), true},
		{"P-521", ec(elliptic.P521()), false},
		{"RSA-2048", rs(2048), false},
		{"Ed25519", ed, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			private, public, err := imported(t, tt.key)
			if !tt.ok {
				if _, kerr := verify.KeyPolicy(public); !isKeyError(kerr) {
					t.Errorf("policy: %v", kerr)
				}
				if err != nil {
					t.Fatalf("cosign does not import it, so nothing proves that sign refuses it: %v", err)
				}
				_, err := sign.LoadKey(private, secret)
				if _, ok := errors.AsType[*sign.KeyError](err); !ok {
					t.Errorf("sign: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			k, err := sign.LoadKey(private, secret)
			if err != nil {
				t.Fatal(err)
			}
			p := policy(t, public)
			data := []byte("index")
			sig, err := k.Blob(data)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.CheckBlob(data, sig); err != nil {
				t.Error(err)
			}
			if err := p.CheckBlob([]byte("other"), sig); !isUntrusted(err) {
				t.Errorf("other content: %v", err)
			}
			if err := p.CheckBlob(data, otherDigest(t, sig)); !isUntrusted(err) {
				t.Errorf("SHA-384: %v", err)
			}
			if p.Signers()[0].Fingerprint != k.Fingerprint() {
				t.Error("fingerprints differ")
			}
		})
	}
}

func isKeyError(err error) bool { _, ok := errors.AsType[*verify.KeyError](err); return ok }

func isUntrusted(err error) bool { _, ok := errors.AsType[*verify.UntrustedError](err); return ok }

// otherDigest makes a signature say that its digest is SHA-384.
func otherDigest(t *testing.T, sig []byte) []byte {
	t.Helper()
	var b map[string]any
	if err := json.Unmarshal(sig, &b); err != nil {
		t.Fatal(err)
	}
	b["messageSignature"].(map[string]any)["messageDigest"].(map[string]any)["algorithm"] = "SHA2_384"
	out, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestLoadKeyRefuses(t *testing.T) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, public, err := imported(t, k)
	if err != nil {
		t.Fatal(err)
	}
	_, err = sign.LoadKey(private, func() ([]byte, error) { return []byte("wrong"), nil })
	if _, ok := errors.AsType[*sign.PasswordError](err); !ok || strings.Contains(err.Error(), "wrong\"") {
		t.Errorf("wrong password: %v", err)
	}
	asked := errors.New("asked")
	for _, name := range []string{public, filepath.Join(filepath.Dir(private), "plain.pem")} {
		_, err := sign.LoadKey(name, func() ([]byte, error) { return nil, asked })
		if _, ok := errors.AsType[*sign.KeyError](err); !ok {
			t.Errorf("%s: %v", filepath.Base(name), err)
		}
	}
	if _, err := sign.LoadKey(private, func() ([]byte, error) { return nil, asked }); !errors.Is(err, asked) {
		t.Errorf("no password: %v", err)
	}
	for _, name := range []string{private, filepath.Join(filepath.Dir(private), "plain.pem")} {
		if _, err := verify.KeyPolicy(name); !isKeyError(err) {
			t.Errorf("private key as policy: %v", err)
		}
	}
}

func FuzzCheckBlob(f *testing.F) {
	k, pub := fixture.Key(f)
	p, err := verify.KeyPolicy(pub)
	if err != nil {
		f.Fatal(err)
	}
	data := []byte("index")
	sig, err := k.Blob(data)
	if err != nil {
		f.Fatal(err)
	}
	if err := p.CheckBlob(data, sig); err != nil {
		f.Fatal(err)
	}
	f.Add(sig)
	f.Fuzz(func(t *testing.T, sig []byte) {
		if err := p.CheckBlob([]byte("other"), sig); !isUntrusted(err) {
			t.Fatalf("%T %v", err, err)
		}
	})
}
