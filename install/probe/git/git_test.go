package git

import (
	"context"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/google/go-cmp/cmp"
)

const oid = "0123456789abcdef0123456789abcdef01234567"

func pkt(lines ...string) string {
	var b strings.Builder
	for _, l := range lines {
		if l == "" {
			b.WriteString("0000")
			continue
		}
		fmt.Fprintf(&b, "%04x%s", len(l)+4, l)
	}
	return b.String()
}

// server speaks as little of the protocol as a case needs.
func server(t *testing.T, advertise, list string, check func(http.ResponseWriter, *http.Request) bool) (at, ca string) {
	t.Helper()
	answer := func(media, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if check != nil && !check(w, r) {
				return
			}
			w.Header().Set("Content-Type", media)
			_, _ = w.Write([]byte(text))
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /team/repo.git/info/refs", answer("application/x-git-upload-pack-advertisement", advertise))
	mux.HandleFunc("POST /team/repo.git/git-upload-pack", answer("application/x-git-upload-pack-result", list))
	srv := httptest.NewTLSServer(mux)
	t.Cleanup(srv.Close)
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return srv.URL + "/team/repo.git", ca
}

func login(w http.ResponseWriter, r *http.Request) bool {
	user, password, _ := r.BasicAuth()
	switch {
	case password == "":
		w.Header().Set("WWW-Authenticate", "Basic")
		w.WriteHeader(http.StatusUnauthorized)
	case user != "git" || password != "s3cret-token":
		w.WriteHeader(http.StatusForbidden)
	default:
		return true
	}
	return false
}

func status(code int) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(code); return false }
}

func TestLsRemote(t *testing.T) {
	v2 := pkt("# service=git-upload-pack\n", "", "version 2\n", "ls-refs\n", "fetch\n", "")
	refs2 := pkt(oid+" HEAD symref-target:refs/heads/main\n", oid+" refs/heads/main\n", oid+" refs/tags/v1\n", "")
	v0 := pkt("# service=git-upload-pack\n", "", oid+" HEAD\x00multi_ack symref=HEAD:refs/heads/main\n", oid+" refs/heads/main\n", oid+" refs/tags/v1\n", oid+" refs/tags/v1^{}\n", "")
	empty := pkt("# service=git-upload-pack\n", "", strings.Repeat("0", 40)+" capabilities^{}\x00multi_ack\n", "")
	html := func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<html>"))
		return false
	}
	away := func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, "https://elsewhere.invalid/", http.StatusFound)
		return false
	}
	for name, c := range map[string]struct {
		advertise, list string
		check           func(http.ResponseWriter, *http.Request) bool
		with            map[string]any
		want            []string
		says            string
	}{
		"version 2":         {v2, refs2, nil, map[string]any{"refs": []any{"main", "refs/heads/main", "v1", "HEAD"}}, nil, ""},
		"version 0":         {v0, "", nil, map[string]any{"refs": []any{"main", "v1"}}, nil, ""},
		"with a token":      {v2, refs2, login, map[string]any{"password": "s3cret-token"}, nil, ""},
		"no token":          {v2, refs2, login, nil, []string{"GIT-02"}, "401"},
		"wrong token":       {v2, refs2, login, map[string]any{"password": "other-token"}, []string{"GIT-02"}, "403"},
		"own code":          {v2, refs2, login, map[string]any{"codes": map[string]any{"GIT-02": "VCS-02"}}, []string{"VCS-02"}, "401"},
		"no such branch":    {v2, refs2, nil, map[string]any{"refs": []any{"release"}}, []string{"GIT-05"}, "release"},
		"empty":             {empty, "", nil, map[string]any{"refs": []any{"main"}}, []string{"GIT-05"}, "0 references"},
		"no such repo":      {v2, refs2, status(404), nil, []string{"GIT-06"}, "404"},
		"broken":            {v2, refs2, status(502), nil, []string{"GIT-04"}, "502"},
		"a web page":        {v2, refs2, html, nil, []string{"GIT-04"}, "text/html"},
		"unknown CA":        {v2, refs2, nil, map[string]any{"ca": ""}, []string{"GIT-03"}, "authority"},
		"sent away":         {v2, refs2, away, nil, []string{"GIT-01"}, "elsewhere.invalid"},
		"nothing there":     {v2, refs2, nil, map[string]any{"url": "https://nothing.invalid/x", "timeout": "20s"}, []string{"GIT-01"}, "name"},
		"not the protocol":  {"hello", "", nil, nil, []string{"GIT-04"}, "protocol"},
		"ends early":        {"00ff# service", "", nil, nil, []string{"GIT-04"}, "before its end"},
		"an error":          {pkt("ERR no access\n"), "", nil, nil, []string{"GIT-04"}, "no access"},
		"nothing":           {"", "", nil, nil, []string{"GIT-04"}, "protocol"},
		"bad list":          {v2, pkt("hello world\n"), nil, nil, []string{"GIT-04"}, "protocol"},
		"control character": {v2, pkt(oid + " refs/heads/\x1b[2J\n"), nil, nil, []string{"GIT-04"}, "protocol"},
	} {
		t.Run(name, func(t *testing.T) {
			at, ca := server(t, c.advertise, c.list, c.check)
			with := map[string]any{"url": at, "ca": ca}
			maps.Copy(with, c.with)
			res, err := Probe{}.Run(t.Context(), install.Input{With: with})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range res.Findings {
				got = append(got, f.Code)
				if !strings.Contains(f.Detail, c.says) || strings.Contains(f.Detail, "token") {
					t.Errorf("%q does not say %q", f.Detail, c.says)
				}
				if keys, want := slices.Sorted(maps.Keys(f.Fields)), Probe.Codes(Probe{})[f.Code]; want != nil && !slices.Equal(keys, slices.Sorted(slices.Values(want))) {
					t.Errorf("fields %v, want %v", keys, want)
				}
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Fatalf("%s\n%+v", d, res.Findings)
			}
			if c.want == nil && res.Outputs["git.head"] != "refs/heads/main" {
				t.Errorf("outputs %v", res.Outputs)
			}
		})
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	at, ca := server(t, "", "", func(_ http.ResponseWriter, r *http.Request) bool { cancel(); <-r.Context().Done(); return false })
	if _, err := (Probe{}).Run(ctx, install.Input{With: map[string]any{"url": at, "ca": ca, "timeout": "10m"}}); err == nil {
		t.Error("the probe goes on after its context has ended")
	}
}

func TestArguments(t *testing.T) {
	for name, with := range map[string]map[string]any{
		"none": {}, "ssh": {"url": "ssh://git@h/x"}, "inline": {"url": "https://u:hunter2@h/x"}, "plain": {"url": "http://h/x", "password": "hunter2"},
		"ca": {"url": "https://h/x", "ca": "/nonexistent"}, "timeout": {"url": "https://h/x", "timeout": "x"}, "unknown": {"uri": "https://h/x"},
	} {
		if _, err := (Probe{}).Run(t.Context(), install.Input{With: with}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzLines(f *testing.F) {
	f.Add([]byte(pkt("# service=git-upload-pack\n", "", "version 2\n", "")))
	f.Add([]byte(pkt(oid+" HEAD\x00symref=HEAD:refs/heads/main\n", "")))
	f.Add([]byte("0003"))
	f.Add([]byte("fffe"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := lines(data)
		if err != nil {
			return
		}
		if r, err := parseV0(skipHeader(list)); err == nil && len(r.names) > len(list) {
			t.Errorf("%d names from %d lines", len(r.names), len(list))
		}
		if r, err := parseV2(data); err == nil {
			for _, n := range r.names {
				if strings.ContainsAny(n, "\x1b\n ") {
					t.Errorf("name %q", n)
				}
			}
		}
	})
}
