// Package oidc reads what an OpenID provider publishes: its discovery document
// (OpenID Connect Discovery 1.0, section 4) and its key set (RFC 7517).
package oidc

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/dial"
	"github.com/airlock-project/airlock/install/internal/web"
	"github.com/go-jose/go-jose/v4"
)

const (
	// maxDocument bounds one document; real ones have 2 to 20 KiB.
	maxDocument = 1 << 20
	// maxKeys bounds a key set.
	maxKeys = 200
	path    = "/.well-known/openid-configuration"
)

// Codes of what is wrong with a provider.
const (
	CodeUnreachable = "OIDC-01"
	CodeIssuer      = "OIDC-02"
	CodeTrust       = "OIDC-03"
	CodeKeys        = "OIDC-05"
)

// Codes lists them with the fields of their findings.
func Codes() map[string][]string {
	return map[string][]string{
		CodeUnreachable: {"issuer", "url", "reason"},
		CodeIssuer:      {"issuer", "url", "got", "reason"},
		CodeTrust:       {"issuer", "url", "reason"},
		CodeKeys:        {"issuer", "url", "reason"},
	}
}

// Fault is what is wrong with a provider.
type Fault struct {
	Code   string
	URL    string
	Got    string // CodeIssuer: what the document says
	Reason string
}

// Finding is the fault as a step reports it, under the code that codes has in
// place of its own.
func (f Fault) Finding(issuer string, codes map[string]string) install.Finding {
	fields := map[string]string{"issuer": issuer, "url": f.URL, "reason": f.Reason}
	if f.Code == CodeIssuer {
		fields["got"] = f.Got
	}
	return install.Finding{Code: cmp.Or(codes[f.Code], f.Code), Detail: f.URL + ": " + f.Reason, Fields: fields}
}

// Ask says which provider, and how to reach it.
type Ask struct {
	Issuer string // as tokens name it
	URL    string // where its documents are, if that is elsewhere
	CA     string
	Wait   time.Duration
}

// Provider is what was read.
type Provider struct {
	Document []byte
	KeySet   []byte
	JWKSURI  string
	Scopes   []string // nil: the document does not say
	Keys     int
}

// Read fetches and checks both documents. A fault is the provider's; an error
// means that the question is wrong.
func Read(ctx context.Context, a Ask) (Provider, *Fault, error) {
	var p Provider
	base := a.URL
	if base == "" {
		base = a.Issuer
	}
	if _, err := web.URL(base); err != nil {
		return p, nil, fmt.Errorf("issuer: %w", err)
	}
	if a.Issuer == "" {
		return p, nil, errors.New("want issuer, as tokens name it")
	}
	roots, err := dial.Pool(a.CA)
	if err != nil {
		return p, nil, fmt.Errorf("ca: %w", err)
	}
	client := web.Client(roots, a.Wait)
	defer client.CloseIdleConnections()
	from := strings.TrimSuffix(base, "/") + path
	var fault *Fault
	if p.Document, fault, err = fetch(ctx, client, from); fault != nil || err != nil {
		return p, fault, err
	}
	if fault = p.read(a.Issuer, from); fault != nil {
		return p, fault, nil
	}
	if p.KeySet, fault, err = fetch(ctx, client, p.JWKSURI); err != nil {
		return p, nil, err
	}
	if fault != nil {
		if fault.Code == CodeUnreachable {
			fault.Code = CodeKeys
		}
		return p, fault, nil
	}
	if err := p.count(); err != nil {
		return p, &Fault{Code: CodeKeys, URL: p.JWKSURI, Reason: err.Error()}, nil
	}
	return p, nil, nil
}

func fetch(ctx context.Context, client *http.Client, from string) ([]byte, *Fault, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, &Fault{Code: CodeUnreachable, URL: from, Reason: "it is not a URL"}, nil //nolint:nilerr // the document named it
	}
	req.Header.Set("Accept", "application/json")
	resp, err := web.Do(client, req, maxDocument)
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	if err != nil {
		f := &Fault{Code: CodeUnreachable, URL: from, Reason: err.Error()}
		if _, ok := errors.AsType[*web.TrustError](err); ok {
			f.Code = CodeTrust
		}
		return nil, f, nil
	}
	if resp.Code != http.StatusOK {
		return nil, &Fault{Code: CodeUnreachable, URL: from, Reason: "it answers " + resp.Status}, nil
	}
	return resp.Body, nil, nil
}

// read takes from the document what counts. The issuer has to be equal to the
// last character (section 4.3): clients compare it so.
func (p *Provider) read(issuer, from string) *Fault {
	var doc struct {
		Issuer  string   `json:"issuer"`
		JWKSURI string   `json:"jwks_uri"`
		Scopes  []string `json:"scopes_supported"`
	}
	if err := json.Unmarshal(p.Document, &doc); err != nil || doc.Issuer == "" {
		return &Fault{Code: CodeUnreachable, URL: from, Reason: "what answers is not a discovery document: no JSON object with an issuer"}
	}
	if doc.Issuer != issuer {
		return &Fault{Code: CodeIssuer, URL: from, Got: clip(doc.Issuer), Reason: fmt.Sprintf("the document says %q, tokens are expected from %q", clip(doc.Issuer), issuer)}
	}
	if _, err := web.URL(doc.JWKSURI); err != nil {
		return &Fault{Code: CodeKeys, URL: from, Reason: "jwks_uri of the document: " + err.Error()}
	}
	p.JWKSURI, p.Scopes = doc.JWKSURI, doc.Scopes
	return nil
}

// clip keeps a long foreign text out of a report.
func clip(s string) string {
	if len(s) > 300 {
		return s[:300] + "…"
	}
	return s
}

// count parses every key. One of an unknown type is passed over (RFC 7517,
// section 5); a private one is a leak.
func (p *Provider) count() error {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(p.KeySet, &set); err != nil {
		return errors.New("it is not a JSON key set")
	}
	if len(set.Keys) > maxKeys {
		return fmt.Errorf("it holds %d keys; at most %d are read", len(set.Keys), maxKeys)
	}
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if err := k.UnmarshalJSON(raw); err != nil {
			continue
		}
		if !k.IsPublic() {
			return errors.New("it publishes a private or symmetric key")
		}
		if k.Use != "enc" {
			p.Keys++
		}
	}
	if p.Keys == 0 {
		return errors.New("it holds no key that signatures can be checked with")
	}
	return nil
}
