package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/source/file"
	"github.com/airlock-project/airlock/bundle/source/helm"
	"github.com/airlock-project/airlock/bundle/source/vendorarchive"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/manifests/spacelift"
	"github.com/airlock-project/airlock/testdata/fixture"
	standin "github.com/airlock-project/airlock/testdata/spacelift"
	"github.com/airlock-project/airlock/verify"
	"github.com/airlock-project/airlock/verify/sign"
)

const fullVersion = "v4.3.0"

// TestFullRun installs from a site that knows nothing, item by item: first with
// placeholders that lead nowhere, where nothing may be passed that was not done,
// then with every answer, statement and waiver. Servers are stand-ins on this
// machine; what only a cluster or Terraform can do is waived by two people.
func TestFullRun(t *testing.T) {
	b := fullBundle(t)
	keys := t.TempDir()
	operator, security := fullKey(t, keys, "operator"), fullKey(t, keys, "security")
	for _, c := range []struct {
		platform     string
		empty, ready states
		nowhere      map[string]any
		answers      func(t *testing.T, f *fullRun) map[string]any
	}{
		{"onprem", onpremEmpty, onpremReady, nil, onpremAnswers},
		{"eks", eksEmpty, eksReady, map[string]any{"infra.mode": "terraform"}, eksAnswers},
	} {
		t.Run(c.platform, func(t *testing.T) {
			f := newFullRun(t, b.Bundle, c.platform, operator, security)
			f.answer(nowhere(t), c.nowhere)
			f.open()
			for _, it := range f.list.Items {
				if f.applies(it.ID) {
					f.run(it.ID)
				}
			}
			f.check(c.empty)
			f.secret()

			f.answer(c.answers(t, f), map[string]any{"vendor.fingerprint": b.fingerprint})
			f.site.Registry = f.registry()
			f.open()
			f.before("")
			f.run()
			f.check(c.ready)
			f.finished()
			f.secret()
		})
	}
}

// release is what a bundle of the product is made of.
type release struct {
	version string            // "" is fullVersion
	number  int64             // of the bundle; 0 is 7
	program []byte            // of backend and launcher
	files   map[string]string // of charts, by path; the first part of it is the chart's
	charts  map[string]string // name to directory
	images  []string          // runners
	tool    string            // Airlock's own binary; "" carries none
}

// opened is a bundle, and the file it is.
type opened struct {
	*verify.Bundle
	path, key   string // the file, and the public key of who signed it
	policy      string // file that trusts the key; "" where no command reads one
	fingerprint string // of who signed the vendor's archive in it, if there is one
}

// fullBundle makes the bundle of a release whose programs nobody runs.
func fullBundle(t *testing.T) opened {
	t.Helper()
	return release{
		program: fixture.TinyELF(), images: []string{runnerImage}, charts: map[string]string{"spacelift": "chart"},
		files: map[string]string{
			"chart/Chart.yaml":            "apiVersion: v2\nname: spacelift\nversion: 1.0.0\nappVersion: " + fullVersion + "\n",
			"chart/values.yaml":           "shared: {serverHostname: \"\", image: \"spacelift-backend:" + fullVersion + "\"}\n",
			"chart/templates/server.yaml": fullDeployment,
		},
	}.bundle(t)
}

// bundle makes it: the preset's checklist, a vendor's signed archive, runner
// images, charts.
func (r release) bundle(t *testing.T) opened {
	t.Helper()
	version := cmp.Or(r.version, fullVersion)
	dir, spool := t.TempDir(), fixture.Spool(t)
	fingerprint := r.write(t, dir)
	archive, opts := "self-hosted-"+version+".tar.gz", file.Options{Dir: dir, Version: version, Created: fixture.Epoch}
	sources := []bundle.Source{vendorarchive.New(spool, manifests.Archive{
		Name: "vendor", Path: archive, Sums: archive + "_SHA256SUMS", Signature: archive + "_SHA256SUMS.sig",
		Signer: manifests.OpenPGPSigner{Key: "vendor.asc", Fingerprint: fingerprint},
		Images: []manifests.ArchiveImage{
			{Path: "container-images/spacelift-backend.tar", As: "spacelift-backend:" + version},
			{Path: "container-images/spacelift-launcher.tar", As: "spacelift-launcher:" + version},
		},
		Files: []manifests.ArchiveFile{{Path: "bin/spacelift-launcher", Name: "spacelift-launcher"}},
	}, vendorarchive.Options{Options: opts})}
	for i, image := range r.images {
		runner, err := fixture.NewImage(spool, image, uint64(i), 3000, 5000)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, runner)
	}
	for _, name := range slices.Sorted(maps.Keys(r.charts)) {
		sources = append(sources, helm.New(nil, spool, dir, manifests.Chart{Name: name, Path: r.charts[name]}, fixture.Epoch, nil))
	}
	if r.tool != "" {
		sources = append(sources, file.NewTool(spool, map[string]string{"linux/amd64": r.tool}, opts))
	}
	checklist, err := spacelift.Checklist()
	if err != nil {
		t.Fatal(err)
	}
	document := file.Document{Kind: bundle.KindChecklist, Name: spacelift.Name, Title: "checklist.yaml", MediaType: bundle.MediaTypeChecklist, Data: checklist}
	b := signedBundle(t, spool, bundle.Info{Product: spacelift.Name, Version: version, Release: cmp.Or(r.number, 7)}, append(sources, file.NewBytes(spool, document, opts)))
	b.fingerprint = fingerprint
	return b
}

// write puts the vendor's archive and the charts into dir, as bundle create finds
// them. It returns the fingerprint of the vendor's key.
func (r release) write(t *testing.T, dir string) (fingerprint string) {
	t.Helper()
	version := cmp.Or(r.version, fullVersion)
	programs := map[string][]byte{}
	for _, name := range []string{"spacelift-backend", "spacelift-launcher"} {
		programs[name] = append(slices.Clone(r.program), name+version...) // no release has another's images
	}
	fingerprint, err := fixture.VendorArchive(dir, "self-hosted", version, programs)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range r.files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return fingerprint
}

const fullDeployment = `apiVersion: apps/v1
kind: Deployment
metadata: {name: spacelift-server, namespace: {{ .Release.Namespace }}}
spec:
  selector: {matchLabels: {app: spacelift-server}}
  template:
    metadata: {labels: {app: spacelift-server}}
    spec:
      containers:
        - name: server
          image: {{ .Values.shared.image | quote }}
          env: [{name: SERVER_DOMAIN, value: {{ .Values.shared.serverHostname | quote }}}]
`

// fullKey makes the key of a person as airlock keygen puts it.
func fullKey(t *testing.T, dir, name string) *sign.Key {
	t.Helper()
	password := []byte("password-of-" + name)
	private, public, err := sign.GenerateKey(password)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name+".key")
	if err := errors.Join(os.WriteFile(path, private, 0o600), os.WriteFile(filepath.Join(dir, name+".pub"), public, 0o600)); err != nil {
		t.Fatal(err)
	}
	k, err := sign.LoadKey(path, func() ([]byte, error) { return password, nil })
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// fullRun is the installation of one site.
type fullRun struct {
	t        *testing.T
	a        *app
	b        *verify.Bundle
	list     *manifests.Checklist
	site     *manifests.Site
	opts     install.Options
	operator *sign.Key
	security *sign.Key
	cluster  string                      // kubeconfig; "" has no cluster, and what needs one is waived
	host     string                      // address of this machine for pods; "" where there are none
	near     func(address string) string // how pods reach a server of this process; nil where there are none
	secrets  map[string]string
	product  *standin.Server
	tokens   []func() []string // what servers handed out
	rep      *install.Report   // of the last run or statement
	out, err bytes.Buffer
}

func newFullRun(t *testing.T, b *verify.Bundle, platform string, operator, security *sign.Key) *fullRun {
	t.Helper()
	f := &fullRun{t: t, b: b, list: presetChecklist(t), operator: operator, security: security, secrets: map[string]string{
		"database password": databaseSecret, "private key": "PRIVATE KEY-----", "token of a pool": "token-of-pool-",
	}}
	f.a = &app{stdin: strings.NewReader(""), stdout: &f.out, stderr: &f.err, output: "text"}
	f.site = &manifests.Site{
		Name: "site-a", Platform: platform, Airgap: "isolated", Inputs: map[string]any{},
		Identity: &manifests.Identity{Name: "Olga Operator", Key: "file:" + operator.Path()},
		People:   []manifests.Person{{Name: "Sam Security", Role: "security", Key: "file:" + strings.TrimSuffix(security.Path(), ".key") + ".pub"}},
	}
	f.site.APIVersion, f.site.Kind = manifests.APIVersion, manifests.KindSite
	dir := t.TempDir()
	f.opts = install.Options{SiteDir: dir, State: filepath.Join(dir, "state"), Resume: true, Actor: "Olga Operator", Tool: "v0.0.0-test"}
	return f
}

// answer adds to what the site says.
func (f *fullRun) answer(list ...map[string]any) {
	f.t.Helper()
	for _, inputs := range list {
		maps.Copy(f.secrets, answer(f.t, f.site, f.list, inputs))
	}
}

// registry is the site's own, which lets in who knows its password.
func (f *fullRun) registry() *manifests.SiteRegistry {
	f.t.Helper()
	const password = "password-of-the-registry"
	f.secrets["registry.password"] = password
	return &manifests.SiteRegistry{
		To: rowRegistry(f.t, "airlock", password) + "/airlock", PlainHTTP: true, Username: "airlock", Password: "file:" + rowFile(f.t, []byte(password)),
	}
}

// open binds the site as it is now to the kinds of step, as the commands do.
func (f *fullRun) open() {
	f.t.Helper()
	var err error
	f.opts.Site, f.opts.Sign, f.opts.KeyID, f.opts.Listener = f.site, f.operator.Blob, f.operator.Fingerprint(), f.a.installEvents()
	if f.opts.People, err = people(f.site, f.opts.SiteDir, f.operator); err != nil {
		f.t.Fatal(err)
	}
	if err := f.a.deskKinds(f.t.Context(), f.site, &f.opts, leaseFlags{}); err != nil {
		f.t.Fatal(err)
	}
}

// run runs items, or what is left of the whole checklist.
func (f *fullRun) run(items ...string) {
	f.t.Helper()
	o := f.opts
	o.Items = items
	rep, err := install.Run(f.t.Context(), f.b, o)
	if err != nil {
		f.t.Fatalf("%v: %v", items, err)
	}
	f.rep = rep
}

// do runs an item and brings what people have to.
func (f *fullRun) do(id string) {
	f.t.Helper()
	f.run(id)
	switch f.item(id).State {
	case install.StateWaiting:
		f.sign(install.KindAttestation, id, f.operator)
	case install.StateUnavailable:
		f.sign(install.KindWaiver, id, f.operator, f.security)
	case install.StateFail:
		if f.cluster == "" && f.clusterWork(id) {
			f.sign(install.KindWaiver, id, f.operator, f.security)
		}
	}
}

// clusterWork reports whether an item works in a cluster.
func (f *fullRun) clusterWork(id string) bool {
	i := slices.IndexFunc(f.list.Items, func(it manifests.Item) bool { return it.ID == id })
	return slices.ContainsFunc(slices.Concat(f.list.Items[i].Steps, f.list.Items[i].Probes), func(s manifests.Step) bool {
		kind, _, _ := strings.Cut(s.Run, ".")
		return slices.Contains([]string{"k8s", "helm", "cluster", "certmanager"}, kind)
	})
}

// sign is airlock checklist attest and waive after their keys are open.
func (f *fullRun) sign(kind, id string, keys ...*sign.Key) {
	f.t.Helper()
	desk, err := install.OpenDesk(f.t.Context(), f.b, f.opts)
	if err != nil {
		f.t.Fatal(err)
	}
	flags := statementFlags{yes: true}
	if kind == install.KindWaiver {
		flags.reason, flags.risk = "it was done by hand, as the item's note says", "nobody but its people looked at it"
	}
	var files []install.ProofFile
	for _, item := range f.list.Items {
		if item.ID != id || item.Attest == nil || kind != install.KindAttestation {
			continue
		}
		for _, p := range item.Attest.Evidence {
			if p.Required {
				files = append(files, install.ProofFile{Name: p.Name, Data: []byte("delivered by hand\n")})
			}
		}
	}
	rep, err := f.a.signAt(f.t.Context(), desk, flags, id, kind, files, keys)
	if err := errors.Join(err, desk.Close()); err != nil {
		f.t.Fatalf("%s: %v", id, err)
	}
	if err := f.a.stated(rep, flags, id); err != nil {
		f.t.Errorf("%s: %v", id, err)
	}
	f.rep = rep
}

// before does in order all that comes before an item, or all there is.
func (f *fullRun) before(item string) {
	f.t.Helper()
	f.run("verify-installation-archive") // every run says what applies
	for _, id := range inOrder(f.list) {
		if id == item {
			return
		}
		if f.applies(id) {
			f.do(id)
		}
	}
}

// applies reports whether the last run found an item's condition true; before the
// first run every item applies. Loading the checklist is most of what a run of one
// item takes, so that items which do not apply are left to the runs of others.
func (f *fullRun) applies(id string) bool {
	return f.rep == nil || f.item(id).State != install.StateSkipped
}

func (f *fullRun) item(id string) install.ItemReport { return reported(f.rep, id) }

// inOrder are the items of a checklist in its own order, each after what it
// needs. Groups are left out: their children are run.
func inOrder(c *manifests.Checklist) []string {
	at, parent := map[string]manifests.Item{}, map[string]string{}
	for _, it := range c.Items {
		at[it.ID] = it
		for _, child := range it.Children {
			parent[child] = it.ID
		}
	}
	seen, out := map[string]bool{}, []string(nil)
	var visit func(id string)
	visit = func(id string) {
		if seen[id] {
			return
		}
		seen[id] = true
		for _, need := range slices.Concat(at[parent[id]].Needs, at[id].Needs, at[id].Children) {
			visit(need)
		}
		if at[id].Kind != manifests.ItemGroup {
			out = append(out, id)
		}
	}
	for _, it := range c.Items {
		visit(it.ID)
	}
	return out
}

// states says which items are to stand where, ids separated by spaces.
type states map[install.State]string

// check compares the report of the last run with a table that names every item,
// and every row of the source, once.
func (f *fullRun) check(want states) {
	f.t.Helper()
	of := map[string]install.State{}
	for state, ids := range want {
		for id := range strings.FieldsSeq(ids) {
			of[id] = state
		}
	}
	var rows []string
	for _, ph := range f.rep.Phases {
		for _, it := range ph.Items {
			if it.SeedRow != "" {
				rows = append(rows, it.SeedRow)
			}
			if it.State != of[it.ID] {
				f.t.Errorf("%s is %s (%s), want %q; findings: %+v", it.ID, it.State, it.Reason, of[it.ID], it.Findings)
			}
			delete(of, it.ID)
		}
	}
	if len(of) > 0 {
		f.t.Errorf("the report has no %v", of)
	}
	all := slices.Sorted(slices.Values(f.list.Source.Rows))
	if slices.Sort(rows); len(all) != 43 || !slices.Equal(rows, all) {
		f.t.Errorf("the report has the rows\n%q, want\n%q", rows, all)
	}
	f.shown(all)
}

// shown looks for the rows in every form of the report that is kept.
func (f *fullRun) shown(rows []string) {
	f.t.Helper()
	rep, err := install.ReadReport(f.opts.State)
	if err != nil {
		f.t.Fatal(err)
	}
	page, err := rep.HTML()
	if err != nil {
		f.t.Fatal(err)
	}
	raw, err := rep.JSON()
	if err != nil {
		f.t.Fatal(err)
	}
	var back install.Report
	if err := json.Unmarshal(raw, &back); err != nil {
		f.t.Fatal(err)
	}
	forms := map[string]string{"HTML": html.UnescapeString(string(page)), "Markdown": rep.Markdown(), "JSON": fmt.Sprintf("%+v", back)}
	for form, text := range forms {
		for _, row := range rows {
			if !strings.Contains(text, row) {
				f.t.Errorf("the report as %s lacks the row %s", form, row)
			}
		}
	}
	// Lines for a terminal are short: they have what each row comes to.
	for _, ph := range rep.Phases {
		for _, it := range ph.Items {
			if !strings.Contains(rep.Text(), it.Title) {
				f.t.Errorf("the report as text lacks %s", it.Title)
			}
		}
	}
	noSecrets(f.t, f.known(), "a report", page, raw, []byte(rep.Text()), []byte(rep.Markdown()))
}

// finished checks that nothing is left and that the record stands.
func (f *fullRun) finished() {
	f.t.Helper()
	if f.rep.Status != install.StatusDone || len(f.rep.Left) > 0 {
		f.t.Errorf("the installation is %s, left are %+v", f.rep.Status, f.rep.Left)
	}
	for _, ph := range f.rep.Phases {
		for _, it := range ph.Items {
			// No query says which runner is the account's default: it is set again.
			if it.Kind != manifests.ItemGroup && it.State != install.StateSkipped && !it.Reused && it.ID != "default-runner-image" {
				f.t.Errorf("%s was done again, though nothing has changed", it.ID)
			}
		}
	}
	v, err := verifyCheckpoints(f.opts.State, f.opts.People, true, true, nil)
	if err != nil || !v.Signed || !v.Covered {
		f.t.Errorf("verify the ledger: %+v, %v", v, err)
	}
	err = install.VerifyStatements(f.opts.State, f.opts.People, func(s install.Statement, listed bool) {
		if !listed {
			f.t.Errorf("%s is signed by a key that the site does not list", s.Item)
		}
	})
	if err != nil {
		f.t.Error(err)
	}
}

// known are the secrets of the site and what its servers handed out.
func (f *fullRun) known() map[string]string {
	out := maps.Clone(f.secrets)
	for i, tokens := range f.tokens {
		for j, token := range tokens() {
			out[fmt.Sprintf("token %d of server %d", j, i)] = token
		}
	}
	return out
}

// secret looks for secrets in everything that the installation left or said.
func (f *fullRun) secret() {
	f.t.Helper()
	noSecrets(f.t, f.known(), "what commands print", f.out.Bytes(), f.err.Bytes())
	noSecretFiles(f.t, f.known(), f.opts.State)
}
