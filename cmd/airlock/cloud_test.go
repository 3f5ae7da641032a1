package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/mirror"
	"github.com/airlock-project/airlock/mirror/target/targettest"
	"github.com/airlock-project/airlock/testdata/fixture"
	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// cloud is a registry product as the command line meets it: its real host
// names, a test CA, and a stand-in that the product's own --resolve leads to.
type cloud struct {
	t      *testing.T
	dir    string
	bundle product
	flags  []string
	env    map[string]string
	login  string // what has to be printed of the credentials

	to       string // where the suite mirrors to, --to
	first    string // the repository, below the host, of the first image
	creates  string // what a plan says of what is missing; empty: nothing ever is
	missing  string // what is said where that may not be made
	server   *targettest.Server
	registry *targettest.Registry
	// secrets must not turn up in any output. Each is also looked for in base64
	// and as part of a Basic login.
	secrets []string
}

// product is a signed bundle and its key.
type product struct{ path, pub string }

// newCloud puts a registry behind a stand-in. hosts are the names that lead to it.
func newCloud(t *testing.T, s *targettest.Server, g *targettest.Registry, hosts ...string) *cloud {
	t.Helper()
	g.Behind = olareg.New(config.Config{Storage: config.ConfigStorage{StoreType: config.StoreMem}})
	c := &cloud{t: t, dir: t.TempDir(), server: s, registry: g, env: map[string]string{}}
	c.bundle = c.pack("layer")
	c.flags = []string{"--ca-file", s.CA}
	for _, h := range hosts {
		c.flags = append(c.flags, "--resolve", h+":"+s.Addr())
	}
	return c
}

// pack makes a signed bundle of two images that share a layer. Its content
// follows from the word; the names do not.
func (c *cloud) pack(word string) product {
	c.t.Helper()
	spool := fixture.Spool(c.t)
	seed := uint64(len(word))
	app, err := fixture.NewImage(spool, "quay.io/team/app:v1", seed, 90_000, 500)
	if err != nil {
		c.t.Fatal(err)
	}
	side, err := fixture.NewImage(spool, "quay.io/team/side:v1", seed, 90_000)
	if err != nil {
		c.t.Fatal(err)
	}
	path, pub := fixture.File(c.t, spool, app, side)
	return product{path, pub}
}

// run runs airlock and returns what it wrote. Another exit code than want ends
// the test, and so does a secret in the output.
func (c *cloud) run(want int, args ...string) (stdout, stderr string) {
	c.t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(c.t.Context(), "airlock", append(args, c.flags...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.dir, &out, &errs
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.dir, "NO_COLOR=1"}
	for k, v := range c.env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	code := 0
	if err := cmd.Run(); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			c.t.Fatal(err)
		}
		code = exit.ExitCode()
	}
	both := out.String() + errs.String()
	for _, s := range c.secrets {
		for _, form := range []string{s, base64.StdEncoding.EncodeToString([]byte(s))} {
			if strings.Contains(both, form) {
				c.t.Fatalf("airlock %q shows a secret", args)
			}
		}
	}
	if code != want {
		c.t.Fatalf("airlock %q: exit code %d, want %d\n%s", args, code, want, both)
	}
	return out.String(), errs.String()
}

func (c *cloud) mirror(want int, args ...string) (stdout, stderr string) {
	c.t.Helper()
	return c.run(want, append([]string{"mirror", c.bundle.path, "--key", c.bundle.pub}, args...)...)
}

// says fails the test unless text holds every word.
func (c *cloud) says(text string, words ...string) {
	c.t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			c.t.Errorf("%q is missing in:\n%s", w, text)
		}
	}
}

// wrote fails the test if the registry was changed since it was asked last.
func (c *cloud) wrote(what string) {
	c.t.Helper()
	if list := c.registry.Writes(); len(list) > 0 {
		c.t.Errorf("%s changes the registry: %q", what, list)
	}
}

// suite goes through a life: looked at, planned, filled by that plan, found
// full, then found different.
func (c *cloud) suite() {
	c.t.Helper()
	out, _ := c.run(0, "registry", "check", c.to)
	c.says(out, "ok       tls", "ok       credentials     "+c.login)

	out, _ = c.mirror(0, "--to", c.to, "--dry-run")
	c.says(out, "login: "+c.login, c.creates, "absent    "+c.first+":v1")
	c.wrote("a dry run")
	if c.missing != "" {
		out, errs := c.mirror(1, "--to", c.to, "--dry-run", "--no-create")
		c.says(out+errs, "stop ", c.missing)
		_, errs = c.mirror(1, "--to", c.to, "--no-create")
		c.says(errs, c.missing, "hint: ")
		c.wrote("--no-create")
	}

	plan := filepath.Join(c.dir, "plan.json")
	out, _ = c.mirror(0, "--to", c.to, "--dry-run", "--output", "json")
	if err := os.WriteFile(plan, []byte(out), 0o600); err != nil {
		c.t.Fatal(err)
	}
	var d mirror.Document
	if err := json.Unmarshal([]byte(out), &d); err != nil {
		c.t.Fatal(err)
	}
	out, errs := c.mirror(0, "--plan", plan)
	c.says(out, "3 items sent, 0 there already")
	c.says(errs, "login at "+d.Target[:strings.Index(d.Target, "/")]+": "+c.login)
	c.carried(&d)

	out, _ = c.mirror(0, "--to", c.to)
	c.says(out, "0 items sent, 3 there already; 0 blobs sent")
	c.wrote("a second run")
	out, _ = c.mirror(0, "--plan", plan)
	c.says(out, "0 items sent, 3 there already")
	c.wrote("a plan that is carried out")
	restore := c.move(c.first, "v1")
	_, errs = c.mirror(1, "--plan", plan)
	c.says(errs, "the plan is out of date", c.first, "make a new plan")
	c.wrote("a plan that is out of date")
	restore()
	c.conflict()
}

// move makes a tag name something else, as somebody else would, and returns what
// undoes it.
func (c *cloud) move(repository, tag string) (restore func()) {
	c.t.Helper()
	ask := func(method, mediaType string, body []byte) *httptest.ResponseRecorder {
		rec, req := httptest.NewRecorder(), httptest.NewRequestWithContext(c.t.Context(), method, "/v2/"+repository+"/manifests/"+tag, bytes.NewReader(body))
		req.Header.Set("Content-Type", mediaType)
		req.Header.Set("Accept", ocispec.MediaTypeImageManifest+", "+ocispec.MediaTypeImageIndex)
		c.registry.Behind.ServeHTTP(rec, req)
		if rec.Code >= 300 {
			c.t.Fatalf("%s %s:%s: status %d: %s", method, repository, tag, rec.Code, rec.Body)
		}
		return rec
	}
	was := ask(http.MethodGet, "", nil)
	ask(http.MethodPut, ocispec.MediaTypeImageIndex, []byte(`{"schemaVersion":2,"mediaType":"`+ocispec.MediaTypeImageIndex+`","manifests":[]}`))
	return func() { ask(http.MethodPut, was.Header().Get("Content-Type"), was.Body.Bytes()) }
}

// carried compares what was written with the plan: every blob once, every
// manifest, nothing else.
func (c *cloud) carried(d *mirror.Document) {
	c.t.Helper()
	puts := map[string]int{}
	for _, w := range c.registry.Writes() {
		if path, ok := strings.CutPrefix(w, http.MethodPut+" "); ok && strings.Contains(path, "/manifests/") {
			puts[path]++
		}
	}
	manifests := 0
	for _, it := range d.Items {
		manifests += it.Manifests
		_, repository, _ := strings.Cut(it.Repository, "/")
		if strings.Count(it.Repository, ".") == 0 {
			repository = it.Repository
		}
		if got, ok := c.registry.Has(repository, it.Tag); !ok || got != it.Digest.String() {
			c.t.Errorf("%s:%s is %q, want %s", repository, it.Tag, got, it.Digest)
		}
	}
	if len(puts) != manifests {
		c.t.Errorf("manifests written: %v, want %d", puts, manifests)
	}
}

// conflict mirrors other content under the same names.
func (c *cloud) conflict() {
	c.t.Helper()
	was := c.bundle
	defer func() { c.bundle = was }()
	have, _ := c.registry.Has(c.first, "v1")
	c.bundle = c.pack("another layer")
	_, errs := c.mirror(1, "--to", c.to, "--dry-run")
	c.says(errs, c.first+":v1", have, "the bundle has sha256:", "nothing was overwritten")
	_, errs = c.mirror(1, "--to", c.to)
	c.says(errs, "exists with sha256:", "the bundle has sha256:", "nothing was overwritten")
	c.wrote("a conflict")
}

// refuses mirrors to a place that is empty, while the registry refuses what f
// says, and wants the words in the error and in the hint.
func (c *cloud) refuses(place string, refusal targettest.Refusal, words ...string) {
	c.t.Helper()
	c.registry.Refuse(func(r *http.Request, _ string) targettest.Refusal {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			return targettest.Refusal{}
		}
		return refusal
	})
	defer c.registry.Refuse(nil)
	_, errs := c.mirror(1, "--to", c.to+"/"+place)
	c.says(errs, words...)
	c.says(errs, "hint: ")
}
