// Package oidc is the action oidc.jwks: the key set of an OpenID provider as a
// file, for those who cannot fetch it and take an upload.
package oidc

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/dial"
	"github.com/airlock-project/airlock/install/internal/oidc"
	"github.com/airlock-project/airlock/install/internal/place"
)

// Files in the directory.
const (
	fileKeys      = "jwks.json"
	fileDiscovery = "openid-configuration.json"
)

// Action is oidc.jwks. Its zero value is ready and safe for concurrent use with
// different directories.
type Action struct{}

// arguments are the step's with.
type arguments struct {
	Issuer  string            `json:"issuer"`
	URL     string            `json:"url"` // where the documents are; default: the issuer
	CA      string            `json:"ca"`  // PEM file; without it the system's authorities count
	To      string            `json:"to"`  // directory below the render directory
	Timeout string            `json:"timeout"`
	Codes   map[string]string `json:"codes"` // code: the one to report instead
}

// Codes implements install.Coder.
func (Action) Codes() map[string][]string { return oidc.Codes() }

// Grounds implements install.Grounder: files in one render directory say nothing
// of another.
func (Action) Grounds(in install.Input) any {
	return map[string]any{"render": place.Absolute(in.Render)}
}

func read(ctx context.Context, in install.Input) (arguments, oidc.Provider, *oidc.Fault, error) {
	var a arguments
	if err := in.Decode(&a); err != nil {
		return a, oidc.Provider{}, nil, err
	}
	if err := place.Name(a.To); err != nil {
		return a, oidc.Provider{}, nil, err
	}
	wait, err := dial.Timeout(a.Timeout)
	if err != nil {
		return a, oidc.Provider{}, nil, err
	}
	p, fault, err := oidc.Read(ctx, oidc.Ask{Issuer: a.Issuer, URL: a.URL, CA: a.CA, Wait: wait})
	return a, p, fault, err
}

// Plan fetches the documents and says whether the files hold them already.
func (Action) Plan(ctx context.Context, in install.Input) (install.Change, error) {
	a, p, fault, err := read(ctx, in)
	if err != nil {
		return install.Change{}, err
	}
	if fault != nil {
		return install.Change{}, errors.New(fault.URL + ": " + fault.Reason)
	}
	c := install.Change{Summary: fmt.Sprintf("write the %d keys of %s into %s", p.Keys, a.Issuer, a.To), Details: []string{fileKeys, fileDiscovery}}
	if in.Render != "" {
		dir := filepath.Join(in.Render, a.To)
		c.Nothing = place.Holds(filepath.Join(dir, fileKeys), p.KeySet) && place.Holds(filepath.Join(dir, fileDiscovery), p.Document)
	}
	return c, nil
}

// Apply writes both documents. Its outputs are oidc.jwks_file (an absolute path),
// oidc.jwks_uri and oidc.keys (how many).
func (Action) Apply(ctx context.Context, in install.Input) (install.Result, error) {
	a, p, fault, err := read(ctx, in)
	if err != nil {
		return install.Result{}, err
	}
	if fault != nil {
		return install.Result{Findings: []install.Finding{fault.Finding(a.Issuer, a.Codes)}}, nil
	}
	if in.Render == "" {
		return install.Result{}, errors.New("no render directory is given")
	}
	changed := false
	for _, f := range []struct {
		name string
		data []byte
	}{{fileDiscovery, p.Document}, {fileKeys, p.KeySet}} {
		did, err := place.File(filepath.Join(in.Render, a.To), f.name, f.data)
		if err != nil {
			return install.Result{}, fmt.Errorf("write %s: %w", f.name, err)
		}
		changed = changed || did
	}
	path := filepath.Join(place.Absolute(in.Render), a.To, fileKeys)
	return install.Result{
		Changed: changed, Outputs: map[string]any{"oidc.jwks_file": path, "oidc.jwks_uri": p.JWKSURI, "oidc.keys": p.Keys},
		Findings: []install.Finding{{Severity: install.SeverityInfo, Detail: "the key set is in " + path}},
	}, nil
}
