// Package harbortest is a stand-in for Harbor.
package harbortest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/airlock-project/airlock/mirror/target/targettest"
)

// StandIn plays Harbor's API and login as observed on Harbor 2.16.0: a token
// for anyone who asks, users/current refusing robots, a session cookie that
// makes the next write fail, existence of projects shown to every account.
//
// Not confirmed against the real product: the body of a repository's 404, and
// what a robot without the right gets from retentions (403 here).
type StandIn struct {
	*targettest.Server
	Registry targettest.Registry // behind /v2/

	Mu       sync.Mutex          // guards what follows
	Accounts map[string]string   // name to secret
	Push     map[string]bool     // accounts that may push
	Readonly bool                // system mode
	Projects map[string]string   // name to JSON
	Answers  map[string]Answer   // by "METHOD path", before all else
	Asked    []string            // "METHOD path"
	Shown    []string            // Authorization headers
	Posted   map[string]any      // last project
	Repos    map[string][]string // repositories by project
}

// Answer is one instead of the stand-in's.
type Answer struct {
	Status int
	Body   string
}

// Accounts that New makes, and their secret.
const (
	Robot  = "robot$apps+mirror" // of project apps
	User   = "operator"
	Secret = "topsecret"
)

// New starts a stand-in without projects.
func New(t testing.TB) *StandIn {
	t.Helper()
	s := &StandIn{
		Accounts: map[string]string{Robot: Secret, User: Secret},
		Push:     map[string]bool{Robot: true, User: true},
		Projects: map[string]string{}, Answers: map[string]Answer{}, Repos: map[string][]string{},
	}
	s.Server = targettest.Serve(t, s, "example.com", "harbor.site.test")
	return s
}

// Reply writes an answer.
func Reply(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body) // a client that left is the test's to notice
}

// Refusal is the body of an error.
func Refusal(code, message string) string {
	data, err := json.Marshal(map[string]any{"errors": []any{map[string]string{"code": code, "message": message}}})
	if err != nil {
		return ""
	}
	return string(data)
}

// ServeHTTP answers for API, token service and registry.
func (s *StandIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if targettest.Repository(r.URL.Path) != "" {
		s.serveContent(w, r)
		return
	}
	s.Mu.Lock()
	defer s.Mu.Unlock()
	s.Asked = append(s.Asked, r.Method+" "+r.URL.Path)
	if a := r.Header.Get("Authorization"); a != "" {
		s.Shown = append(s.Shown, a)
	}
	http.SetCookie(w, &http.Cookie{Name: "sid", Value: "1", Path: "/", HttpOnly: true})
	if _, err := r.Cookie("sid"); err == nil && r.Method != http.MethodGet && r.Method != http.MethodHead {
		Reply(w, 403, Refusal("FORBIDDEN", "CSRF token not found in request"))
		return
	}
	user, known := s.who(r)
	if a, ok := s.Answers[r.Method+" "+r.URL.Path]; ok {
		Reply(w, a.Status, a.Body)
		return
	}
	switch {
	case r.URL.Path == "/v2/":
		if !known {
			w.Header().Set("Www-Authenticate", `Bearer realm="https://`+r.Host+`/service/token",service="harbor-registry"`)
			Reply(w, 401, Refusal("UNAUTHORIZED", "unauthorized: unauthorized"))
			return
		}
		Reply(w, 200, "{}")
	case r.URL.Path == "/service/token":
		s.token(w, r, user, known)
	case r.URL.Path == "/api/v2.0/systeminfo":
		if known {
			Reply(w, 200, fmt.Sprintf(`{"auth_mode":"db_auth","harbor_version":"v2.16.0","read_only":%t}`, s.Readonly))
			return
		}
		Reply(w, 200, `{"auth_mode":"db_auth","self_registration":false}`)
	case r.URL.Path == "/api/v2.0/users/current" && strings.Contains(user, "$"):
		Reply(w, 412, Refusal("PRECONDITION", "get security context: robot"))
	case !known:
		Reply(w, 401, Refusal("UNAUTHORIZED", "unauthorized"))
	default:
		s.api(w, r, user)
	}
}

// who reads the account out of Basic or of a token that the stand-in issued. A
// token for nobody is one, and knows nobody.
func (s *StandIn) who(r *http.Request) (user string, known bool) {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		parts := strings.Split(token, ".")
		if len(parts) != 3 {
			return "", false
		}
		raw, err := base64.RawURLEncoding.DecodeString(parts[1])
		var claims struct{ Sub string }
		if err != nil || json.Unmarshal(raw, &claims) != nil {
			return "", false
		}
		return claims.Sub, claims.Sub != ""
	}
	user, password, _ := r.BasicAuth()
	return user, user != "" && s.Accounts[user] == password
}

func (s *StandIn) token(w http.ResponseWriter, r *http.Request, user string, known bool) {
	push := known && s.Push[user]
	if r.Method != http.MethodGet {
		Reply(w, 405, "")
		return
	}
	name := strings.TrimSuffix(strings.TrimPrefix(r.URL.Query().Get("scope"), "repository:"), ":pull,push")
	actions := []string{}
	if push {
		actions = []string{"pull", "push"}
	}
	if !known {
		user = ""
	}
	claims, err := json.Marshal(map[string]any{"iss": "harbor-token-issuer", "sub": user, "access": []any{map[string]any{"type": "repository", "name": name, "actions": actions}}})
	if err != nil {
		Reply(w, 500, "")
		return
	}
	enc := base64.RawURLEncoding.EncodeToString
	Reply(w, 200, fmt.Sprintf(`{"token":"%s.%s.%s","access_token":"","expires_in":1800}`, enc([]byte(`{"alg":"RS256"}`)), enc(claims), enc([]byte("signature"))))
}

func (s *StandIn) api(w http.ResponseWriter, r *http.Request, user string) {
	rest := strings.TrimPrefix(r.URL.Path, "/api/v2.0/projects")
	switch {
	case rest == "" && r.Method == http.MethodHead:
		if _, ok := s.Projects[r.URL.Query().Get("project_name")]; !ok {
			Reply(w, 404, "")
			return
		}
		Reply(w, 200, "")
	case rest == "" && r.Method == http.MethodPost:
		s.create(w, r, user)
	default:
		name, sub, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "/")
		body, ok := s.Projects[name]
		switch {
		case !ok || r.Header.Get("X-Is-Resource-Name") != "true":
			Reply(w, 403, Refusal("FORBIDDEN", "forbidden"))
		case sub == "":
			Reply(w, 200, body)
		case sub == "summary":
			Reply(w, 200, `{"repo_count":0,"quota":{"hard":{"storage":-1},"used":{"storage":0}}}`)
		case sub == "immutabletagrules":
			Reply(w, 200, `[]`)
		case strings.HasPrefix(sub, "repositories/"):
			for _, have := range s.Repos[name] {
				// The server has undone one escape, Harbor undoes the other.
				if sub == "repositories/"+strings.ReplaceAll(have, "/", "%2F") {
					Reply(w, 200, `{}`)
					return
				}
			}
			Reply(w, 404, Refusal("NOT_FOUND", "repository not found"))
		default:
			Reply(w, 403, Refusal("FORBIDDEN", "forbidden"))
		}
	}
}

func (s *StandIn) create(w http.ResponseWriter, r *http.Request, user string) {
	if strings.Contains(user, "+") {
		Reply(w, 403, Refusal("FORBIDDEN", "Only system level robot can create project"))
		return
	}
	if err := json.NewDecoder(r.Body).Decode(&s.Posted); err != nil {
		Reply(w, 400, Refusal("BAD_REQUEST", "parse"))
		return
	}
	name, _ := s.Posted["project_name"].(string)
	if _, ok := s.Projects[name]; ok {
		Reply(w, 409, Refusal("CONFLICT", "The project named "+name+" already exists"))
		return
	}
	if strings.ToLower(name) != name {
		Reply(w, 400, Refusal("BAD_REQUEST", "project name is not in lower case or contains illegal characters"))
		return
	}
	s.Projects[name] = `{"metadata":{"public":"false"}}`
	w.Header().Set("Location", "/api/v2.0/projects/7")
	Reply(w, 201, "")
}

// serveContent answers below /v2/, for Basic and for tokens.
func (s *StandIn) serveContent(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, &http.Cookie{Name: "sid", Value: "1", Path: "/", HttpOnly: true})
	if refusal := s.letIn(w, r); refusal.Status != 0 {
		refusal.Write(w)
		return
	}
	s.Registry.ServeHTTP(w, r)
}

func (s *StandIn) letIn(w http.ResponseWriter, r *http.Request) targettest.Refusal {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if a := r.Header.Get("Authorization"); a != "" {
		s.Shown = append(s.Shown, a)
	}
	write := r.Method != http.MethodGet && r.Method != http.MethodHead
	if _, err := r.Cookie("sid"); err == nil && write {
		return targettest.Refusal{Status: 403, Code: "FORBIDDEN", Message: "CSRF token not found in request"}
	}
	user, known := s.who(r)
	name := targettest.Repository(r.URL.Path)
	project, repository, _ := strings.Cut(name, "/")
	_, there := s.Projects[project]
	switch {
	case !known, write && !s.Push[user]:
		w.Header().Set("Www-Authenticate", `Bearer realm="https://`+r.Host+`/service/token",service="harbor-registry",scope="repository:`+name+`:pull,push"`)
		message := "unauthorized to access repository: " + name + ", action: push: unauthorized to access repository: " + name + ", action: push"
		return targettest.Refusal{Status: 401, Code: "UNAUTHORIZED", Message: message}
	case !there:
		message := "project " + project + " not found"
		return targettest.Refusal{Status: 401, Code: "UNAUTHORIZED", Message: message + ": " + message}
	case write && s.Readonly:
		return targettest.Refusal{Status: 403, Code: "DENIED", Message: "The system is in read only mode. Any modification is prohibited."}
	}
	if tag := targettest.Tag(r); tag != "" && strings.Contains(s.Answers["GET /api/v2.0/projects/"+project+"/immutabletagrules"].Body, `"pattern"`) {
		if _, old := s.Registry.Has(name, tag); old {
			return targettest.Refusal{Status: 412, Code: "PRECONDITION", Message: "Failed to process request due to '" + repository + ":" + tag + "' configured as immutable."}
		}
	}
	return targettest.Refusal{}
}
