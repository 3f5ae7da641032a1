package spacelift

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// routes are the paths of the server that the checklist asks for.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		if s.o.Away != "" {
			http.Redirect(w, r, s.o.Away, http.StatusFound)
			return
		}
		http.Redirect(w, r, "/login", http.StatusFound)
	})
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, _ *http.Request) { s.page(w, http.StatusOK) })
	mux.HandleFunc("GET /admin-login", func(w http.ResponseWriter, _ *http.Request) { s.page(w, max(s.o.AdminStatus, http.StatusOK)) })
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		issuer := s.o.Issuer
		if issuer == "" {
			issuer = s.URL
		}
		reply(w, map[string]any{"issuer": issuer, "jwks_uri": issuer + "/.well-known/jwks", "scopes_supported": []string{"openid"}})
	})
	mux.HandleFunc("GET /.well-known/jwks", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string]any{"keys": []any{map[string]any{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "k1", "n": "AQAB", "e": "AQAB"}}})
	})
	mux.HandleFunc("GET /selfhosted/metrics", s.metrics)
	mux.HandleFunc("POST /graphql", s.graphql)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.o.Status != 0 {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(s.o.Status)
			fmt.Fprint(w, "<html><body>gateway</body></html>")
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (s *Server) page(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", strings.TrimSpace("default-src 'self'; connect-src 'self' "+s.o.Uploads))
	w.WriteHeader(status)
	fmt.Fprint(w, "<!doctype html><title>Spacelift</title>")
}

// metrics is the usage export: a bearer of an admin's key, in batches.
func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	if !s.known(r) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if s.o.NoAdmin || s.o.Metrics != 0 {
		w.WriteHeader(max(s.o.Metrics, http.StatusForbidden))
		return
	}
	start, errStart := strconv.ParseInt(r.FormValue("start_timestamp"), 10, 64)
	end, errEnd := strconv.ParseInt(r.FormValue("end_timestamp"), 10, 64)
	if errStart != nil || errEnd != nil || end <= start {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.calls["metrics"]++
	if s.o.BrokenMetrics {
		fmt.Fprint(w, "<html>")
		return
	}
	reply(w, map[string]any{"start": start, "end": end, "usage": []any{map[string]any{"workers": 3}}})
}

// known reports whether a request carries a token that holds.
func (s *Server) known(r *http.Request) bool {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return ok && s.now().Before(s.tokens[token])
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain data does not do this
	}
	_, _ = w.Write(raw)
}

// VCS is a stand-in for the version endpoints of GitLab, Bitbucket Data Center
// and Azure DevOps Server, which answer to the token only, and for one public
// repository, infra.git with the branch main.
func VCS(token string) http.Handler {
	mux := http.NewServeMux()
	answer := func(header, want string, v any) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get(header) != want {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			reply(w, v)
		}
	}
	mux.HandleFunc("GET /api/v4/version", answer("PRIVATE-TOKEN", token, map[string]any{"version": "17.5.1-ee", "revision": "abc"}))
	mux.HandleFunc("GET /rest/api/1.0/application-properties", answer("Authorization", "Bearer "+token, map[string]any{"version": "8.19.4", "displayName": "Bitbucket"}))
	mux.HandleFunc("GET /_apis/projects", func(w http.ResponseWriter, r *http.Request) {
		if _, password, ok := r.BasicAuth(); !ok || password != token {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		reply(w, map[string]any{"count": 1, "value": []any{map[string]any{"name": "infra"}}})
	})
	mux.HandleFunc("GET /infra.git/info/refs", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
		id := strings.Repeat("0a", 20)
		fmt.Fprint(w, packet("# service=git-upload-pack\n"), "0000", packet(id+" HEAD\x00symref=HEAD:refs/heads/main\n"), packet(id+" refs/heads/main\n"), "0000")
	})
	return mux
}

// packet is a line of Git's protocol.
func packet(s string) string { return fmt.Sprintf("%04x%s", len(s)+4, s) }
