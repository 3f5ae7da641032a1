// Package oidc is the probe oidc.discovery: does an OpenID provider publish what
// those who trust its tokens look up.
package oidc

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/dial"
	"github.com/airlock-project/airlock/install/internal/oidc"
)

// codeScope is this probe's own; the others are those of every step that reads a
// provider. The checklist may report each under another, with codes:.
const codeScope = "OIDC-04"

// Probe is oidc.discovery. Its zero value is ready and safe for concurrent use.
type Probe struct{}

// arguments are the step's with.
type arguments struct {
	Issuer  string            `json:"issuer"`
	URL     string            `json:"url"`    // where the documents are; default: the issuer
	Scopes  []string          `json:"scopes"` // that are needed
	CA      string            `json:"ca"`     // PEM file; without it the system's authorities count
	Timeout string            `json:"timeout"`
	Codes   map[string]string `json:"codes"` // code: the one to report instead
}

// Codes implements install.Coder.
func (Probe) Codes() map[string][]string {
	codes := oidc.Codes()
	codes[codeScope] = []string{"issuer", "url", "scope", "have"}
	return codes
}

// Run reads both documents; they are evidence.
func (Probe) Run(ctx context.Context, in install.Input) (install.Result, error) {
	var a arguments
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	wait, err := dial.Timeout(a.Timeout)
	if err != nil {
		return install.Result{}, err
	}
	p, fault, err := oidc.Read(ctx, oidc.Ask{Issuer: a.Issuer, URL: a.URL, CA: a.CA, Wait: wait})
	if err != nil {
		return install.Result{}, err
	}
	if fault != nil {
		return install.Result{Findings: []install.Finding{fault.Finding(a.Issuer, a.Codes)}}, nil
	}
	return install.Result{
		Findings: a.scopes(p),
		Outputs:  map[string]any{"oidc.jwks_uri": p.JWKSURI, "oidc.keys": p.Keys},
		Evidence: []install.Evidence{
			{Name: "openid-configuration", Media: "application/json", Data: p.Document},
			{Name: "jwks", Media: "application/jwk-set+json", Data: p.KeySet},
		},
	}, nil
}

// scopes reports each that is needed and not offered. A provider need not list
// its scopes; then it can only be said that nothing is known.
func (a arguments) scopes(p oidc.Provider) []install.Finding {
	var out []install.Finding
	code := cmp.Or(a.Codes[codeScope], codeScope)
	if p.Scopes == nil && len(a.Scopes) > 0 {
		return []install.Finding{{Severity: install.SeverityInfo, Detail: "the provider does not say which scopes it supports"}}
	}
	have := strings.Join(p.Scopes[:min(len(p.Scopes), 50)], ", ")
	for _, s := range a.Scopes {
		if slices.Contains(p.Scopes, s) {
			continue
		}
		out = append(out, install.Finding{
			Code: code, Detail: fmt.Sprintf("scope %s is not among %s", s, have),
			Fields: map[string]string{"issuer": a.Issuer, "url": a.Issuer, "scope": s, "have": have},
		})
	}
	return out
}
