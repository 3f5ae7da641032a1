//go:build all

package git

import (
	"encoding/pem"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/google/go-cmp/cmp"
)

// backend serves a repository with git http-backend, with a login.
func backend(t *testing.T) (at, ca string) {
	t.Helper()
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, args := range [][]string{
		{"init", "-q", "-b", "main", "work"},
		{"-C", "work", "-c", "user.name=tester", "-c", "user.email=tester@site-a.example", "commit", "-q", "--allow-empty", "-m", "first"},
		{"-C", "work", "tag", "v1"},
		{"clone", "-q", "--bare", "work", "repo.git"},
	} {
		cmd := exec.CommandContext(t.Context(), git, args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	serve := &cgi.Handler{Path: git, Args: []string{"http-backend"}, Dir: dir, Env: []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=/dev/null"}}
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if login(w, r) {
			serve.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return srv.URL, ca
}

func TestBackend(t *testing.T) {
	at, ca := backend(t)
	for name, c := range map[string]struct {
		with map[string]any
		want []string
		says string
	}{
		"good":           {map[string]any{"url": at + "/repo.git", "password": "s3cret-token", "refs": []any{"main", "v1"}}, nil, ""},
		"no such branch": {map[string]any{"url": at + "/repo.git", "password": "s3cret-token", "refs": []any{"release"}}, []string{"GIT-05"}, "release"},
		"no such repo":   {map[string]any{"url": at + "/other.git", "password": "s3cret-token"}, []string{"GIT-06"}, "404"},
		"wrong token":    {map[string]any{"url": at + "/repo.git", "password": "other"}, []string{"GIT-02"}, "403"},
	} {
		c.with["ca"] = ca
		res, err := Probe{}.Run(t.Context(), install.Input{With: c.with})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range res.Findings {
			got = append(got, f.Code)
			if !strings.Contains(f.Detail, c.says) {
				t.Errorf("%s: %q does not say %q", name, f.Detail, c.says)
			}
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s: %s\n%+v", name, d, res.Findings)
		}
		if c.want == nil && (res.Outputs["git.head"] != "refs/heads/main" || res.Outputs["git.refs"] != 3) {
			t.Errorf("%s: outputs %v", name, res.Outputs)
		}
	}
}
