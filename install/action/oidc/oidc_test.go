package oidc

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/provider"
)

func TestExport(t *testing.T) {
	p := provider.Start(t, nil)
	dir := filepath.Join(t.TempDir(), "render")
	in := install.Input{Render: dir, With: map[string]any{"issuer": p.URL, "ca": p.CA, "to": "oidc"}}
	if c, err := (Action{}).Plan(t.Context(), in); err != nil || c.Nothing {
		t.Errorf("plan: %+v, %v", c, err)
	}
	res, err := Action{}.Apply(t.Context(), in)
	if err != nil || !res.Changed {
		t.Fatalf("%+v, %v", res, err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "oidc", "jwks.json"))
	if err != nil || string(got) != p.Keys || res.Outputs["oidc.jwks_file"] != filepath.Join(dir, "oidc", "jwks.json") {
		t.Errorf("%s, %v, %v", got, err, res.Outputs)
	}
	if c, err := (Action{}).Plan(t.Context(), in); err != nil || !c.Nothing {
		t.Errorf("plan afterwards: %+v, %v", c, err)
	}
	if res, err := (Action{}).Apply(t.Context(), in); err != nil || res.Changed {
		t.Errorf("a second time: %+v, %v", res, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "oidc", "jwks.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := (Action{}).Plan(t.Context(), in); err != nil || c.Nothing {
		t.Errorf("plan of a changed file: %+v, %v", c, err)
	}
}

func TestNothingIsWrittenOfABadProvider(t *testing.T) {
	p := provider.Start(t, func(p *provider.Provider) { p.Issuer = "https://old.example" })
	dir := filepath.Join(t.TempDir(), "render")
	in := install.Input{Render: dir, With: map[string]any{"issuer": p.URL, "ca": p.CA, "to": "oidc", "codes": map[string]any{"OIDC-02": "UI-04"}}}
	res, err := Action{}.Apply(t.Context(), in)
	if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != "UI-04" || !strings.Contains(res.Findings[0].Detail, "old.example") {
		t.Errorf("%+v, %v", res, err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("something is written: %v", err)
	}
	if _, err := (Action{}).Plan(t.Context(), in); err == nil {
		t.Error("it can be planned")
	}
}

func TestArguments(t *testing.T) {
	for _, with := range []map[string]any{{}, {"to": "../x", "issuer": "https://h"}, {"to": "oidc"}, {"to": "oidc", "isuer": "x"}} {
		if _, err := (Action{}).Apply(t.Context(), install.Input{With: with, Render: t.TempDir()}); err == nil {
			t.Errorf("%v is accepted", with)
		}
	}
}
