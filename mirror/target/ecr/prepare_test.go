package ecr

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/mirror/target"
	"github.com/google/go-cmp/cmp"
)

func TestPrepare(t *testing.T) {
	s := newStandIn(t)
	tg := s.target(t, func(o *Options) {
		o.Immutable, o.MutableTags, o.ScanOnPush, o.KMSKey, o.Tags = true, []string{"sha256-*"}, true, "alias/airlock", map[string]string{"team": "x"}
	})
	state, err := tg.Inspect(t.Context(), request("team/a", "team/b"))
	if err != nil {
		t.Fatal(err)
	}
	s.add("team/b") // somebody was faster
	for range 2 {
		if err := tg.Prepare(t.Context(), state.Actions); err != nil {
			t.Fatal(err)
		}
	}
	want := []map[string]any{{
		"registryId": account, "repositoryName": "team/a", "repositoryArn": "arn",
		"imageTagMutability":                 "IMMUTABLE_WITH_EXCLUSION",
		"imageTagMutabilityExclusionFilters": []any{map[string]any{"filter": "sha256-*", "filterType": "WILDCARD"}},
		"imageScanningConfiguration":         map[string]any{"scanOnPush": true},
		"encryptionConfiguration":            map[string]any{"encryptionType": "KMS", "kmsKey": "alias/airlock"},
		"tags":                               []any{map[string]any{"Key": "team", "Value": "x"}},
	}}
	if diff := cmp.Diff(want, s.Created); diff != "" {
		t.Error(diff)
	}
}

// Nothing is created unless every action can be understood.
func TestPrepareRefuses(t *testing.T) {
	good := target.Action{Kind: "create-repository", Name: "good"}
	with := func(k, v string) target.Action {
		return target.Action{Kind: "create-repository", Name: "bad", Settings: map[string]string{k: v}}
	}
	for _, bad := range []target.Action{
		{Kind: "create-project", Name: "bad"},
		{Kind: "create-repository", Name: "Bad"},
		{Kind: "create-repository", Name: "../bad"},
		{Kind: "create-repository", Name: ""},
		with("imageTagMutability", "SOMETIMES"),
		with("imageTagMutabilityExclusionFilters", "a b"),
		with("scanOnPush", "yes"),
		with("encryptionType", "ROT13"),
		with("kmsKey", "key-without-type"),
		with("kmsKey", "a\nb"),
		with("tags.", "x"),
		with("tags.aws:x", "x"),
		with("tags.a", strings.Repeat("x", 257)),
		with("forceDelete", "true"),
	} {
		s := newStandIn(t)
		if err := s.target(t).Prepare(t.Context(), []target.Action{good, bad}); err == nil {
			t.Errorf("%+v is carried out", bad)
		}
		if len(s.Calls) > 0 {
			t.Errorf("%+v: calls %v", bad, s.Calls)
		}
	}
	s := newStandIn(t)
	tg := s.target(t, func(o *Options) { o.ManagedElsewhere = true })
	if err := tg.Prepare(t.Context(), []target.Action{good}); err == nil || len(s.Calls) > 0 {
		t.Errorf("repositories managed elsewhere are created: %v", err)
	}
	if err := tg.Prepare(t.Context(), nil); err != nil {
		t.Errorf("nothing to do: %v", err)
	}
}

func TestPrepareDenied(t *testing.T) {
	action := []target.Action{{Kind: "create-repository", Name: "team/a"}}
	s := newStandIn(t)
	s.Faults["CreateRepository"] = fault{Code: "AccessDeniedException", Message: "User: arn:aws:iam::1:user/x is not authorized"}
	err := s.target(t).Prepare(t.Context(), action)
	if p, ok := errors.AsType[*target.Problem](err); !ok || p.Code != target.Denied || !strings.Contains(p.Remedy, "ecr:CreateRepository") {
		t.Errorf("error %v", err)
	}
	s.Templates = []map[string]any{{"prefix": "ROOT", "appliedFor": []string{"CREATE_ON_PUSH"}}}
	if err := s.target(t).Prepare(t.Context(), action); err != nil {
		t.Errorf("a template makes it on push: %v", err)
	}
}

func TestOptions(t *testing.T) {
	base := Options{Host: account + ".dkr.ecr.us-east-1.amazonaws.com", HTTPClient: http.DefaultClient}
	for name, change := range map[string]func(*Options){
		"no client":              func(o *Options) { o.HTTPClient = nil },
		"exceptions from naught": func(o *Options) { o.MutableTags = []string{"a*"} },
		"bad pattern":            func(o *Options) { o.Immutable, o.MutableTags = true, []string{"a b"} },
		"many patterns":          func(o *Options) { o.Immutable, o.MutableTags = true, slices.Repeat([]string{"a"}, 6) },
		"comma":                  func(o *Options) { o.Immutable, o.MutableTags = true, []string{"a,"} },
		"key":                    func(o *Options) { o.KMSKey = "a\x00" },
		"tag":                    func(o *Options) { o.Tags = map[string]string{"AWS:x": ""} },
		"endpoint":               func(o *Options) { o.LookupEnv = env("AWS_ENDPOINT_URL", "http://x") },
	} {
		o := base
		change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	tg, err := New(base)
	if err != nil {
		t.Fatal(err)
	}
	if tg.Kind() != "ecr" {
		t.Errorf("kind %q", tg.Kind())
	}
	tags := map[string]string{}
	for i := range 51 {
		tags[strings.Repeat("x", i+1)] = ""
	}
	o := base
	o.Tags = maps.Clone(tags)
	if _, err := New(o); err == nil {
		t.Error("51 tags are taken")
	}
}

func TestLimits(t *testing.T) {
	tg := newStandIn(t).target(t)
	l := tg.Limits()
	if l.Chunks || l.ManifestsPerSecond != 8 || l.RepositoryMax != 256 || l.BlobMax != 52_000<<20 {
		t.Errorf("limits %+v", l)
	}
	for name, ok := range map[string]bool{
		"ab": true, "a/b": true, "team/app.x_y-z": true, strings.Repeat("a", 256): true,
		"": false, "a": false, "a__b": false, "a--b": false, "A": false, "a//b": false, "/a": false, "a/": false, strings.Repeat("a", 257): false, "ab\n": false,
	} {
		if err := l.CheckRepository(name); (err == nil) != ok {
			t.Errorf("%.20q: %v", name, err)
		}
	}
}
