//go:build unix

package kube

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// asked opens a server through an exec plugin, a shell script, and asks it for its
// version.
func asked(t *testing.T, url, script string) error {
	t.Helper()
	path := filepath.Join(t.TempDir(), "login")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	c, err := Open(t.Context(), Config{Kubeconfig: config(t, fmt.Sprintf("server: %q", url),
		fmt.Sprintf("exec: {apiVersion: client.authentication.k8s.io/v1, command: %q, interactiveMode: Never, env: [{name: FROM, value: kubeconfig}]}", path))})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Version(t.Context())
	if err == nil {
		_, err = c.Version(t.Context())
	}
	return err
}

func gives(status string) string {
	return `echo '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {` + status + `}}'`
}

// TestPlugin runs exec plugins: what they give is used and kept, until it expires
// or is refused.
func TestPlugin(t *testing.T) {
	t.Parallel()
	refuse := false
	var seen []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header.Get("Authorization"))
		if refuse {
			refuse = false
			answer(w, 401, failure(401, "Unauthorized", "no"))
			return
		}
		answer(w, 200, map[string]any{"gitVersion": "v1.37.0"})
	}))
	defer srv.Close()
	runs := filepath.Join(t.TempDir(), "runs")
	count := func() int { raw, _ := os.ReadFile(runs); return strings.Count(string(raw), "\n") }
	note := "echo \"$FROM $KUBERNETES_EXEC_INFO\" >>" + runs + "\necho noise >&2\n"
	if err := asked(t, srv.URL, note+gives(`"token": "hunter2-hunter2"`)); err != nil || count() != 1 || seen[0] != "Bearer hunter2-hunter2" || len(seen) != 2 {
		t.Errorf("%v, %d runs, %q", err, count(), seen)
	}
	raw, _ := os.ReadFile(runs)
	if want := `kubeconfig {"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","spec":{"interactive":false}}`; strings.TrimSpace(string(raw)) != want {
		t.Errorf("%s", raw)
	}
	if err := asked(t, srv.URL, note+gives(`"token": "x", "expirationTimestamp": "`+time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)+`"`)); err != nil || count() != 3 {
		t.Errorf("expired: %v, %d runs", err, count())
	}
	refuse = true
	script := note + gives(`"token": "y"`)
	if err := asked(t, srv.URL, script); !is[*UnauthorizedError](err) {
		t.Errorf("refused: %v", err)
	}
}

// TestPluginWords: what a plugin says when it fails is told, in one line, and
// nothing of it moves the terminal or is a secret.
func TestPluginWords(t *testing.T) {
	t.Parallel()
	const jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJvcHMifQ.c2lnbmF0dXJlLXNpZ25hdHVyZQ"
	for name, c := range map[string]struct{ script, says string }{
		"words":    {`printf 'token: short1\n\033[2J\033]0;title\007no session for ops, got ` + jwt + `\n' >&2; exit 3`, "it failed: exit status 3: token: [hidden] no session for ops, got [hidden]"},
		"path":     {`echo "open /home/operator/.config/login/session.json: no such file" >&2; exit 1`, "open /home/operator/.config/login/session.json: no such file"},
		"endless":  {`yes 'so many words' | head -c 3000000 >&2; exit 1`, "so many words"},
		"silent":   {"exit 4", "exit status 4"},
		"no JSON":  {"echo " + jwt, "no ExecCredential"},
		"nothing":  {gives(""), "neither a token nor a certificate"},
		"large":    {`head -c 3000000 /dev/zero`, "more than 1048576 bytes"},
		"version":  {strings.Replace(gives(`"token": "a"`), "/v1", "/v1beta1", 1), "speaks client.authentication.k8s.io/v1beta1"},
		"half key": {gives(`"clientCertificateData": "x", "clientKeyData": "` + jwt + `"`), "do not fit each other"},
	} {
		err := asked(t, "http://127.0.0.1:1", c.script)
		e, ok := errors.AsType[*PluginError](err)
		if !ok || !strings.Contains(err.Error(), c.says) || len(err.Error()) > 1000 {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if strings.ContainsAny(e.Reason, "\x1b\x07\n") || strings.Contains(e.Reason, "eyJ") || strings.Contains(e.Reason, "short1") {
			t.Errorf("%s: %q", name, e.Reason)
		}
	}
}
