package rsakey

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/airlock-project/airlock/bundle/regular"
	"github.com/airlock-project/airlock/install"
)

// Probe is rsa.key. Its zero value is ready and safe for concurrent use.
type Probe struct{}

// probeArguments are the step's with.
type probeArguments struct {
	File        string  `json:"file"`
	Bits        int     `json:"bits"`        // 0 is any size
	Fingerprint string  `json:"fingerprint"` // that it must have; "" is any
	Codes       renamed `json:"codes"`
}

// Codes implements install.Coder.
func (Probe) Codes() map[string][]string { return codes() }

// Run reads the key and reports what a product would refuse of it, and that
// others on this machine can read it. Nothing of the key is ever shown.
func (Probe) Run(_ context.Context, in install.Input) (install.Result, error) {
	a := probeArguments{Bits: defaultBits}
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	want, err := checkFingerprint(a.Fingerprint)
	if a.Bits != 0 {
		err = errors.Join(err, checkBits(a.Bits))
	}
	if err = errors.Join(err, a.Codes.check()); err != nil {
		return install.Result{}, err
	}
	if a.File == "" {
		return install.Result{}, errors.New("want file, the key's")
	}
	raw, mode, err := readKey(a.File)
	if err != nil {
		return install.Result{Findings: []install.Finding{a.Codes.refused(a.File, &problem{codeUnusable, err.Error()})}}, nil //nolint:nilerr // it is the finding
	}
	m, p := decode(raw, false)
	if p != nil {
		return install.Result{Findings: []install.Finding{a.Codes.refused(a.File, p)}}, nil
	}
	got, err := m.fingerprint()
	if err != nil {
		return install.Result{}, err
	}
	found := m.judge(a.Codes, a.File, a.Bits)
	if want != "" && got != want {
		found = append(found, a.Codes.differs(a.File, want, got))
	}
	if mode.Perm()&0o077 != 0 {
		found = append(found, a.Codes.finding(codeReadable, install.SeverityWarn, a.File, fmt.Sprintf("others can read the key: mode %04o", mode.Perm()),
			map[string]string{"mode": fmt.Sprintf("%04o", mode.Perm())}))
	}
	return install.Result{Findings: found, Outputs: map[string]any{"rsa.key_fingerprint": got, "rsa.key_file": a.File}}, nil
}

// readKey reads a key's file, and its mode.
func readKey(name string) ([]byte, os.FileMode, error) {
	f, err := regular.Open(name)
	if err != nil {
		return nil, 0, bare(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, 0, bare(err)
	}
	if !st.Mode().IsRegular() {
		return nil, 0, errors.New("it is not a file")
	}
	raw, err := readAll(f)
	return raw, st.Mode(), bare(err)
}
