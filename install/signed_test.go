package install

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/manifests"
)

// signedPub is a pub whose site has an identity.
func signedPub(t *testing.T) *pub {
	p := newPub(t, "      mash.key: {type: string, secret: true}\n", "")
	p.opts.Site.Identity = &manifests.Identity{Name: "Bob"}
	p.opts.KeyID, p.opts.Sign = p.bob.id, p.bob.signer().Sign
	return p
}

// TestResumeNeedsSignature: a record that was written anew is not signed over.
func TestResumeNeedsSignature(t *testing.T) {
	t.Parallel()
	p := signedPub(t)
	p.run()
	name := filepath.Join(p.opts.State, fileCheckpoints)
	first, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	p.opts.Resume = false
	p.run()
	p.opts.Resume = true
	p.run()
	if slices.Contains(p.calls, "do mash") {
		t.Errorf("a signed result was done again: %v", p.calls)
	}
	if err := os.WriteFile(name, first, 0o600); err != nil {
		t.Fatal(err)
	}
	p.run()
	if !slices.Contains(p.calls, "do mash") {
		t.Errorf("what no signature covers was kept: %v", p.calls)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	_, err = p.try(t.Context())
	if _, ok := errors.AsType[*LedgerError](err); !ok || !strings.Contains(err.Error(), "no checkpoint signed by a key") || len(p.calls) > 0 {
		t.Errorf("error %v, calls %v", err, p.calls)
	}
}

// TestVerifyReadsTheReport: a report that was changed or removed is found.
func TestVerifyReadsTheReport(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.run()
	write(t, s.opts.State, fileReport, "{}")
	if _, err := VerifyState(s.opts.State, nil); !errorIs[*LedgerError](err) {
		t.Errorf("changed: %v", err)
	}
	if err := os.Remove(filepath.Join(s.opts.State, fileReport)); err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyState(s.opts.State, nil); !errorIs[*LedgerError](err) {
		t.Errorf("gone: %v", err)
	}
	if err := checkKept(nil, Entry{Event: eventFinished, Item: "mash", Data: []byte(`{"evidence":[{"sha256":"x"}]}`)}); !errorIs[*LedgerError](err) || !strings.Contains(err.Error(), "item mash") {
		t.Errorf("evidence: %v", err)
	}
}

// TestVerifyListed: with known keys nothing falls back to "not checked".
func TestVerifyListed(t *testing.T) {
	t.Parallel()
	p := signedPub(t)
	p.run()
	good := func(string, []byte, []byte) error { return nil }
	stranger := func(string, []byte, []byte) error { return errors.New("a stranger") }
	if _, err := VerifyListed(p.opts.State, true, stranger); !errorIs[*LedgerError](err) {
		t.Errorf("bad: %v", err)
	}
	nobody := func(string, []byte, []byte) error { return ErrUnlisted }
	if _, err := VerifyListed(p.opts.State, true, nobody); !errorIs[*UnlistedError](err) {
		t.Errorf("foreign: %v", err)
	}
	if v, err := VerifyListed(p.opts.State, false, nobody); err != nil || v.Good != 0 || len(v.Unlisted) != 1 || v.Covered {
		t.Errorf("foreign, without an identity: %+v, %v", v, err)
	}
	p.run()
	if err := os.Remove(filepath.Join(p.opts.State, fileCheckpoints)); err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyListed(p.opts.State, true, good); !errorIs[*LedgerError](err) {
		t.Errorf("gone: %v", err)
	}
}
