package http

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/google/go-cmp/cmp"
)

func TestGet(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self' https://uploads.example.internal")
		w.Header().Set("Set-Cookie", "session=hunter2")
		_, _ = w.Write([]byte("<title>Product</title>"))
	})
	mux.HandleFunc("/down", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	mux.HandleFunc("/here", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) })
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://elsewhere.invalid/", http.StatusFound)
	})
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-time.After(5 * time.Second):
		}
	})
	srv := httptest.NewTLSServer(mux)
	defer srv.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	closed := httptest.NewServer(nil)
	closed.Close()
	for name, c := range map[string]struct {
		with map[string]any
		want []string
	}{
		"good":           {map[string]any{"url": srv.URL, "ca": ca, "contains": []any{"Product"}, "header": map[string]any{"Content-Security-Policy": "https://uploads.example.internal"}}, nil},
		"redirect":       {map[string]any{"url": srv.URL + "/here", "ca": ca}, nil},
		"other status":   {map[string]any{"url": srv.URL + "/nothing", "ca": ca, "status": []any{int64(404)}}, nil},
		"away":           {map[string]any{"url": srv.URL + "/away", "ca": ca}, []string{"HTTP-01"}},
		"loop":           {map[string]any{"url": srv.URL + "/loop", "ca": ca}, []string{"HTTP-01"}},
		"unknown CA":     {map[string]any{"url": srv.URL}, []string{"HTTP-05"}},
		"nothing there":  {map[string]any{"url": closed.URL}, []string{"HTTP-01"}},
		"slow":           {map[string]any{"url": srv.URL + "/slow", "ca": ca, "timeout": "50ms"}, []string{"HTTP-01"}},
		"status":         {map[string]any{"url": srv.URL + "/down", "ca": ca, "contains": []any{"x"}}, []string{"HTTP-02"}},
		"status by name": {map[string]any{"url": srv.URL + "/down", "ca": ca, "codes": map[string]any{"502": "UI-01"}}, []string{"UI-01"}},
		"body":           {map[string]any{"url": srv.URL, "ca": ca, "contains": []any{"Other"}}, []string{"HTTP-04"}},
		"header":         {map[string]any{"url": srv.URL, "ca": ca, "header": map[string]any{"X-Nothing": "", "Content-Type": "json"}}, []string{"HTTP-03", "HTTP-03"}},
	} {
		res, err := Probe{}.Run(t.Context(), install.Input{With: c.with})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for _, f := range res.Findings {
			got = append(got, f.Code)
			for field := range f.Fields {
				if known, ok := (Probe{}).Codes()[f.Code]; ok && !slices.Contains(known, field) {
					t.Errorf("%s: field %s is not listed with %s", name, field, f.Code)
				}
			}
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s: %s\n%+v", name, d, res.Findings)
		}
		for _, ev := range res.Evidence {
			if bytes.Contains(ev.Data, []byte("hunter2")) {
				t.Errorf("%s: evidence %q", name, ev.Data)
			}
		}
	}
}

func TestArguments(t *testing.T) {
	for _, with := range []map[string]any{
		{}, {"url": "x"}, {"url": "ftp://a"}, {"url": "http://a", "timeout": "x"}, {"url": "http://a", "ca": "/nonexistent/ca"}, {"uri": "http://a"},
	} {
		if _, err := (Probe{}).Run(t.Context(), install.Input{With: with}); err == nil {
			t.Errorf("%v is accepted", with)
		}
	}
}

// TestSecretHeader shows that a token reaches the server and nothing else.
func TestSecretHeader(t *testing.T) {
	const token = "glpat-hunter2hunter2"
	mux := http.NewServeMux()
	mux.HandleFunc("/version", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Echo", r.Header.Get("Private-Token"))
		if r.Header.Get("Private-Token") != token {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte(`{"version":"17.5.1","scopes":["api"],"echo":"` + token + `"}`))
	})
	other := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("another port was asked") }))
	defer other.Close()
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) })
	mux.HandleFunc("/plain", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+r.Host+"/version", http.StatusFound)
	})
	srv := httptest.NewTLSServer(mux)
	defer srv.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		with map[string]any
		want []string
	}{
		"good": {map[string]any{"url": srv.URL + "/version", "request": map[string]any{"PRIVATE-TOKEN": token}, "json": []any{
			map[string]any{"path": "version"}, map[string]any{"path": "scopes", "has": "api"},
		}}, nil},
		"wrong token": {map[string]any{"url": srv.URL + "/version", "request": map[string]any{"PRIVATE-TOKEN": "glpat-other-hunter2"}, "codes": map[string]any{"401": "VCS-02"}}, []string{"VCS-02"}},
		"wrong value": {map[string]any{"url": srv.URL + "/version", "request": map[string]any{"PRIVATE-TOKEN": token}, "json": []any{
			map[string]any{"path": "version", "equals": "16"}, map[string]any{"path": "echo", "equals": "x", "code": "X-01"},
		}}, []string{"HTTP-06", "X-01"}},
		"echoed header": {map[string]any{"url": srv.URL + "/version", "request": map[string]any{"PRIVATE-TOKEN": token}, "header": map[string]any{"X-Echo": "nothing"}}, []string{"HTTP-03"}},
		"other port":    {map[string]any{"url": srv.URL + "/away", "request": map[string]any{"PRIVATE-TOKEN": token}}, []string{"HTTP-01"}},
		"in the clear":  {map[string]any{"url": srv.URL + "/plain"}, []string{"HTTP-01"}},
		"not JSON":      {map[string]any{"url": srv.URL + "/nothing", "status": []any{int64(404)}, "json": []any{map[string]any{"path": "a"}}}, []string{"HTTP-06"}},
	} {
		c.with["ca"] = ca
		res, err := Probe{}.Run(t.Context(), install.Input{With: c.with})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for _, f := range res.Findings {
			got = append(got, f.Code)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s: %s\n%+v", name, d, res.Findings)
		}
		raw, err := json.Marshal(res)
		if err != nil || bytes.Contains(raw, []byte("hunter2")) {
			t.Errorf("%s: a token shows in %s", name, raw)
		}
	}
	for name, with := range map[string]map[string]any{
		"http":     {"url": "http://127.0.0.1:1/", "request": map[string]any{"A": "b"}},
		"line end": {"url": srv.URL, "ca": ca, "request": map[string]any{"A": "b\r\nC: d"}},
	} {
		if _, err := (Probe{}).Run(t.Context(), install.Input{With: with}); err == nil || bytes.Contains([]byte(err.Error()), []byte("C: d")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOutputs(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"jwks_uri":"https://idp.example/keys"}`))
	}))
	defer srv.Close()
	res, err := Probe{}.Run(t.Context(), install.Input{With: map[string]any{"url": srv.URL, "outputs": map[string]any{"keys": "jwks_uri"}}})
	if err != nil || res.Outputs["keys"] != "https://idp.example/keys" {
		t.Errorf("%+v, %v", res, err)
	}
	if res, err = (Probe{}).Run(t.Context(), install.Input{With: map[string]any{"url": srv.URL, "outputs": map[string]any{"keys": "nothing"}}}); err == nil {
		t.Errorf("%+v", res)
	}
}
