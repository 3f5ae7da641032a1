package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/source/file"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/manifests/spacelift"
	"github.com/airlock-project/airlock/testdata/fixture"
	"github.com/airlock-project/airlock/verify"
	"github.com/airlock-project/airlock/verify/sign"
	"github.com/goccy/go-yaml"
)

// row is one run of one item of the preset's checklist, alone: through the
// verified bundle, the engine and the kinds that the program registers.
type row struct {
	name     string
	item     string
	platform string // "" is onprem
	airgap   string // "" is isolated
	version  string // of the bundle; "" is v4.3.0
	// inputs are the site's. Values of secrets are given as they are: the
	// harness puts them into files and the references into the site.
	inputs map[string]any
	given  map[string]any // outputs of the items before it
	more   []bundle.Source
	// registry is where the site's content goes, host/prefix over plain HTTP.
	registry *manifests.SiteRegistry
	dryRun   bool
	// kinds puts others in place of kinds that the program registers.
	kinds func(map[string]install.Probe, map[string]install.Action)
	limit string // of each step's time; "" leaves it as it is

	want install.State
	code string   // of a finding that must be there; "" with a failure is a mistake in the test
	says []string // what cause, fix and detail of that finding hold together
}

// runRow runs an item and checks its state, the code and the words of what it
// found. It fails the test if a secret input shows in the report.
func runRow(t *testing.T, r row) *install.ItemReport {
	t.Helper()
	c := rowChecklist(t, r)
	site, secrets := rowSite(t, r, c)
	b := rowBundle(t, r, c)
	a := &app{stdin: strings.NewReader(""), stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}, output: "text"}
	site.Registry = r.registry
	hosts, target, err := a.siteRegistry(t.Context(), site, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	o := install.Options{Site: site, SiteDir: t.TempDir(), State: t.TempDir(), DryRun: r.dryRun, Actor: "tester"}
	if err := os.Chmod(o.State, 0o700); err != nil {
		t.Fatal(err)
	}
	o.Probes, o.Actions = a.kinds(hosts, target, site)
	o.Actions["test.give"] = give(r.given)
	if r.kinds != nil {
		r.kinds(o.Probes, o.Actions)
	}
	rep, err := install.Run(t.Context(), b, o)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := rep.JSON()
	if err != nil {
		t.Fatal(err)
	}
	page, err := rep.HTML()
	if err != nil {
		t.Fatal(err)
	}
	noSecrets(t, secrets, "the report", raw, page, []byte(rep.Text()), []byte(rep.Markdown()))
	noSecretFiles(t, secrets, o.State)
	for _, ph := range rep.Phases {
		for i := range ph.Items {
			if ph.Items[i].ID == r.item {
				checkRow(t, r, &ph.Items[i])
				return &ph.Items[i]
			}
		}
	}
	t.Fatalf("the report has no item %s", r.item)
	return nil
}

// noSecrets fails the test if a secret shows in any of the texts.
func noSecrets(t *testing.T, secrets map[string]string, where string, texts ...[]byte) {
	t.Helper()
	for name, value := range secrets {
		for _, text := range texts {
			if len(value) > 3 && bytes.Contains(text, []byte(value)) {
				t.Errorf("%s holds the secret %s", where, name)
			}
		}
	}
}

// noSecretFiles does the same with a state directory: ledger, snapshot, report,
// artifacts. What steps made as secrets lies in a directory of its own.
func noSecretFiles(t *testing.T, secrets map[string]string, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if err == nil && d.Name() == "secrets" {
				return filepath.SkipDir
			}
			return err
		}
		data, err := os.ReadFile(path)
		noSecrets(t, secrets, path, data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// checkRow compares what came out with what is wanted.
func checkRow(t *testing.T, r row, got *install.ItemReport) {
	t.Helper()
	if got.State != r.want {
		t.Errorf("%s is %s (%s), want %s; findings: %+v", r.item, got.State, got.Reason, r.want, got.Findings)
	}
	if r.code == "" {
		if r.want == install.StateFail {
			t.Errorf("%s: a failing case names the code that it expects", r.item)
		}
		return
	}
	i := slices.IndexFunc(got.Findings, func(f install.FindingReport) bool { return f.Code == r.code })
	if i < 0 {
		t.Fatalf("%s: no finding has code %s: %+v", r.item, r.code, got.Findings)
	}
	f := got.Findings[i]
	if f.Cause == "" || f.Fix == "" {
		t.Errorf("%s: %s has no cause or no fix: %+v", r.item, r.code, f)
	}
	for _, want := range r.says {
		if !strings.Contains(f.Cause+"\n"+f.Fix+"\n"+f.Detail, want) {
			t.Errorf("%s: %s does not say %q:\ncause  %s\nfix    %s\ndetail %s", r.item, r.code, want, f.Cause, f.Fix, f.Detail)
		}
	}
}

// presetChecklist is the preset's checklist, parsed.
func presetChecklist(t testing.TB) *manifests.Checklist {
	t.Helper()
	data, err := spacelift.Checklist()
	if err != nil {
		t.Fatal(err)
	}
	c, err := manifests.ParseChecklist("checklist.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// rowChecklist is the preset's checklist with one item, after one that hands on
// every output of the others: those of given, the rest unset.
func rowChecklist(t *testing.T, r row) *manifests.Checklist {
	t.Helper()
	c := presetChecklist(t)
	i := slices.IndexFunc(c.Items, func(it manifests.Item) bool { return it.ID == r.item })
	if i < 0 {
		t.Fatalf("the preset has no item %s", r.item)
	}
	item := c.Items[i]
	if item.Kind == manifests.ItemGroup {
		t.Fatalf("%s is a group: test its children", r.item)
	}
	before := manifests.Item{
		ID: "given", Phase: item.Phase, Kind: manifests.ItemAction, Outputs: map[string]manifests.Output{},
		// A step that is left out lets outputs be missing.
		Steps: []manifests.Step{{ID: "give", Run: "test.give"}, {ID: "leave-out", Run: "test.give", When: "false"}},
	}
	for _, other := range c.Items {
		if other.ID != item.ID {
			maps.Copy(before.Outputs, other.Outputs)
		}
	}
	for name := range r.given {
		if _, ok := before.Outputs[name]; !ok {
			t.Fatalf("no item of the preset has the output %s", name)
		}
	}
	// A test waits for no load balancer.
	for _, list := range [][]manifests.Step{item.Steps, item.Probes} {
		for i := range list {
			list[i].Retry = nil
			if r.limit != "" {
				list[i].Timeout = r.limit
			}
		}
	}
	item.Needs = []string{"given"}
	c.Items, c.Source, c.Product = []manifests.Item{before, item}, nil, "demo"
	return c
}

// rowSite is the site of a case, and its secrets as they are.
func rowSite(t *testing.T, r row, c *manifests.Checklist) (*manifests.Site, map[string]string) {
	t.Helper()
	site := &manifests.Site{Name: "site-a", Platform: orDefault(r.platform, "onprem"), Airgap: orDefault(r.airgap, "isolated"), Inputs: map[string]any{}}
	site.APIVersion, site.Kind = manifests.APIVersion, manifests.KindSite
	secrets := answer(t, site, c, r.inputs)
	// What the site must answer for other items does not matter here.
	for name, def := range c.Inputs {
		def.RequiredWhen = ""
		c.Inputs[name] = def
	}
	return site, secrets
}

// answer gives a site inputs: secrets are put into files, and the references to
// them into the site. It returns the secrets as they are.
func answer(t *testing.T, site *manifests.Site, c *manifests.Checklist, inputs map[string]any) map[string]string {
	t.Helper()
	secrets, dir := map[string]string{}, t.TempDir()
	for name, v := range inputs {
		def, ok := c.Inputs[name]
		if !ok {
			t.Fatalf("the preset has no input %s", name)
		}
		site.Inputs[name] = v
		if !def.Secret && def.Type != "secret" {
			continue
		}
		secrets[name] = fmt.Sprint(v)
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(secrets[name]), 0o600); err != nil {
			t.Fatal(err)
		}
		site.Inputs[name] = "file:" + path
	}
	return secrets
}

func orDefault(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// rowIdentity is a key with its public half.
type rowIdentity struct {
	key    *sign.Key
	public []byte
}

// rowSigner makes one key for all rows: deriving its password takes 64 MB.
var rowSigner = sync.OnceValues(func() (s rowIdentity, err error) {
	private, public, err := sign.GenerateKey([]byte("secret"))
	if err != nil {
		return s, err
	}
	dir, err := os.MkdirTemp("", "airlock-row-key-")
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "airlock.key")
	if err := os.WriteFile(path, private, 0o600); err != nil {
		return s, err
	}
	s.public = public
	s.key, err = sign.LoadKey(path, func() ([]byte, error) { return []byte("secret"), nil })
	return s, err
})

// rowBundle makes, signs and opens a bundle that carries the checklist.
func rowBundle(t *testing.T, r row, c *manifests.Checklist) *verify.Bundle {
	t.Helper()
	data, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	spool, version := fixture.Spool(t), orDefault(r.version, "v4.3.0")
	doc := file.Document{Kind: bundle.KindChecklist, Name: "demo", Title: "checklist.yaml", MediaType: bundle.MediaTypeChecklist, Data: data}
	sources := append([]bundle.Source{file.NewBytes(spool, doc, file.Options{Version: version, Created: fixture.Epoch})}, r.more...)
	return signedBundle(t, spool, bundle.Info{Product: "demo", Version: version, Release: 7}, sources).Bundle
}

// signedBundle makes, signs and opens a bundle.
func signedBundle(t *testing.T, spool *bundle.Spool, info bundle.Info, sources []bundle.Source) opened {
	t.Helper()
	info.Tool = "v0.0.0-test"
	k, err := rowSigner()
	if err != nil {
		t.Fatal(err)
	}
	p, err := bundle.Resolve(t.Context(), bundle.ResolveOptions{
		Info: info, Definition: digestOf([]byte("definition")),
		Sources: sources, Created: fixture.Epoch, Spool: spool,
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path, pub := filepath.Join(dir, "demo.tar.zst"), filepath.Join(dir, "airlock.pub")
	if _, err := bundle.Create(t.Context(), p, bundle.CreateOptions{Output: path, Sign: fixture.Signer(k.key)}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(pub, k.public, 0o600); err != nil {
		t.Fatal(err)
	}
	policy, err := verify.KeyPolicy(pub)
	if err != nil {
		t.Fatal(err)
	}
	b, err := verify.Open(t.Context(), path, policy, verify.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return opened{Bundle: b, path: path, key: pub}
}

// give is the action test.give: it hands on what it holds.
type give map[string]any

func (give) Plan(context.Context, install.Input) (install.Change, error) {
	return install.Change{Summary: "give outputs"}, nil
}

func (g give) Apply(context.Context, install.Input) (install.Result, error) {
	return install.Result{Outputs: g}, nil
}

func TestRowHostnames(t *testing.T) {
	for _, r := range []row{
		{name: "good", inputs: map[string]any{"hosts.server": "spacelift.site-a.example"}, want: install.StatePass},
		{
			name: "scheme", inputs: map[string]any{"hosts.server": "spacelift.site-a.example", "mqtt.port": 1983, "hosts.mqtt": "mqtt.site-a.example"},
			want: install.StateFail, code: "HOST-03", says: []string{"1983", "1984"},
		},
	} {
		r.item = "choose-hostnames"
		t.Run(r.name, func(t *testing.T) { runRow(t, r) })
	}
}
