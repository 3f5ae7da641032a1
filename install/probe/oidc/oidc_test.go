package oidc

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/provider"
)

func TestDiscovery(t *testing.T) {
	plain := func(text string) func(p *provider.Provider) {
		return func(p *provider.Provider) { p.Document = func(string) string { return text } }
	}
	keys := func(text string) func(p *provider.Provider) {
		return func(p *provider.Provider) { p.Keys = text }
	}
	for name, c := range map[string]struct {
		change func(p *provider.Provider)
		with   map[string]any
		code   string // "" passes
		says   string
	}{
		"good":              {nil, nil, "", ""},
		"scopes":            {nil, map[string]any{"scopes": []any{"email"}}, "", ""},
		"issuer elsewhere":  {func(p *provider.Provider) { p.Issuer = "https://issuer.example" }, map[string]any{"issuer": "https://issuer.example"}, "", ""},
		"no such scope":     {nil, map[string]any{"scopes": []any{"groups"}}, "OIDC-04", "groups"},
		"own code":          {nil, map[string]any{"scopes": []any{"groups"}, "codes": map[string]any{"OIDC-04": "SSO-01"}}, "SSO-01", "groups"},
		"other issuer":      {func(p *provider.Provider) { p.Issuer = "https://old.site-a.example" }, nil, "OIDC-02", "old.site-a.example"},
		"other issuer, own": {func(p *provider.Provider) { p.Issuer = "https://old.site-a.example" }, map[string]any{"codes": map[string]any{"OIDC-02": "UI-04"}}, "UI-04", "old.site-a.example"},
		"unknown CA":        {nil, map[string]any{"ca": ""}, "OIDC-03", "unknown authority"},
		"not found":         {nil, map[string]any{"path": "/other"}, "OIDC-01", "404"},
		"HTML":              {plain("<html>login</html>"), nil, "OIDC-01", "discovery document"},
		"no issuer":         {plain(`{}`), nil, "OIDC-01", "discovery document"},
		"too large":         {plain(strings.Repeat(" ", 2<<20)), nil, "OIDC-01", "larger"},
		"away":              {func(p *provider.Provider) { p.Redirect = "https://elsewhere.invalid/" }, nil, "OIDC-01", "elsewhere.invalid"},
		"no key set":        {plain(`{"issuer":"ISSUER"}`), nil, "OIDC-05", "jwks_uri"},
		"key set away":      {plain(`{"issuer":"ISSUER","jwks_uri":"https://nothing.invalid/"}`), map[string]any{"timeout": "20s"}, "OIDC-05", "name"},
		"file as key set":   {plain(`{"issuer":"ISSUER","jwks_uri":"file:///etc/passwd"}`), nil, "OIDC-05", "jwks_uri"},
		"empty key set":     {keys(`{"keys":[]}`), nil, "OIDC-05", "no key"},
		"bad key set":       {keys(`[]`), nil, "OIDC-05", "not a JSON key set"},
		"unknown keys":      {keys(`{"keys":[{"kty":"XX"},{"kty":"RSA","n":"!","e":"AQAB"}]}`), nil, "OIDC-05", "no key"},
		"private key":       {keys(`{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`), nil, "OIDC-05", "private"},
	} {
		t.Run(name, func(t *testing.T) {
			p := provider.Start(t, c.change)
			with := map[string]any{"issuer": p.URL, "url": p.URL, "ca": p.CA}
			maps.Copy(with, c.with)
			if path, ok := with["path"].(string); ok {
				delete(with, "path")
				with["url"] = p.URL + path
			}
			res, err := Probe{}.Run(t.Context(), install.Input{With: with})
			if err != nil {
				t.Fatal(err)
			}
			if c.code == "" {
				if len(res.Findings) > 0 || len(res.Evidence) != 2 || res.Outputs["oidc.keys"] != 1 {
					t.Errorf("%+v", res)
				}
				return
			}
			if len(res.Findings) != 1 || res.Findings[0].Code != c.code || !strings.Contains(res.Findings[0].Detail, c.says) {
				t.Fatalf("%+v", res.Findings)
			}
			want, ok := Probe{}.Codes()[c.code]
			if got := slices.Sorted(maps.Keys(res.Findings[0].Fields)); ok && !slices.Equal(got, slices.Sorted(slices.Values(want))) {
				t.Errorf("fields %v, want %v", got, want)
			}
		})
	}
}

func TestScopesUnknown(t *testing.T) {
	p := provider.Start(t, func(p *provider.Provider) {
		p.Document = func(base string) string {
			return `{"issuer":"` + base + `","jwks_uri":"` + base + `/.well-known/jwks"}`
		}
	})
	res, err := Probe{}.Run(t.Context(), install.Input{With: map[string]any{"issuer": p.URL, "ca": p.CA, "scopes": []any{"email"}}})
	if err != nil || len(res.Findings) != 1 || res.Findings[0].Severity != install.SeverityInfo {
		t.Errorf("%+v, %v", res.Findings, err)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := provider.Start(t, func(p *provider.Provider) {
		p.Before = func(r *http.Request) { cancel(); <-r.Context().Done() }
	})
	if _, err := (Probe{}).Run(ctx, install.Input{With: map[string]any{"issuer": p.URL, "ca": p.CA, "timeout": "10m"}}); err == nil {
		t.Error("the probe goes on after its context has ended")
	}
}

func TestArguments(t *testing.T) {
	for _, with := range []map[string]any{
		{}, {"issuer": "issuer.example"}, {"issuer": "ftp://u:hunter2@x"}, {"url": "https://h"}, {"issuer": "https://h", "ca": "/nonexistent"}, {"issuer": "https://h", "timeout": "x"}, {"isuer": "https://h"},
	} {
		if _, err := (Probe{}).Run(t.Context(), install.Input{With: with}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v: %v", with, err)
		}
	}
}
