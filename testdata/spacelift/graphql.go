package spacelift

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"
)

type pool struct {
	id, name, csr, token, space string
	asked                       int
}

type stack struct {
	id   string
	in   map[string]any
	runs []*run
}

type run struct {
	id        string
	created   int64
	script    []string
	at        int
	confirmed bool
}

// vars are a request's variables.
type vars map[string]any

func (v vars) text(name string) string {
	s, _ := v[name].(string)
	return s
}

// fields are the root fields that the stand-in knows.
func (s *Server) fields() map[string]func(vars) (any, error) {
	return map[string]func(vars) (any, error){
		"apiKeyUser": s.login,
		"viewer": func(vars) (any, error) {
			return map[string]any{"id": s.o.KeyID, "name": "airlock", "admin": !s.o.NoAdmin}, nil
		},
		"debugInfo": func(vars) (any, error) { return map[string]any{"selfHostedVersion": s.o.Version}, nil },
		"workerPools": func(vars) (any, error) {
			out := []any{}
			for _, p := range s.pools {
				out = append(out, map[string]any{"id": p.id, "name": p.name})
			}
			return out, nil
		},
		"workerPool":       s.pool,
		"workerPoolCreate": s.poolCreate,
		"accountUpdateDefaultWorkerPoolRunnerImages": func(v vars) (any, error) {
			s.runner = v.text("img")
			return map[string]any{"__typename": "Account"}, nil
		},
		"gitlabIntegration":                    s.vcsRead("gitlab"),
		"gitlabIntegrationCreate":              s.vcsCreate("gitlab", "apiHost", "token"),
		"bitbucketDatacenterIntegration":       s.vcsRead("bitbucket"),
		"bitbucketDatacenterIntegrationCreate": s.vcsCreate("bitbucket", "apiHost", "username", "token"),
		"azureDevOpsRepoIntegration":           s.vcsRead("azure"),
		"azureDevOpsRepoIntegrationCreate":     s.vcsCreate("azure", "apiHost", "token"),
		"stacks": func(vars) (any, error) {
			out := []any{}
			for _, st := range s.stacks {
				out = append(out, st.show())
			}
			return out, nil
		},
		"stackCreate": s.stackCreate,
		"stack":       s.stack,
		"runTrigger":  s.trigger,
		"runConfirm":  s.confirm,
	}
}

// rootField finds the root fields of a document that has no nested arguments
// before them: enough for the checklist's.
var rootField = regexp.MustCompile(`([A-Za-z_]+)\s*[({]|__typename`)

func (s *Server) graphql(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Query     string `json:"query"`
		Variables vars   `json:"variables"`
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&req); err != nil || strings.Count(req.Query, "{") != strings.Count(req.Query, "}") {
		refuse(w, "the request is no GraphQL document")
		return
	}
	_, body, _ := strings.Cut(req.Query, "{")
	if strings.TrimSpace(strings.Trim(req.Query, "{} ")) == "__typename" {
		reply(w, map[string]any{"data": map[string]any{"__typename": "Query"}})
		return
	}
	data, known := map[string]any{}, s.fields()
	for _, m := range rootField.FindAllStringSubmatch(body, -1) {
		field, ok := known[m[1]]
		if !ok || depthAt(body, m[0]) > 0 {
			continue
		}
		if m[1] != "apiKeyUser" && !s.known(r) {
			w.WriteHeader(http.StatusUnauthorized)
			refuse(w, "unauthorized")
			return
		}
		s.calls[m[1]]++
		v, err := field(req.Variables)
		if err != nil {
			refuse(w, err.Error())
			return
		}
		data[m[1]] = v
	}
	if len(data) == 0 {
		refuse(w, "the schema has no such field")
		return
	}
	reply(w, map[string]any{"data": data})
}

// depthAt is how deep part, found in body, is nested.
func depthAt(body, part string) int {
	before := body[:strings.Index(body, part)]
	return strings.Count(before, "{") - strings.Count(before, "}")
}

func refuse(w http.ResponseWriter, message string) {
	reply(w, map[string]any{"errors": []any{map[string]any{"message": message}}, "data": nil})
}

func (s *Server) login(v vars) (any, error) {
	s.logins++
	if v.text("id") != s.o.KeyID {
		return nil, nil
	}
	if v.text("secret") != s.o.KeySecret {
		// A server that echoes: nothing of it may come through.
		return nil, fmt.Errorf("invalid secret %q", v.text("secret"))
	}
	token, until := "eyJ."+secret()+".sig", s.now().Add(s.o.TokenLife)
	s.tokens[token] = until
	return map[string]any{"jwt": token, "validUntil": until.Unix()}, nil
}

func (s *Server) pool(v vars) (any, error) {
	for _, p := range s.pools {
		if p.id != v.text("id") {
			continue
		}
		p.asked++
		workers := []Worker{{ID: "w1"}}
		if s.o.Workers != nil {
			workers = s.o.Workers(p.asked)
		}
		list := []any{}
		for _, w := range workers {
			list = append(list, map[string]any{"id": w.ID, "busy": w.Busy, "drained": w.Drained})
		}
		return map[string]any{"id": p.id, "name": p.name, "workers": list}, nil
	}
	return nil, nil
}

// AddPool adds a pool, as somebody might have in the UI.
func (s *Server) AddPool(name string) (id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &pool{id: "pool-" + secret()[:8], name: name}
	s.pools = append(s.pools, p)
	return p.id
}

func (s *Server) poolCreate(v vars) (any, error) {
	text, err := base64.StdEncoding.DecodeString(v.text("csr"))
	block, _ := pem.Decode(text)
	if err != nil || block == nil || block.Type != "CERTIFICATE REQUEST" || s.o.RefuseCSR {
		return nil, errors.New("certificate signing request is invalid")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || csr.CheckSignature() != nil {
		return nil, errors.New("certificate signing request is not signed by its key")
	}
	p := &pool{id: "pool-" + secret()[:8], name: v.text("name"), csr: string(text), space: v.text("space")}
	p.token = "token-of-" + p.id + "-" + secret()
	s.pools = append(s.pools, p)
	return map[string]any{"id": p.id, "name": p.name, "config": p.token}, nil
}

func (s *Server) vcsRead(kind string) func(vars) (any, error) {
	return func(v vars) (any, error) {
		for _, it := range s.vcs[kind] {
			if kind == "bitbucket" && v.text("id") == "" || it["id"] == v.text("id") {
				return it, nil
			}
		}
		return nil, nil
	}
}

func (s *Server) vcsCreate(kind string, need ...string) func(vars) (any, error) {
	return func(v vars) (any, error) {
		for _, name := range need {
			if v.text(name) == "" {
				return nil, fmt.Errorf("variable %s is missing", name)
			}
		}
		custom, _ := v["custom"].(map[string]any)
		name, _ := custom["name"].(string)
		if name == "" || custom["spaceID"] == nil {
			return nil, errors.New("customInput lacks name or spaceID")
		}
		it := map[string]any{"id": name, "name": name, "webhookUrl": s.URL + "/webhooks/" + kind, "webhookSecret": "hook-" + secret()}
		s.vcs[kind] = append(s.vcs[kind], it)
		return it, nil
	}
}

func (st *stack) show() map[string]any {
	runs := []any{}
	for _, r := range st.runs {
		runs = append(runs, map[string]any{"id": r.id, "state": r.state(), "createdAt": r.created})
	}
	return map[string]any{"id": st.id, "name": st.in["name"], "labels": st.in["labels"], "workerPool": map[string]any{"id": st.in["workerPool"]}, "runs": runs}
}

func (s *Server) stackCreate(v vars) (any, error) {
	in, _ := v["in"].(map[string]any)
	if s.o.UnknownVCS {
		return nil, fmt.Errorf("repository %v not found", in["repository"])
	}
	if v["ms"] != true || in["name"] == nil || in["repository"] == nil || in["vendorConfig"] == nil || in["workerPool"] == nil {
		return nil, errors.New("the stack lacks something")
	}
	st := &stack{id: "stack-" + secret()[:8], in: in}
	s.stacks = append(s.stacks, st)
	return st.show(), nil
}

// AddStack adds a stack of a pool.
func (s *Server) AddStack(name, poolID string) (id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &stack{id: "stack-" + secret()[:8], in: map[string]any{"name": name, "workerPool": poolID, "labels": []any{}}}
	s.stacks = append(s.stacks, st)
	return st.id
}

func (s *Server) find(v vars) (*stack, *run) {
	for _, st := range s.stacks {
		if st.id != v.text("s") {
			continue
		}
		for _, r := range st.runs {
			if r.id == v.text("r") {
				return st, r
			}
		}
		return st, nil
	}
	return nil, nil
}

// stack answers for a stack and, where one is named, its run, which moves on by
// one state each time it is asked.
func (s *Server) stack(v vars) (any, error) {
	st, r := s.find(v)
	if st == nil {
		return nil, nil
	}
	out := st.show()
	if r == nil {
		return out, nil
	}
	out["run"] = map[string]any{
		"id": r.id, "state": r.state(), "history": r.history(),
		"logs": map[string]any{"exists": !s.o.NoLogs, "messages": []any{map[string]any{"message": "Initializing..."}}},
	}
	if r.at < len(r.script)-1 && (r.state() != "UNCONFIRMED" || r.confirmed) {
		r.at++
	}
	return out, nil
}

func (r *run) state() string { return r.script[r.at] }

// history is newest first, as the product's interface shows it.
func (r *run) history() []any {
	var out []any
	for i := r.at; i >= 0; i-- {
		state := r.script[i]
		terminal := strings.Contains("FINISHED FAILED STOPPED CANCELED DISCARDED SKIPPED", state)
		note := ""
		if state == "FAILED" {
			note = "exit status 1"
		}
		out = append(out, map[string]any{"state": state, "terminal": terminal, "timestamp": r.created + int64(i), "note": note})
	}
	return out
}

func (s *Server) trigger(v vars) (any, error) {
	st, _ := s.find(v)
	if st == nil {
		return nil, errors.New("stack not found")
	}
	r := &run{id: "run-" + secret()[:8], created: time.Now().Unix(), script: s.o.Script}
	st.runs = append([]*run{r}, st.runs...)
	return map[string]any{"id": r.id}, nil
}

func (s *Server) confirm(v vars) (any, error) {
	_, r := s.find(v)
	if r == nil || r.state() != "UNCONFIRMED" {
		return nil, errors.New("run is not waiting for a confirmation")
	}
	r.confirmed = true
	return map[string]any{"id": r.id}, nil
}
