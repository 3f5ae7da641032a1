package main

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/spacelift"
)

func TestRowCATrust(t *testing.T) {
	_, ca, _ := spacelift.TLS(t, http.NotFoundHandler())
	_, vcs, _ := spacelift.TLS(t, http.NotFoundHandler())
	dir := t.TempDir()
	put := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	in := func(more map[string]any) map[string]any {
		m := map[string]any{"hosts.server": "spacelift.site-a.example", "tls.ca_file": ca, "vcs.ca_file": vcs, "trust.system_bundle": ca}
		maps.Copy(m, more)
		return m
	}
	runRows(t, "distribute-ca-trust", nil, []row{
		{name: "no CA", inputs: map[string]any{"hosts.server": "spacelift.site-a.example"}, want: install.StateSkipped},
		{name: "not PEM", inputs: in(map[string]any{"tls.ca_file": put("text", "hello")}), want: install.StateFail, code: "RND-01", says: []string{"no PEM certificate", "tls.ca_file"}},
		{name: "no bundle", inputs: in(map[string]any{"trust.system_bundle": "/nonexistent/bundle"}), want: install.StateFail, code: "RND-02", says: []string{"/nonexistent/bundle", "trust.system_bundle"}},
	})
	got := runRow(t, row{item: "distribute-ca-trust", inputs: in(nil), want: install.StatePass})
	i := slices.IndexFunc(got.Findings, func(f install.FindingReport) bool { return strings.Contains(f.Detail, "additional-root-cas.txt") })
	if i < 0 {
		t.Fatalf("%+v", got.Findings)
	}
	text, err := os.ReadFile(strings.TrimPrefix(got.Findings[i].Detail, "written: "))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		CaCertificates []string `json:"caCertificates"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil || len(doc.CaCertificates) != 2 {
		t.Errorf("%s: %v", raw, err)
	}
}
