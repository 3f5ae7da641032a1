package rule

import (
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/google/go-cmp/cmp"
)

func TestRules(t *testing.T) {
	for name, c := range map[string]struct {
		with map[string]any
		want []install.Finding
	}{
		"all hold": {map[string]any{"rules": []any{map[string]any{"ok": true, "code": "A-01"}}}, nil},
		"every false one is found": {
			map[string]any{"rules": []any{
				map[string]any{"ok": false, "code": "A-01", "fields": map[string]any{"value": "builtin", "want": []any{"postgres", "sqs"}, "port": int64(1983)}},
				map[string]any{"ok": true, "code": "A-02"},
				map[string]any{"ok": false, "code": "A-03", "severity": "warn", "detail": "so it is"},
			}},
			[]install.Finding{
				{Code: "A-01", Detail: `the rule does not hold, port is "1983", value is "builtin", want is "postgres, sqs"`, Fields: map[string]string{"value": "builtin", "want": "postgres, sqs", "port": "1983"}},
				{Code: "A-03", Severity: "warn", Detail: "so it is", Fields: map[string]string{}},
			},
		},
		// ${in.a.b} alone leaves the key out where nothing is set.
		"not known is not true": {map[string]any{"rules": []any{map[string]any{}}}, []install.Finding{{Code: "RULE-01", Detail: "the rule does not hold", Fields: map[string]string{}}}},
		"fits":                  {map[string]any{"value": "acme", "pattern": "^[a-z]+$", "code": "ACC-01"}, nil},
		"does not fit": {
			map[string]any{"value": "a b", "pattern": "^[a-z]+$", "code": "ACC-01", "fields": map[string]any{"name": "account.name"}},
			[]install.Finding{{Code: "ACC-01", Detail: `"a b" does not match ^[a-z]+$`, Fields: map[string]string{"value": "a b", "want": "^[a-z]+$", "name": "account.name"}}},
		},
		"not set does not fit": {
			map[string]any{"pattern": "^[a-z]+$"},
			[]install.Finding{{Code: "RULE-01", Detail: `"" does not match ^[a-z]+$`, Fields: map[string]string{"value": "", "want": "^[a-z]+$"}}},
		},
	} {
		res, err := Probe{}.Run(t.Context(), install.Input{With: c.with})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(c.want, res.Findings); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

func TestArguments(t *testing.T) {
	many := make([]any, maxRules+1)
	for i := range many {
		many[i] = map[string]any{"ok": true}
	}
	for name, c := range map[string]struct {
		with map[string]any
		says string
	}{
		"nothing to do":  {map[string]any{}, "want rules"},
		"a value alone":  {map[string]any{"value": "x"}, "want rules"},
		"bad pattern":    {map[string]any{"value": "x", "pattern": "("}, "regular expression"},
		"unknown key":    {map[string]any{"rule": "x"}, "unknown field"},
		"unknown field":  {map[string]any{"rules": []any{map[string]any{"ok": true, "fields": map[string]any{"colour": "red"}}}}, `"colour"`},
		"ok is no bool":  {map[string]any{"rules": []any{map[string]any{"ok": "yes"}}}, "want bool"},
		"a map to show":  {map[string]any{"rules": []any{map[string]any{"fields": map[string]any{"value": map[string]any{}}}}}, "field value"},
		"too many rules": {map[string]any{"rules": many}, "more than 200"},
	} {
		if _, err := (Probe{}).Run(t.Context(), install.Input{With: c.with}); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

// TestLongField keeps what an outsider could make endless short.
func TestLongField(t *testing.T) {
	res, err := Probe{}.Run(t.Context(), install.Input{With: map[string]any{"pattern": "^$", "value": strings.Repeat("é", maxField)}})
	if err != nil || len(res.Findings) != 1 || len(res.Findings[0].Fields["value"]) > maxField+4 || !strings.HasSuffix(res.Findings[0].Fields["value"], "é…") {
		t.Errorf("%+v, %v", res.Findings, err)
	}
}
