package ecr

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/mirror/target"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func (s *standIn) add(name string, settings ...any) {
	r := map[string]any{"imageTagMutability": "MUTABLE"}
	for i := 0; i < len(settings); i += 2 {
		r[settings[i].(string)] = settings[i+1]
	}
	s.Repos[name] = r
}

func request(names ...string) target.Request {
	var r target.Request
	for _, n := range names {
		r.Repositories = append(r.Repositories, target.Need{Name: n, Tags: []string{"v1", "sha256-ab.sig"}, Manifests: 7, Bytes: 1})
	}
	return r
}

const keepFive = `{"rules":[{"rulePriority":1,"selection":{"tagStatus":"any","countType":"imageCountMoreThan","countNumber":5},"action":{"type":"expire"}}]}`

func TestInspect(t *testing.T) {
	for _, tt := range []struct {
		name    string
		setup   func(*standIn)
		options func(*Options)
		need    target.Request
		want    target.State
		remedy  string // in the one notice's remedy
	}{
		{
			name: "present", need: request("aa", "team/b"),
			setup: func(s *standIn) { s.add("aa"); s.add("team/b"); s.Mounting = "ENABLED" },
			want:  target.State{Repositories: map[string]target.Presence{"aa": target.Present, "team/b": target.Present}, CrossMount: target.MountAlways},
		},
		{
			name: "missing", need: request("aa", "bb"),
			setup: func(s *standIn) { s.add("bb") },
			options: func(o *Options) {
				o.Immutable, o.MutableTags, o.ScanOnPush, o.KMSKey, o.Tags = true, []string{"sha256-*"}, true, "alias/airlock", map[string]string{"team": "x"}
			},
			want: target.State{
				Repositories: map[string]target.Presence{"aa": target.Missing, "bb": target.Present},
				Actions: []target.Action{{Kind: "create-repository", Name: "aa", Settings: map[string]string{
					"imageTagMutability": "IMMUTABLE_WITH_EXCLUSION", "imageTagMutabilityExclusionFilters": "sha256-*", "scanOnPush": "true",
					"encryptionType": "KMS", "kmsKey": "alias/airlock", "tags.team": "x",
				}}},
			},
		},
		{
			name: "managed elsewhere", need: request("aa", "bb"),
			setup: func(s *standIn) { s.add("bb") }, options: func(o *Options) { o.ManagedElsewhere = true },
			want: target.State{
				Repositories: map[string]target.Presence{"aa": target.Missing, "bb": target.Present},
				Notices:      []target.Notice{{Code: target.RepositoryMissing, Fatal: true, Repository: "aa"}},
			},
			remedy: "aws_ecr_repository",
		},
		{
			name: "managed elsewhere, made by the push", need: request("team/a", "teamx"),
			setup: func(s *standIn) {
				s.add("teamx")
				s.Templates = []map[string]any{{"prefix": "teamx", "appliedFor": []string{"REPLICATION"}}, {"prefix": "team", "appliedFor": []string{"CREATE_ON_PUSH"}}}
			},
			options: func(o *Options) { o.ManagedElsewhere = true },
			want:    target.State{Repositories: map[string]target.Presence{"team/a": target.OnPush, "teamx": target.Present}},
		},
		{
			name: "keep five", need: request("aa"),
			setup: func(s *standIn) { s.add("aa"); s.Policies["aa"] = keepFive },
			want: target.State{
				Repositories: map[string]target.Presence{"aa": target.Present},
				Notices:      []target.Notice{{Code: target.CleanUp, Repository: "aa"}},
			},
			remedy: "at least 7",
		},
		{
			name: "malformed policy", need: request("aa"),
			setup: func(s *standIn) { s.add("aa"); s.Policies["aa"] = "{" },
			want: target.State{
				Repositories: map[string]target.Presence{"aa": target.Present},
				Notices:      []target.Notice{{Code: target.StateUnread, Repository: "aa"}},
			},
			remedy: "by hand",
		},
		{
			name: "immutable", need: request("aa"),
			setup: func(s *standIn) { s.add("aa", "imageTagMutability", "IMMUTABLE") },
			want: target.State{
				Repositories: map[string]target.Presence{"aa": target.Present},
				Notices:      []target.Notice{{Code: target.TagImmutable, Repository: "aa"}},
			},
			remedy: "sha256-*",
		},
		{
			name: "hidden", need: request("aa", "bb"),
			setup: func(s *standIn) { s.add("bb"); s.Hidden["aa"] = true },
			want: target.State{
				Repositories: map[string]target.Presence{"aa": target.Forbidden, "bb": target.Present},
				Notices:      []target.Notice{{Code: target.StateUnread}},
			},
			remedy: "ecr:DescribeRepositories",
		},
		{
			name: "policy hidden", need: request("aa"),
			setup: func(s *standIn) {
				s.add("aa")
				s.Faults["GetLifecyclePolicy"] = fault{Code: "AccessDeniedException", Message: "no"}
			},
			want: target.State{
				Repositories: map[string]target.Presence{"aa": target.Present},
				Notices:      []target.Notice{{Code: target.StateUnread}},
			},
			remedy: "ecr:GetLifecyclePolicy",
		},
		{
			name: "setting hidden", need: request("aa"),
			setup: func(s *standIn) {
				s.add("aa")
				s.Faults["GetAccountSetting"] = fault{Code: "AccessDeniedException", Message: "no"}
			},
			want: target.State{
				Repositories: map[string]target.Presence{"aa": target.Present},
				Notices:      []target.Notice{{Code: target.StateUnread}},
			},
			remedy: "ecr:GetAccountSetting",
		},
		{
			name: "no blob mounting in the partition", need: request("aa"),
			setup: func(s *standIn) {
				s.add("aa")
				s.Faults["GetAccountSetting"] = fault{Code: "InvalidParameterException", Message: "no"}
			},
			want: target.State{Repositories: map[string]target.Presence{"aa": target.Present}},
		},
		{
			name: "nothing", need: target.Request{}, setup: func(*standIn) {},
			want: target.State{Repositories: map[string]target.Presence{}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStandIn(t)
			tt.setup(s)
			var change []func(*Options)
			if tt.options != nil {
				change = append(change, tt.options)
			}
			got, err := s.target(t, change...).Inspect(t.Context(), tt.need)
			if err != nil {
				t.Fatal(err)
			}
			if tt.want.CrossMount == "" {
				tt.want.CrossMount = target.MountNever
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreFields(target.Notice{}, "Text", "Remedy")); diff != "" {
				t.Error(diff)
			}
			for _, n := range got.Notices {
				if n.Text == "" || !strings.Contains(n.Remedy, tt.remedy) {
					t.Errorf("notice %+v, want a remedy with %q", n, tt.remedy)
				}
			}
			if len(s.Created) > 0 {
				t.Error("Inspect created something")
			}
		})
	}
}

// One name that is missing fails a batch of a hundred as a whole.
func TestInspectBatches(t *testing.T) {
	s := newStandIn(t)
	var names []string
	for i := range 230 {
		names = append(names, fmt.Sprintf("team/r%03d", i))
		if i != 150 {
			s.add(names[i])
		}
	}
	got, err := s.target(t).Inspect(t.Context(), request(names...))
	if err != nil {
		t.Fatal(err)
	}
	if n := s.Count("DescribeRepositories"); n != 3+100 {
		t.Errorf("%d calls, want 3 batches and 100 single ones", n)
	}
	if len(got.Actions) != 1 || got.Actions[0].Name != "team/r150" || len(got.Repositories) != 230 {
		t.Errorf("actions %v, %d repositories", got.Actions, len(got.Repositories))
	}
}

func TestInspectErrors(t *testing.T) {
	for _, op := range []string{"DescribeRepositories", "GetLifecyclePolicy", "GetAccountSetting"} {
		s := newStandIn(t)
		s.add("aa")
		s.Faults[op] = fault{Code: "ThrottlingException", Message: "Rate exceeded"}
		_, err := s.target(t).Inspect(t.Context(), request("aa"))
		if p, ok := errors.AsType[*target.Problem](err); !ok || p.Code != target.Throttled {
			t.Errorf("%s: %v", op, err)
		}
	}
	if _, err := newStandIn(t).target(t).Inspect(t.Context(), request("a__b")); err == nil {
		t.Error("a name that ECR does not take is asked for")
	}
}

func TestLifecycleRules(t *testing.T) {
	need := target.Need{Name: "aa", Tags: []string{"v1", "v2", "sha256-ab.sig"}, Manifests: 7}
	rule := func(selection string) string {
		return `{"rules":[{"rulePriority":3,"selection":{` + selection + `},"action":{"type":"expire"}}]}`
	}
	for name, tt := range map[string]struct {
		policy string
		cut    bool
	}{
		"any, fewer":          {rule(`"tagStatus":"any","countType":"imageCountMoreThan","countNumber":6`), true},
		"any, as many":        {rule(`"tagStatus":"any","countType":"imageCountMoreThan","countNumber":7`), false},
		"any, by age":         {rule(`"tagStatus":"any","countType":"sinceImagePushed","countUnit":"days","countNumber":1`), false},
		"untagged":            {rule(`"tagStatus":"untagged","countType":"imageCountMoreThan","countNumber":1`), false},
		"prefix, fewer":       {rule(`"tagStatus":"tagged","tagPrefixList":["v"],"countType":"imageCountMoreThan","countNumber":1`), true},
		"prefix, as many":     {rule(`"tagStatus":"tagged","tagPrefixList":["v"],"countType":"imageCountMoreThan","countNumber":2`), false},
		"pattern, fewer":      {rule(`"tagStatus":"tagged","tagPatternList":["*"],"countType":"imageCountMoreThan","countNumber":2`), true},
		"pattern, others":     {rule(`"tagStatus":"tagged","tagPatternList":["dev-*"],"countType":"imageCountMoreThan","countNumber":1`), false},
		"no rules":            {`{}`, false},
		"second rule decides": {`{"rules":[{"rulePriority":1,"selection":{"tagStatus":"untagged","countType":"sinceImagePushed","countNumber":1}},` + strings.TrimPrefix(keepFive, `{"rules":[`), true},
	} {
		rules, err := parseLifecycle(tt.policy)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if n, cut := lifecycleNotice(rules, need); cut != tt.cut {
			t.Errorf("%s: cut is %v: %+v", name, cut, n)
		}
	}
	for _, bad := range []string{"", "{", `{"rules":[{"selection":{"countNumber":1e99}}]}`, `{"rules":` + strings.Repeat(" ", maxPolicy) + `[]}`} {
		if _, err := parseLifecycle(bad); err == nil {
			t.Errorf("%.40q is taken", bad)
		}
	}
}

// FuzzLifecycle holds that no policy breaks the reader, and that a rule is
// only reported where it keeps fewer than are pushed.
func FuzzLifecycle(f *testing.F) {
	f.Add(keepFive)
	f.Add(`{"rules":[{"rulePriority":9,"selection":{"tagStatus":"tagged","tagPatternList":["v*","[","\\"],"countType":"imageCountMoreThan","countNumber":-1}}]}`)
	f.Add(`{"rules":null}`)
	f.Add(`[]`)
	f.Fuzz(func(t *testing.T, text string) {
		rules, err := parseLifecycle(text)
		if err != nil {
			return
		}
		need := target.Need{Name: "aa", Tags: []string{"v1"}, Manifests: 3}
		for _, r := range rules {
			if pushed, cut := r.cuts(need); cut && (r.Selection.CountNumber >= int64(pushed) || pushed > need.Manifests) {
				t.Errorf("rule %+v cuts %d", r, pushed)
			}
		}
	})
}

func TestImmutableTags(t *testing.T) {
	filters := []map[string]string{{"filter": "sha256-*", "filterType": "WILDCARD"}}
	for mutability, want := range map[string]string{
		"MUTABLE":                  "",
		"IMMUTABLE":                `"v1", "sha256-ab.sig"`,
		"IMMUTABLE_WITH_EXCLUSION": `"v1"`,
		"MUTABLE_WITH_EXCLUSION":   `"sha256-ab.sig"`,
	} {
		s := newStandIn(t)
		s.add("aa", "imageTagMutability", mutability, "imageTagMutabilityExclusionFilters", filters)
		got, err := s.target(t).Inspect(t.Context(), request("aa"))
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case want == "" && len(got.Notices) > 0:
			t.Errorf("%s: %+v", mutability, got.Notices)
		case want != "" && (len(got.Notices) != 1 || !strings.Contains(got.Notices[0].Text, ": "+want+",")):
			t.Errorf("%s: %+v, want %s", mutability, got.Notices, want)
		}
	}
}
