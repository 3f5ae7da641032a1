package blob

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/objectstore"
)

func with(s *objectstore.Server) map[string]any {
	return map[string]any{
		"storage": map[string]any{"type": "minio", "endpoint": s.Endpoint(), "access_key": objectstore.AccessKey, "secret_key": objectstore.SecretKey},
		"buckets": map[string]any{
			"states":  map[string]any{"name": "states", "versioning": "required", "keep": true},
			"uploads": map[string]any{"name": "uploads", "versioning": "none", "expire_days": 7, "least_days": 1},
		},
	}
}

func plannedDetails(t *testing.T, s *objectstore.Server) (install.Change, string) {
	t.Helper()
	c, err := Ensure{}.Plan(t.Context(), install.Input{With: with(s)})
	if err != nil {
		t.Fatal(err)
	}
	return c, strings.Join(c.Details, "\n")
}

func applied(t *testing.T, s *objectstore.Server) install.Result {
	t.Helper()
	res, err := Ensure{}.Apply(t.Context(), install.Input{With: with(s)})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(res)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(raw), objectstore.SecretKey) {
		t.Errorf("the result holds the secret: %s", raw)
	}
	for _, f := range res.Findings {
		for name := range f.Fields {
			if !slices.Contains((Ensure{}).Codes()[f.Code], name) {
				t.Errorf("field %s is not listed with %s", name, f.Code)
			}
		}
	}
	return res
}

func TestEnsure(t *testing.T) {
	s := objectstore.New(t, false)
	c, text := plannedDetails(t, s)
	if c.Nothing || !strings.Contains(text, "create bucket states, with versions") || !strings.Contains(text, "create bucket uploads, objects deleted after 7 days") {
		t.Errorf("%+v", c)
	}
	if res := applied(t, s); !res.Changed || len(res.Findings) != 0 {
		t.Errorf("%+v", res)
	}
	if rules := s.Lifecycle("uploads"); !strings.Contains(rules, "<Days>7</Days>") || !strings.Contains(rules, ruleID) {
		t.Errorf("uploads has the rules %s", rules)
	}
	if rules := s.Lifecycle("states"); rules != "" {
		t.Errorf("states has the rules %s", rules)
	}
	if c, text := plannedDetails(t, s); !c.Nothing {
		t.Errorf("done, and still planned: %s", text)
	}
	if res := applied(t, s); res.Changed || len(res.Findings) != 0 {
		t.Errorf("again: %+v", res)
	}
}

// TestEnsureTakesNothingAway shows what is left as it is.
func TestEnsureTakesNothingAway(t *testing.T) {
	for name, c := range map[string]struct {
		before func(*objectstore.Server)
		rules  string // of uploads, afterwards
		plan   string // a detail; "" is nothing to do
		found  install.Severity
	}{
		"empty bucket":       {func(*objectstore.Server) {}, "<Days>7</Days>", "delete objects of bucket uploads after 7 days", ""},
		"longer retention":   {func(s *objectstore.Server) { s.Expire("uploads", "theirs", 90) }, "<Days>90</Days>", "", ""},
		"own rule, longer":   {func(s *objectstore.Server) { s.Expire("uploads", ruleID, 90) }, "<Days>90</Days>", "", ""},
		"own rule, shorter":  {func(s *objectstore.Server) { s.Expire("uploads", ruleID, 2) }, "<Days>7</Days>", "for 7 days, not 2", ""},
		"their rule, short":  {func(s *objectstore.Server) { s.Expire("uploads", "theirs", 2) }, "<Days>2</Days>", "", ""},
		"objects, no expiry": {func(s *objectstore.Server) { s.Put(t, "uploads", "old", "x") }, "", "", install.SeverityInfo},
		"no rules at all":    {func(s *objectstore.Server) { s.NoLifecycle = true }, "", "", install.SeverityWarn},
		"states expire":      {func(s *objectstore.Server) { s.Expire("uploads", "x", 7); s.Expire("states", "theirs", 2) }, "<Days>7</Days>", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := objectstore.New(t, false)
			s.Make(t, "states", "uploads")
			s.EnableVersioning(t, "states")
			c.before(s)
			states := s.Lifecycle("states")
			change, text := plannedDetails(t, s)
			if change.Nothing != (c.plan == "") || !strings.Contains(text, c.plan) {
				t.Errorf("planned %+v, want %q", change, c.plan)
			}
			res := applied(t, s)
			if res.Changed != (c.plan != "") {
				t.Errorf("%+v", res)
			}
			if c.found != "" && (len(res.Findings) != 1 || res.Findings[0].Severity != c.found) || c.found == "" && len(res.Findings) > 0 {
				t.Errorf("findings %+v, want one of severity %q", res.Findings, c.found)
			}
			if got := s.Lifecycle("uploads"); !strings.Contains(got, c.rules) || c.rules == "" && got != "" {
				t.Errorf("uploads has the rules %s, want %s", got, c.rules)
			}
			if got := s.Lifecycle("states"); got != states {
				t.Errorf("the rules of states changed to %s", got)
			}
		})
	}
}

func TestEnsureRefused(t *testing.T) {
	s := objectstore.New(t, false)
	s.Deny = func(r *http.Request) bool { return r.Method == http.MethodPut }
	res := applied(t, s)
	if len(res.Findings) != 1 || res.Findings[0].Code != "OBJ-02" || res.Findings[0].Fields["permission"] != "s3:CreateBucket" || res.Findings[0].Fields["bucket"] != "states" {
		t.Errorf("%+v", res)
	}
}

func TestEnsureArguments(t *testing.T) {
	s := objectstore.New(t, false)
	for name, c := range map[string]struct {
		spoil func(map[string]any)
		code  string // "" is an error
	}{
		"scheme": {func(w map[string]any) { w["storage"].(map[string]any)["endpoint"] = "https://h:1" }, "OBJ-08"},
		"name":   {func(w map[string]any) { w["buckets"].(map[string]any)["states"].(map[string]any)["name"] = "a/b" }, "OBJ-10"},
		"type":   {func(w map[string]any) { w["storage"].(map[string]any)["type"] = "" }, "OBJ-20"},
		"table":  {func(w map[string]any) { w["buckets"] = map[string]any{} }, ""},
		"key":    {func(w map[string]any) { w["bucket"] = "x" }, ""},
	} {
		w := with(s)
		c.spoil(w)
		res, err := Ensure{}.Apply(t.Context(), install.Input{With: w})
		if c.code == "" && err == nil || c.code != "" && (err != nil || len(res.Findings) != 1 || res.Findings[0].Code != c.code) {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
		if _, err := (Ensure{}).Plan(t.Context(), install.Input{With: w}); err == nil {
			t.Errorf("%s can be planned", name)
		}
	}
}
