package usage

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/spacelift"
)

const keySecret = "3f1c9f0e-secret-of-the-admin-key"

func input(s *spacelift.Server, dir string, more map[string]any) install.Input {
	with := map[string]any{
		"url": s.URL + "/graphql", "ca": s.CAFile, "key_id": "01KEYOFTHEADMIN", "key_secret": keySecret,
		"login": map[string]any{
			"query": "mutation T($id: ID!, $secret: String!) { apiKeyUser(id: $id, secret: $secret) { jwt validUntil } }",
			"token": "apiKeyUser.jwt", "expires": "apiKeyUser.validUntil",
		},
		"export": s.URL + "/selfhosted/metrics", "start": "start_timestamp", "end": "end_timestamp",
		"from": "2026-01-01", "until": "2026-01-20", "to": "usage", "name": "usage_data", "output": "usage.manifest",
		"codes": map[string]any{codeForbidden: "USG-01", codeGap: "USG-03"},
	}
	maps.Copy(with, more)
	return install.Input{With: with, Render: dir}
}

func TestExport(t *testing.T) {
	s, dir := spacelift.Start(t, spacelift.Options{}), t.TempDir()
	if c, err := (Action{}).Plan(t.Context(), input(s, dir, nil)); err != nil || c.Nothing || len(c.Details) != 3 || s.Calls("metrics") != 0 {
		t.Fatalf("plan %+v, %v", c, err)
	}
	res, err := Action{}.Apply(t.Context(), input(s, dir, nil))
	if err != nil || !res.Changed || len(res.Evidence) != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	var m manifest
	if err := json.Unmarshal(res.Evidence[0].Data, &m); err != nil || len(m.Batches) != 3 {
		t.Fatalf("%s: %v", res.Evidence[0].Data, err)
	}
	day := func(d int) int64 { return time.Date(2026, 1, d, 0, 0, 0, 0, time.UTC).Unix() }
	for i, want := range [][2]int64{{day(1), day(8)}, {day(8), day(15)}, {day(15), day(20)}} {
		if b := m.Batches[i]; b.Start != want[0] || b.End != want[1] {
			t.Errorf("batch %d is %+v, want %v", i, b, want)
		}
	}
	// Stock tools check what crosses.
	sums := exec.Command("sha256sum", "--strict", "-c", "SHA256SUMS")
	sums.Dir = filepath.Join(dir, "usage")
	if out, err := sums.CombinedOutput(); err != nil || strings.Count(string(out), ": OK") != 3 {
		t.Errorf("%s: %v", out, err)
	}
	if c, err := (Action{}).Plan(t.Context(), input(s, dir, nil)); err != nil || !c.Nothing {
		t.Errorf("plan after it %+v, %v", c, err)
	}
	// The next export goes on where this one ended, also where files were handed over.
	if err := os.Remove(filepath.Join(dir, "usage", m.Batches[0].File)); err != nil {
		t.Fatal(err)
	}
	res, err = Action{}.Apply(t.Context(), input(s, dir, map[string]any{"until": "2026-01-22"}))
	if err != nil || s.Calls("metrics") != 4 {
		t.Fatalf("%+v, %v, %d batches asked for", res, err, s.Calls("metrics"))
	}
	if err := json.Unmarshal(res.Evidence[0].Data, &m); err != nil || len(m.Batches) != 4 || m.Batches[3].Start != day(20) || m.Batches[3].End != day(22) {
		t.Errorf("%+v, %v", m, err)
	}
}

// TestResume kills an export after its first batch.
func TestResume(t *testing.T) {
	s, dir := spacelift.Start(t, spacelift.Options{}), t.TempDir()
	if _, err := (Action{}).Apply(t.Context(), input(s, dir, map[string]any{"until": "2026-01-08"})); err != nil {
		t.Fatal(err)
	}
	// A file without its entry, as a process leaves it that dies in between.
	if err := os.WriteFile(filepath.Join(dir, "usage", "usage_data_1767830400_1768435200.json"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Forget()
	res, err := Action{}.Apply(t.Context(), input(s, dir, nil))
	if err != nil || !res.Changed || s.Calls("metrics") != 3 {
		t.Fatalf("%+v, %v, %d batches asked for", res, err, s.Calls("metrics"))
	}
	again, err := Action{}.Apply(t.Context(), input(s, dir, nil))
	if err != nil || again.Changed || s.Calls("metrics") != 3 {
		t.Errorf("%+v, %v", again, err)
	}
}

func TestFindings(t *testing.T) {
	for name, c := range map[string]struct {
		o    spacelift.Options
		more map[string]any
		code string
		says string
	}{
		"no admin":   {spacelift.Options{NoAdmin: true}, nil, "USG-01", "403"},
		"broken":     {spacelift.Options{BrokenMetrics: true}, nil, codeAnswer, "not JSON"},
		"away":       {spacelift.Options{Status: http.StatusBadGateway}, nil, "GQL-01", "502"},
		"error":      {spacelift.Options{Metrics: http.StatusInternalServerError}, nil, codeAnswer, "500"},
		"bad key":    {spacelift.Options{}, map[string]any{"key_secret": "3f1c9f0e-other"}, "GQL-02", "invalid secret"},
		"unknown CA": {spacelift.Options{}, map[string]any{"ca": ""}, "GQL-05", "certificate"},
	} {
		s, dir := spacelift.Start(t, c.o), t.TempDir()
		res, err := Action{}.Apply(t.Context(), input(s, dir, c.more))
		if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != c.code || !strings.Contains(res.Findings[0].Detail, c.says) {
			t.Errorf("%s: %+v, %v", name, res, err)
			continue
		}
		raw, err := json.Marshal(res)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range append(s.Tokens(), keySecret, "3f1c9f0e-other") {
			if strings.Contains(string(raw), secret) {
				t.Errorf("%s: a secret shows in %s", name, raw)
			}
		}
		if _, err := os.Stat(filepath.Join(dir, "usage", "manifest.json")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a manifest was written: %v", name, err)
		}
	}
}

func TestGapAndChange(t *testing.T) {
	s, dir := spacelift.Start(t, spacelift.Options{}), t.TempDir()
	if _, err := (Action{}).Apply(t.Context(), input(s, dir, nil)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "usage", "manifest.json")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// From a date after the end of the last export: days would be missing.
	res, err := Action{}.Apply(t.Context(), input(s, dir, map[string]any{"from": "2026-01-25", "until": "2026-02-01"}))
	if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != "USG-03" || !strings.Contains(res.Findings[0].Detail, "2026-01-20T00:00:00Z to 2026-01-25T00:00:00Z") {
		t.Errorf("%+v, %v", res, err)
	}
	// A batch was taken out of the manifest.
	var m manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	m.Batches = append(m.Batches[:1], m.Batches[2:]...)
	cut, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, cut, 0o600); err != nil {
		t.Fatal(err)
	}
	if res, err = (Action{}).Apply(t.Context(), input(s, dir, nil)); err != nil || len(res.Findings) != 1 || res.Findings[0].Code != "USG-03" {
		t.Errorf("%+v, %v", res, err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	// A file was changed after it was exported.
	if err := os.WriteFile(filepath.Join(dir, "usage", m.Batches[0].File), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if res, err = (Action{}).Apply(t.Context(), input(s, dir, nil)); err != nil || len(res.Findings) != 1 || res.Findings[0].Code != codeChanged {
		t.Errorf("%+v, %v", res, err)
	}
	// Not a manifest at all.
	if err := os.WriteFile(path, []byte(`{"version":1,"batches":[{"file":"../../x","start":1,"end":2,"sha256":"","bytes":1}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if res, err = (Action{}).Apply(t.Context(), input(s, dir, nil)); err == nil {
		t.Errorf("a file outside is accepted: %+v", res)
	}
}

func TestArguments(t *testing.T) {
	s := spacelift.Start(t, spacelift.Options{})
	for name, more := range map[string]map[string]any{
		"from": {"from": "yesterday"}, "no from": {"from": ""}, "days": {"days": 0}, "to": {"to": "../x"}, "too many": {"from": "1990-01-01"},
		"plain http": {"export": "http://127.0.0.1/x"}, "unknown": {"frm": 1},
	} {
		if res, err := (Action{}).Apply(t.Context(), input(s, t.TempDir(), more)); err == nil {
			t.Errorf("%s is accepted: %+v", name, res)
		}
	}
}
