package install

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/manifests"
)

// pure is a probe that asks nobody: it finds what its arguments say.
type pure struct{ ran *[]string }

func (pure) Offline() {}

func (p pure) Run(_ context.Context, in Input) (Result, error) {
	name, _ := in.With["name"].(string)
	*p.ran = append(*p.ran, name)
	var res Result
	if found, ok := in.With["found"].(string); ok {
		res.Findings = []Finding{{Code: "KET-01", Fields: map[string]string{"name": found}, Detail: "seen " + found}}
	}
	res.Outputs, _ = in.With["outputs"].(map[string]any)
	return res, nil
}

func foreseeShop(t *testing.T, dir string) (*shop, *[]string) {
	t.Helper()
	s := newShop(t)
	ran := new([]string)
	s.opts.Probes["pure"] = pure{ran}
	s.opts.SiteDir, s.opts.Secret = dir, nil
	s.opts.Site.Inputs["cellar.password"] = "file:password"
	write(t, dir, "password", "hunter2-and-more\n")
	for i := range s.list.Items {
		item := &s.list.Items[i]
		if item.Kind == manifests.ItemCheck || item.ID == "mash" {
			item.Messages = map[string]manifests.Message{"KET-01": {Cause: "kettle {{.name}} is dirty", Fix: "scrub {{.name}}"}}
		}
		switch item.ID {
		case "clean-kettle":
			item.Outputs = map[string]manifests.Output{"kettle.label": {Type: "string"}}
			item.Probes = []manifests.Step{
				{ID: "a", Run: "pure", With: map[string]any{"name": "a", "found": "${in.kettle.name}", "outputs": map[string]any{"kettle.label": "k"}}},
				{ID: "far", Run: "pure", When: `in.platform == "eks"`, With: map[string]any{"name": "far"}},
				{ID: "again", Run: "pure", With: map[string]any{"name": "again ${out.kettle.label}", "found": "${in.kettle.name}"}},
				{ID: "secret", Run: "pure", With: map[string]any{"name": "secret", "found": "with ${in.cellar.password}"}},
			}
		case "weigh-hops": // optional
			item.Probes = []manifests.Step{{ID: "b", Run: "pure", With: map[string]any{"name": "b", "found": "hops"}}}
		case "mash": // what its steps give is not known before they run
			item.Probes = []manifests.Step{{ID: "c", Run: "pure", With: map[string]any{"name": "c", "found": "${out.mash.gravity}"}}}
		case "export": // not here
			item.Probes = []manifests.Step{{ID: "d", Run: "pure", With: map[string]any{"name": "d", "found": "x"}}}
		}
	}
	return s, ran
}

func TestForesight(t *testing.T) {
	t.Parallel()
	s, ran := foreseeShop(t, t.TempDir())
	found, err := CheckSite(t.Context(), s.list, s.opts, "v1")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(*ran, ", "); got != "a, again k, secret, b" {
		t.Errorf("ran %s", got)
	}
	var got []string
	for _, f := range found {
		got = append(got, string(f.Severity)+" "+f.Item+" "+f.Code+" "+f.Cause+" -> "+f.Fix)
	}
	want := []string{ // the two about one kettle are one
		"fail clean-kettle KET-01 kettle kettle.example.internal is dirty -> scrub kettle.example.internal",
		"fail clean-kettle KET-01 kettle with [secret cellar.password] is dirty -> scrub with [secret cellar.password]",
		"warn weigh-hops KET-01 kettle hops is dirty -> scrub hops",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(s.calls) != 0 {
		t.Errorf("a probe that is not offline ran: %v", s.calls)
	}
	s.opts.Site.Inputs["kettle.size"] = "large"
	if _, err := CheckSite(t.Context(), s.list, s.opts, "v1"); !errorIs[*InputError](err) {
		t.Errorf("error %v", err)
	}
}

// TestForesightOfKubeconfig: the file of the cluster is looked at like a secret.
func TestForesightOfKubeconfig(t *testing.T) {
	s := newShop(t)
	s.opts.SiteDir = t.TempDir()
	s.opts.Secret = nil
	write(t, s.opts.SiteDir, "password", "hunter2-and-more\n")
	s.opts.Site.Inputs["cellar.password"] = "file:password"
	s.opts.Site.Kubernetes = &manifests.SiteKubernetes{Kubeconfig: "file:kubeconfig"}
	check := func() []Foresight {
		found, err := CheckSite(t.Context(), s.list, s.opts, "v1")
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if found := check(); len(found) != 1 || found[0].Code != "IN-01" || found[0].Severity != SeverityFail ||
		found[0].Cause != "kubernetes.kubeconfig cannot be read from file:kubeconfig: no such file or directory" {
		t.Errorf("%+v", found)
	}
	write(t, s.opts.SiteDir, "kubeconfig", "apiVersion: v1\n")
	if found := check(); len(found) != 0 {
		t.Errorf("%+v", found)
	}
	if err := os.Chmod(filepath.Join(s.opts.SiteDir, "kubeconfig"), 0o644); err != nil {
		t.Fatal(err)
	}
	if found := check(); len(found) != 1 || found[0].Code != "IN-04" || found[0].Severity != SeverityWarn {
		t.Errorf("%+v", found)
	}
}

// TestForesightOfSecrets: what is wrong with a secret is told with a code and a
// way out, never with its content; a run tells the same.
func TestForesightOfSecrets(t *testing.T) {
	for name, c := range map[string]struct {
		ref     string
		content string
		mode    os.FileMode
		want    string
		words   string
	}{
		"good":           {"file:s", "long enough to be one", 0o600, "", ""},
		"missing":        {"file:none", "", 0, "fail IN-01", "no such file"},
		"a directory":    {"file:.", "", 0, "fail IN-01", "is a directory"},
		"a device":       {"file:/dev/zero", "", 0, "fail IN-01", "not a regular file"},
		"empty":          {"file:s", "\n", 0o600, "fail IN-02", "file:s"},
		"binary":         {"file:s", "\xff\xfe\x00 key", 0o600, "fail IN-03", "no text"},
		"a NUL":          {"file:s", "key\x00key", 0o600, "fail IN-03", "no text"},
		"short":          {"file:s", "abc", 0o600, "fail IN-05", "fewer than 4 bytes"},
		"short password": {"file:s", "postgres://brewer:abc@db/x", 0o600, "fail IN-05", "fewer than 4 bytes"},
		"open":           {"file:s", "long enough to be one", 0o644, "warn IN-04", "0644"},
		"unset":          {"env:AIRLOCK_TEST_NO_SUCH", "", 0, "warn IN-01", "not set"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := newShop(t)
			s.opts.SiteDir, s.opts.Secret = dir, nil
			s.opts.Site.Inputs["cellar.password"] = c.ref
			if c.mode != 0 {
				if err := os.WriteFile(filepath.Join(dir, "s"), []byte(c.content), c.mode); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(filepath.Join(dir, "s"), c.mode); err != nil {
					t.Fatal(err)
				}
			}
			found, err := CheckSite(t.Context(), s.list, s.opts, "v1")
			if err != nil {
				t.Fatal(err)
			}
			if c.want == "" {
				if len(found) != 0 {
					t.Errorf("%+v", found)
				}
				return
			}
			if len(found) != 1 {
				t.Fatalf("found %+v", found)
			}
			f := found[0]
			text := f.Cause + " " + f.Fix
			if got := string(f.Severity) + " " + f.Code; got != c.want || !strings.Contains(text, "cellar.password") || f.Fix == "" {
				t.Errorf("%s: %+v", got, f)
			}
			if !strings.Contains(f.Cause, c.words) {
				t.Errorf("%q lacks %q", f.Cause, c.words)
			}
			if v := strings.TrimSpace(c.content); len(v) > 4 && strings.Contains(text, v) {
				t.Errorf("it shows the secret: %s", text)
			}
			if c.want[:4] == "warn" && c.ref != "env:AIRLOCK_TEST_NO_SUCH" {
				return
			}
			run := item(t, s.run(), "boil")
			if run.State != StateFail || run.Findings[0].Code != f.Code || run.Findings[0].Fix == "" {
				t.Errorf("a run says %+v", run)
			}
		})
	}
}

// TestShortPartsStayInText: what is too short to be a secret takes no letters
// out of what people read.
func TestShortPartsStayInText(t *testing.T) {
	t.Parallel()
	r := &redactor{}
	r.add("a", "e")
	r.add("url", "postgres://u:e@db/x")
	r.add("b", "abcd")
	const s = "the key of the server abcd is there"
	if got := r.text(s); got != strings.Replace(s, "abcd", "[secret b]", 1) {
		t.Errorf("%q", got)
	}
}

func TestOneMistakeIsToldOnce(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.opts.Site.Inputs["kettle.name"] = "https://kettle"
	_, err := CheckSite(t.Context(), s.list, s.opts, "v1")
	bad, ok := errors.AsType[*InputError](err)
	if !ok || len(bad.Problems) != 1 || bad.Problems[0].Where != "inputs.kettle.name" {
		t.Errorf("error %v", err)
	}
}
