package rsakey

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/airlock-project/airlock/install"
)

// Action is crypto.rsa. Its zero value is ready; two calls at once must not
// share a directory of secrets.
type Action struct{}

// actionArguments are the step's with.
type actionArguments struct {
	Name        string  `json:"name"` // of the files, and what the outputs begin with
	File        string  `json:"file"` // a key that exists: PEM, or base64 of PEM on one line; without it one is made
	Bits        int     `json:"bits"`
	Fingerprint string  `json:"fingerprint"` // of the key that is in use already; "" if none is
	Codes       renamed `json:"codes"`
}

// Codes implements install.Coder.
func (Action) Codes() map[string][]string { return codes() }

// Grounds implements install.Grounder: a key in one directory says nothing of
// another.
func (Action) Grounds(in install.Input) any {
	dir, err := filepath.Abs(in.Secrets)
	if err != nil {
		dir = in.Secrets // no working directory: Apply says so
	}
	return map[string]any{"secrets": dir}
}

func decodeAction(in install.Input) (actionArguments, error) {
	a := actionArguments{Name: "rsa", Bits: defaultBits}
	if err := in.Decode(&a); err != nil {
		return a, err
	}
	if a.Name == "" || len(a.Name) > 64 || strings.Trim(a.Name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		return a, fmt.Errorf("name %q is not made of small letters, digits and _", a.Name)
	}
	var err error
	if a.Fingerprint, err = checkFingerprint(a.Fingerprint); err != nil {
		return a, err
	}
	return a, errors.Join(checkBits(a.Bits), a.Codes.check())
}

// Plan says whether a key would be made or taken over.
func (Action) Plan(_ context.Context, in install.Input) (install.Change, error) {
	a, err := decodeAction(in)
	if err != nil {
		return install.Change{}, err
	}
	st, err := look(in.Secrets, a)
	if err != nil {
		return install.Change{}, err
	}
	if st.finding != nil {
		return install.Change{}, errors.New(st.finding.Detail)
	}
	where := filepath.Join(in.Secrets, a.Name+suffixKey)
	switch {
	case st.have != nil && st.recorded != "":
		return install.Change{Summary: where + " holds the key", Nothing: true}, nil
	case st.have != nil:
		return install.Change{Summary: "record the fingerprint of " + where}, nil
	case a.File != "":
		return install.Change{Summary: fmt.Sprintf("take the key of %s over into %s", a.File, where)}, nil
	}
	return install.Change{Summary: fmt.Sprintf("make an RSA key of %d bits in %s", a.Bits, where)}, nil
}

// Apply makes the key, or takes the given one over, where there is none. Its
// outputs are NAME.key_file (a path; mode 0600) and NAME.key_fingerprint, the
// SHA-256 of the public key in hex.
func (Action) Apply(ctx context.Context, in install.Input) (install.Result, error) {
	a, err := decodeAction(in)
	if err != nil {
		return install.Result{}, err
	}
	if in.Secrets == "" {
		return install.Result{}, errors.New("no directory for secrets is given")
	}
	st, err := look(in.Secrets, a)
	if err != nil {
		return install.Result{}, err
	}
	if st.finding != nil {
		return install.Result{Findings: []install.Finding{*st.finding}}, nil
	}
	m, changed := st.have, false
	if m == nil {
		if m, changed = st.given, true; m == nil {
			if m, err = generate(a.Bits); err != nil {
				return install.Result{}, err
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return install.Result{}, err
	}
	got, err := m.fingerprint()
	if err != nil {
		return install.Result{}, err
	}
	if err := keep(in.Secrets, a.Name, m, got, st); err != nil {
		return install.Result{}, fmt.Errorf("write key %s: %w", a.Name, err)
	}
	file, err := filepath.Abs(filepath.Join(in.Secrets, a.Name+suffixKey))
	if err != nil {
		return install.Result{}, fmt.Errorf("write key %s: %w", a.Name, err)
	}
	return install.Result{
		Changed:  changed || st.recorded == "",
		Findings: m.judge(a.Codes, file, a.Bits),
		Outputs:  map[string]any{a.Name + ".key_file": file, a.Name + ".key_fingerprint": got},
	}, nil
}

// generate makes a key, as PKCS#8 without a password.
func generate(bits int) (*material, error) {
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, fmt.Errorf("make RSA key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, fmt.Errorf("encode RSA key: %w", err)
	}
	return &material{key: k, text: pem.EncodeToMemory(&pem.Block{Type: typePKCS8, Bytes: der})}, nil
}

// standing is how things are before a change.
type standing struct {
	have     *material // in the directory of secrets
	given    *material // in the file that the site names
	recorded string    // fingerprint, "" if there is none
	finding  *install.Finding
}

// look reads what is there and compares it with what should be.
func look(dir string, a actionArguments) (standing, error) {
	var st standing
	stop := func(f install.Finding) (standing, error) { st.finding = &f; return st, nil }
	if a.File != "" {
		raw, _, err := readKey(a.File)
		if err != nil {
			return stop(a.Codes.refused(a.File, &problem{codeUnusable, err.Error()}))
		}
		var p *problem
		if st.given, p = decode(raw, true); p != nil {
			return stop(a.Codes.refused(a.File, p))
		}
		if weak := st.given.judge(a.Codes, a.File, a.Bits); len(weak) > 0 && weak[0].Severity == install.SeverityFail {
			return stop(weak[0])
		}
	}
	kept := filepath.Join(dir, a.Name+suffixKey)
	raw, recorded, err := read(dir, a.Name)
	if err != nil {
		return st, fmt.Errorf("read key %s: %w", a.Name, err)
	}
	st.recorded = recorded
	if raw != nil {
		var p *problem
		if st.have, p = decode(raw, false); p != nil {
			return stop(a.Codes.refused(kept, p))
		}
	}
	return st, st.compare(a, kept)
}

// compare holds every key that is there against every fingerprint that is known.
func (st *standing) compare(a actionArguments, kept string) error {
	differs := func(file, want, got string) {
		f := a.Codes.differs(file, want, got)
		st.finding = &f
	}
	want := st.recorded
	if want == "" {
		want = a.Fingerprint
	}
	if a.Fingerprint != "" && want != a.Fingerprint {
		differs(kept, a.Fingerprint, want)
		return nil
	}
	for _, k := range []struct {
		m    *material
		file string
	}{{st.have, kept}, {st.given, a.File}} {
		if k.m == nil {
			continue
		}
		got, err := k.m.fingerprint()
		if err != nil {
			return err
		}
		if want == "" {
			want = got // the given key must be the one that is kept
		}
		if got != want {
			differs(k.file, want, got)
			return nil
		}
	}
	if st.have == nil && st.given == nil && want != "" {
		differs(kept, want, "none, the key is gone")
	}
	return nil
}

// isAbsent reports whether a file or directory is not there.
func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) }
