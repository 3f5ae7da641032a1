package graphql

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/spacelift"
	"github.com/google/go-cmp/cmp"
)

const (
	queryToken = "mutation Token($id: ID!, $secret: String!) { apiKeyUser(id: $id, secret: $secret) { jwt validUntil } }"
	queryPool  = "query Pool($id: ID!) { workerPool(id: $id) { id name workers { id busy drained } } }"
	queryPools = "query Pools { workerPools { id name } }"
	queryRun   = "query Run($s: ID!, $r: ID!) { stack(id: $s) { run(id: $r) { state history { state terminal timestamp note } } } }"
	goodCSR    = "LS0tLS1CRUdJTg=="
)

// session is the part of every step's with.
func session(s *spacelift.Server) map[string]any {
	return map[string]any{
		"url": s.URL + "/graphql", "ca": s.CAFile,
		"login":  map[string]any{"query": queryToken, "token": "apiKeyUser.jwt", "expires": "apiKeyUser.validUntil"},
		"key_id": "01KEYOFTHEADMIN", "key_secret": "3f1c9f0e-secret-of-the-admin-key",
	}
}

func with(s *spacelift.Server, more map[string]any) map[string]any {
	out := session(s)
	maps.Copy(out, more)
	return out
}

// clean checks that nothing secret is in what a step gave back.
func clean(t *testing.T, s *spacelift.Server, res install.Result, err error) {
	t.Helper()
	raw, encErr := json.Marshal(res)
	if encErr != nil {
		t.Fatal(encErr)
	}
	text := string(raw) + fmt.Sprint(err)
	for _, secret := range append(s.Tokens(), "3f1c9f0e-secret-of-the-admin-key") {
		if strings.Contains(text, secret) {
			t.Errorf("a secret shows: %s", text)
		}
	}
}

func codes(t *testing.T, kind install.Coder, res install.Result) []string {
	t.Helper()
	var out []string
	for _, f := range res.Findings {
		if known, ok := kind.Codes()[f.Code]; ok {
			for _, field := range slices.Sorted(maps.Keys(f.Fields)) {
				if !slices.Contains(known, field) {
					t.Errorf("field %s is not listed with %s", field, f.Code)
				}
			}
		}
		if f.Severity != install.SeverityInfo {
			out = append(out, f.Code)
		}
	}
	return out
}

func TestQuery(t *testing.T) {
	s := spacelift.Start(t, spacelift.Options{Workers: func(int) []spacelift.Worker {
		return []spacelift.Worker{{ID: "a", Busy: true}, {ID: "b"}, {ID: "c", Drained: true}}
	}})
	id := s.AddPool("main")
	pool := map[string]any{"query": queryPool, "variables": map[string]any{"id": id}}
	expect := func(checks ...any) map[string]any {
		return with(s, map[string]any{"query": pool["query"], "variables": pool["variables"], "expect": checks})
	}
	idle := map[string]any{"busy": false, "drained": false}
	for name, c := range map[string]struct {
		with map[string]any
		want []string
	}{
		"good":       {expect(map[string]any{"path": "workerPool.workers", "where": idle, "min": 1}, map[string]any{"path": "workerPool.name", "equals": "main"}), nil},
		"too few":    {expect(map[string]any{"path": "workerPool.workers", "where": idle, "min": 2, "code": "WK-02"}), []string{"WK-02"}},
		"not equal":  {expect(map[string]any{"path": "workerPool.name", "equals": "other"}), []string{"GQL-04"}},
		"not there":  {expect(map[string]any{"path": "workerPool.nothing"}), []string{"GQL-04"}},
		"unknown CA": {with(s, map[string]any{"ca": nil, "query": queryPools}), []string{"GQL-05"}},
		"bad key":    {with(s, map[string]any{"key_secret": "3f1c9f0e-wrong-secret", "query": queryPools}), []string{"GQL-02"}},
		"no key":     {with(s, map[string]any{"key_id": "01OTHER", "query": queryPools, "codes": map[string]any{"GQL-02": "KEY-02"}}), []string{"KEY-02"}},
		"refused":    {with(s, map[string]any{"query": "{ nothing { at { all } } }"}), []string{"GQL-03"}},
		"not there 404": {
			with(s, map[string]any{"url": s.URL + "/elsewhere", "query": queryPools, "codes": map[string]any{"404": "UI-02"}}), []string{"UI-02"},
		},
		"anonymous": {map[string]any{"url": s.URL + "/graphql", "ca": s.CAFile, "query": "{ __typename }", "answers": true}, nil},
		"anonymous, asked for more": {
			map[string]any{"url": s.URL + "/graphql", "ca": s.CAFile, "query": queryPools, "answers": true}, nil,
		},
		"anonymous, a page": {
			map[string]any{"url": s.URL + "/login", "ca": s.CAFile, "query": "{ __typename }", "answers": true}, []string{"GQL-01"},
		},
	} {
		if c.with["ca"] == nil {
			delete(c.with, "ca")
		}
		res, err := Query{}.Run(t.Context(), install.Input{With: c.with})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d := cmp.Diff(c.want, codes(t, Query{}, res)); d != "" {
			t.Errorf("%s: %s\n%+v", name, d, res.Findings)
		}
		clean(t, s, res, err)
	}
}

func TestQueryOutputs(t *testing.T) {
	s := spacelift.Start(t, spacelift.Options{})
	res, err := Query{}.Run(t.Context(), install.Input{With: with(s, map[string]any{
		"query": "{ debugInfo { selfHostedVersion } }", "outputs": map[string]any{"version": "debugInfo.selfHostedVersion"},
	})})
	if err != nil || res.Outputs["version"] != "4.3.0" {
		t.Errorf("outputs %v, error %v", res.Outputs, err)
	}
}

// TestSteady shows that what holds once and then does not is found.
func TestSteady(t *testing.T) {
	s := spacelift.Start(t, spacelift.Options{Workers: func(asked int) []spacelift.Worker {
		if asked < 3 {
			return []spacelift.Worker{{ID: "a"}}
		}
		return nil
	}})
	id := s.AddPool("main")
	args := with(s, map[string]any{
		"query": queryPool, "variables": map[string]any{"id": id},
		"expect": []any{map[string]any{"path": "workerPool.workers", "min": 1, "code": "WK-01"}},
		"steady": map[string]any{"for": "1h", "every": "1ms", "code": "WK-03"},
	})
	res, err := Query{}.Run(t.Context(), install.Input{With: args})
	if err != nil || !slices.Equal(codes(t, Query{}, res), []string{"WK-03"}) {
		t.Errorf("findings %+v, error %v", res.Findings, err)
	}
	if n := s.Calls("apiKeyUser"); n != 1 {
		t.Errorf("the key was sent %d times for one token that holds", n)
	}
}

// TestRenewal shows that a token is renewed before it ends, and when a server
// has forgotten it.
func TestRenewal(t *testing.T) {
	s := spacelift.Start(t, spacelift.Options{TokenLife: 30 * time.Second}) // shorter than the margin
	id := s.AddPool("main")
	args := with(s, map[string]any{
		"query": queryPool, "variables": map[string]any{"id": id}, "steady": map[string]any{"for": "3ms", "every": "1ms"},
	})
	res, err := Query{}.Run(t.Context(), install.Input{With: args})
	if err != nil || len(res.Findings) > 0 || s.Calls("apiKeyUser") < 2 {
		t.Errorf("findings %+v, error %v, logins %d", res.Findings, err, s.Calls("apiKeyUser"))
	}

	asked := 0
	s = spacelift.Start(t, spacelift.Options{Workers: func(n int) []spacelift.Worker {
		asked = n
		return []spacelift.Worker{{ID: "a"}}
	}})
	id = s.AddPool("main")
	go func() {
		for s.Calls("workerPool") == 0 && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
		s.Forget()
	}()
	args = with(s, map[string]any{
		"query": queryPool, "variables": map[string]any{"id": id}, "steady": map[string]any{"for": "200ms", "every": "5ms"},
	})
	if res, err = (Query{}).Run(t.Context(), install.Input{With: args}); err != nil || len(res.Findings) > 0 {
		t.Errorf("findings %+v, error %v", res.Findings, err)
	}
	if s.Calls("apiKeyUser") != 2 {
		t.Errorf("%d logins for %d questions, want 2", s.Calls("apiKeyUser"), asked)
	}
}

func makePool(s *spacelift.Server, csr string) map[string]any {
	return with(s, map[string]any{
		"what": "worker pool main",
		"find": map[string]any{"query": queryPools, "path": "workerPools", "where": map[string]any{"name": "main"}, "outputs": map[string]any{"pool.id": "id"}},
		"query": `mutation MkPool($name: String!, $csr: String!) {
			workerPoolCreate(name: $name, certificateSigningRequest: $csr) { id config name } }`,
		"variables": map[string]any{"name": "main", "csr": csr},
		"outputs":   map[string]any{"pool.id": "workerPoolCreate.id"},
		"keep":      map[string]any{"pool.token_file": map[string]any{"path": "workerPoolCreate.config", "file": "pool-main.token"}},
	})
}

func TestCall(t *testing.T) {
	s := spacelift.Start(t, spacelift.Options{})
	dir := filepath.Join(t.TempDir(), "secrets")
	in := install.Input{With: makePool(s, testCSR), Secrets: dir}
	if c, err := (Call{}).Plan(t.Context(), in); err != nil || c.Nothing || s.Calls("workerPoolCreate") != 0 {
		t.Fatalf("plan %+v, error %v", c, err)
	}
	res, err := Call{}.Apply(t.Context(), in)
	if err != nil || len(res.Findings) > 0 || !res.Changed {
		t.Fatalf("result %+v, error %v", res, err)
	}
	path, _ := res.Outputs["pool.token_file"].(string)
	token, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(token), "token-of-") || path != filepath.Join(dir, "pool-main.token") {
		t.Errorf("token file %q: %v", path, err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode() != 0o600 {
		t.Errorf("mode %v, error %v", fi.Mode(), err)
	}
	raw, err := json.Marshal(res)
	if err != nil || strings.Contains(string(raw), string(token)) {
		t.Errorf("the token shows in %s", raw)
	}
	if c, err := (Call{}).Plan(t.Context(), in); err != nil || !c.Nothing {
		t.Errorf("plan after it: %+v, error %v", c, err)
	}
	again, err := Call{}.Apply(t.Context(), in)
	if err != nil || again.Changed || s.Calls("workerPoolCreate") != 1 {
		t.Errorf("second time: %+v, error %v, created %d times", again, err, s.Calls("workerPoolCreate"))
	}
	if d := cmp.Diff(res.Outputs, again.Outputs); d != "" {
		t.Error(d)
	}
	clean(t, s, res, nil)

	// The pool is there and its token is not: it cannot be had again.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	res, err = Call{}.Apply(t.Context(), in)
	if err != nil || !slices.Equal(codes(t, Call{}, res), []string{"GQL-06"}) {
		t.Errorf("result %+v, error %v", res, err)
	}
	if _, err := (Call{}).Plan(t.Context(), in); err == nil {
		t.Error("the plan does not say that the token is lost")
	}
}

func TestCallRefused(t *testing.T) {
	s := spacelift.Start(t, spacelift.Options{})
	dir := t.TempDir()
	res, err := Call{}.Apply(t.Context(), install.Input{With: makePool(s, goodCSR), Secrets: dir})
	if err != nil || !slices.Equal(codes(t, Call{}, res), []string{"GQL-03"}) || !strings.Contains(res.Findings[0].Detail, "signing request") {
		t.Errorf("result %+v, error %v", res, err)
	}
	// A secret of another life is not overwritten.
	file := filepath.Join(dir, "pool-main.token")
	if err := os.WriteFile(file, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	res, err = Call{}.Apply(t.Context(), install.Input{With: makePool(s, testCSR), Secrets: dir})
	if err != nil || !slices.Equal(codes(t, Call{}, res), []string{"GQL-06"}) || s.Calls("workerPoolCreate") != 1 {
		t.Errorf("result %+v, error %v", res, err)
	}
	if have, err := os.ReadFile(file); err != nil || string(have) != "old" {
		t.Errorf("the file holds %q: %v", have, err)
	}
}

func waitRun(s *spacelift.Server, stack, run string) map[string]any {
	vars := map[string]any{"s": stack, "r": run}
	return with(s, map[string]any{
		"what": "run " + run, "query": queryRun, "variables": vars, "state": "stack.run.state", "history": "stack.run.history",
		"done": []any{"FINISHED"}, "failed": []any{"FAILED", "STOPPED", "CANCELED", "DISCARDED", "SKIPPED"},
		"on": map[string]any{"UNCONFIRMED": map[string]any{
			"query": "mutation Confirm($s: ID!, $r: ID!) { runConfirm(stack: $s, run: $r) { id } }", "variables": vars,
		}},
		"within": "100ms", "every": "1ms",
		"stuck": map[string]any{"QUEUED": "RUN-01", "PREPARING": "RUN-02"}, "ended_in": map[string]any{"INITIALIZING": "RUN-03"},
	})
}

func TestWait(t *testing.T) {
	for name, c := range map[string]struct {
		script  []string
		want    []string
		says    string
		confirm int
	}{
		"good":         {script: spacelift.Good(), confirm: 1},
		"stuck":        {script: []string{"QUEUED"}, want: []string{"RUN-01"}, says: "still QUEUED after 100ms"},
		"stuck later":  {script: []string{"QUEUED", "PREPARING"}, want: []string{"RUN-02"}},
		"unknown":      {script: []string{"PLANNING"}, want: []string{"GQL-07"}, says: "PLANNING"},
		"failed":       {script: []string{"QUEUED", "PREPARING", "INITIALIZING", "FAILED"}, want: []string{"RUN-03"}, says: "exit status 1"},
		"failed later": {script: []string{"QUEUED", "INITIALIZING", "PLANNING", "FAILED"}, want: []string{"GQL-08"}, says: "FAILED in PLANNING"},
	} {
		s := spacelift.Start(t, spacelift.Options{Script: c.script})
		stack := s.AddStack("test", "p")
		made, err := Call{}.Apply(t.Context(), install.Input{With: with(s, map[string]any{
			"query": "mutation Go($s: ID!) { runTrigger(stack: $s, runType: TRACKED) { id } }", "variables": map[string]any{"s": stack},
			"outputs": map[string]any{"run.id": "runTrigger.id"},
		})})
		if err != nil || len(made.Findings) > 0 {
			t.Fatalf("%s: %+v, %v", name, made, err)
		}
		in := install.Input{With: waitRun(s, stack, made.Outputs["run.id"].(string))}
		res, err := Wait{}.Apply(t.Context(), in)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d := cmp.Diff(c.want, codes(t, Wait{}, res)); d != "" {
			t.Errorf("%s: %s\n%+v", name, d, res.Findings)
		}
		if len(res.Findings) > 0 && !strings.Contains(res.Findings[0].Detail, c.says) {
			t.Errorf("%s: %q does not say %q", name, res.Findings[0].Detail, c.says)
		}
		if n := s.Calls("runConfirm"); n != c.confirm {
			t.Errorf("%s: confirmed %d times, want %d", name, n, c.confirm)
		}
		plan, err := Wait{}.Plan(t.Context(), in)
		if err != nil || plan.Nothing != (c.want == nil) {
			t.Errorf("%s: plan %+v, error %v", name, plan, err)
		}
		clean(t, s, res, err)
	}
}

// TestWaitOutlasts shows that a server that is away for a while is no end.
func TestWaitOutlasts(t *testing.T) {
	s := spacelift.Start(t, spacelift.Options{Script: []string{"FINISHED"}})
	stack := s.AddStack("test", "p")
	made, err := Call{}.Apply(t.Context(), install.Input{With: with(s, map[string]any{
		"query": "mutation Go($s: ID!) { runTrigger(stack: $s) { id } }", "variables": map[string]any{"s": stack}, "outputs": map[string]any{"id": "runTrigger.id"},
	})})
	if err != nil {
		t.Fatal(err)
	}
	args := waitRun(s, stack, made.Outputs["id"].(string))
	s.Change(func(o *spacelift.Options) { o.Status = http.StatusBadGateway })
	res, err := Wait{}.Apply(t.Context(), install.Input{With: args})
	if err != nil || !slices.Equal(codes(t, Wait{}, res), []string{"GQL-01"}) {
		t.Errorf("away to the end: %+v, error %v", res, err)
	}
	args["within"] = "1m"
	go s.Change(func(o *spacelift.Options) { o.Status = 0 })
	if res, err = (Wait{}).Apply(t.Context(), install.Input{With: args}); err != nil || len(res.Findings) > 0 {
		t.Errorf("away for a while: %+v, error %v", res, err)
	}
}

func TestNewer(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	k := Call{Now: func() time.Time { return now }}
	for _, c := range []struct {
		e    map[string]any
		want bool
	}{
		{map[string]any{"createdAt": json.Number("1799999000")}, true},
		{map[string]any{"createdAt": json.Number("1799990000")}, false},
		{map[string]any{}, false},
	} {
		if got, err := k.young(c.e, &newer{Field: "createdAt", Than: "1h"}); err != nil || got != c.want {
			t.Errorf("%v is young: %v, %v", c.e, got, err)
		}
	}
}

func TestArguments(t *testing.T) {
	s := spacelift.Start(t, spacelift.Options{})
	for name, more := range map[string]map[string]any{
		"no query":        {},
		"plain http":      {"query": queryPools, "url": "http://127.0.0.1:1/graphql"},
		"user in the url": {"query": queryPools, "url": "https://a:b@127.0.0.1:1/graphql"},
		"no secret":       {"query": queryPools, "key_secret": ""},
		"timeout":         {"query": queryPools, "timeout": "soon"},
		"unknown":         {"query": queryPools, "querry": "x"},
		"CA":              {"query": queryPools, "ca": "/nonexistent/ca"},
		"login":           {"query": queryPools, "login": map[string]any{"query": "x"}},
	} {
		if res, err := (Query{}).Run(t.Context(), install.Input{With: with(s, more)}); err == nil {
			t.Errorf("%s: accepted: %+v", name, res)
		}
	}
	if _, err := (Wait{}).Apply(t.Context(), install.Input{With: with(s, map[string]any{"query": queryRun})}); err == nil {
		t.Error("a wait without a state is accepted")
	}
	if _, err := (Call{}).Apply(t.Context(), install.Input{With: with(s, map[string]any{
		"query": queryPools, "keep": map[string]any{"a": map[string]any{"path": "x", "file": "../out"}},
	})}); err == nil || !strings.Contains(err.Error(), "file name") {
		t.Errorf("a kept file outside the directory: %v", err)
	}
}

// TestCallUnseen: without a way to find it, nobody can see whether it was made.
func TestCallUnseen(t *testing.T) {
	s := spacelift.Start(t, spacelift.Options{})
	in := install.Input{With: makePool(s, testCSR), Secrets: t.TempDir()}
	delete(in.With, "find")
	if c, err := (Call{}).Plan(t.Context(), in); err != nil || c.Nothing || !c.Unseen {
		t.Errorf("plan %+v, error %v", c, err)
	}
}
