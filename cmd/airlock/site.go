package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle/regular"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/manifests/spacelift"
	"github.com/airlock-project/airlock/verify"
	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

// platformWords names the platforms of sites, for people.
var platformWords = strings.Join(manifests.SitePlatforms(), ", ")

// questionFlags name the checklist whose questions a site answers.
type questionFlags struct {
	trustFlags
	bundle    string
	checklist string
	preset    string
}

func (f *questionFlags) add(cmd *cobra.Command, preset string) {
	f.trustFlags.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.bundle, "bundle", "", "use the checklist in this verified `bundle`: what will run")
	fl.StringVar(&f.checklist, "checklist", "", "use this checklist `file`")
	fl.StringVar(&f.preset, "preset", preset, "use the checklist of this `preset`, where neither of the two is given")
}

// load returns the checklist and the version of the product, "" where nothing
// says it.
func (f *questionFlags) load(ctx context.Context, a *app, site string) (*manifests.Checklist, string, error) {
	switch {
	case f.bundle != "" && f.checklist != "":
		return nil, "", &usageError{errors.New("give one of --bundle and --checklist")}
	case f.bundle != "":
		b, err := a.open(ctx, f.bundle, f.trustFlags, verify.Options{Site: site})
		if err != nil {
			return nil, "", err
		}
		defer b.Close()
		c, err := install.Checklist(ctx, b)
		return c, b.Info().Version, err
	case f.checklist != "":
		data, err := regular.Read(f.checklist, manifests.MaxDocument)
		if err != nil {
			return nil, "", err
		}
		c, err := manifests.ParseChecklist(f.checklist, data)
		return c, "", err
	case f.preset != spacelift.Name:
		return nil, "", &usageError{fmt.Errorf("--preset %q: presets are: %s", f.preset, spacelift.Name)}
	}
	data, err := spacelift.Checklist()
	if err != nil {
		return nil, "", err
	}
	c, err := manifests.ParseChecklist("preset:"+spacelift.Name, data)
	return c, "", err
}

// words are the flags that name the same checklist again.
func (f *questionFlags) words() string {
	switch {
	case f.bundle != "":
		return " --bundle " + f.bundle
	case f.checklist != "":
		return " --checklist " + f.checklist
	}
	return " --preset " + f.preset
}

func (a *app) siteInit() *cobra.Command {
	var f questionFlags
	var name, platform, airgap, out string
	cmd := &cobra.Command{
		Use: "init --platform PLATFORM", Short: "Write a commented site file with the questions of a checklist",
		Long: `Writes what a site has to answer on its platform, and nothing that other
platforms need: what is required without a value, everything else as a comment
with its default. An existing file is left alone.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.runSiteInit(cmd.Context(), f, &manifests.Site{Name: name, Platform: platform, Airgap: airgap}, out)
		},
	}
	f.add(cmd, spacelift.Name)
	fl := cmd.Flags()
	fl.StringVar(&platform, "platform", "", "`platform` of the site: "+platformWords)
	fl.StringVar(&name, "name", "site-a", "`name` of the site")
	fl.StringVar(&airgap, "airgap", "isolated", "`kind` of air gap: isolated, or partial where some traffic leaves")
	fl.StringVarP(&out, "out", "o", "site.yaml", "`file` to write")
	return cmd
}

func (a *app) runSiteInit(ctx context.Context, f questionFlags, site *manifests.Site, out string) error {
	switch {
	case site.Platform == "":
		return &usageError{errors.New("--platform is missing: " + platformWords)}
	case !slices.Contains(manifests.SitePlatforms(), site.Platform):
		return &usageError{fmt.Errorf("--platform %q: want %s", site.Platform, platformWords)}
	}
	c, version, err := f.load(ctx, a, site.Name)
	if err != nil {
		return err
	}
	data, err := siteTemplate(c, site, version)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("write %s: %w", out, err)
	}
	return a.result(map[string]string{"file": out, "site": site.Name, "platform": site.Platform}, func(w io.Writer) {
		fmt.Fprintf(w, "wrote %s\nFill in what has no value, then: airlock site check%s %s\n", out, f.words(), out)
	})
}

func (a *app) siteCheck() *cobra.Command {
	var f questionFlags
	cmd := &cobra.Command{
		Use: "check [FILE]", Short: "Check a site file and its answers to a checklist",
		Long: `Checks the site file, and with a checklist its answers: names, types and what is
missing give exit code 4. Then it looks at the secrets, without showing them, and
runs what needs nothing but the answers and files beside them. What a run would
fail for is shown with its code, cause and fix, and gives exit code 20.`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error {
			path := "site.yaml"
			if len(list) > 0 {
				path = list[0]
			}
			return a.runSiteCheck(cmd.Context(), f, path)
		},
	}
	f.add(cmd, "")
	return cmd
}

func (a *app) runSiteCheck(ctx context.Context, f questionFlags, path string) error {
	s, err := loadSite(path)
	if err != nil {
		return err
	}
	if f.bundle == "" && f.checklist == "" && f.preset == "" {
		return a.result(map[string]string{"site": s.Name, "file": path}, func(w io.Writer) {
			fmt.Fprintf(w, "%s is in order: site %s on %s\nGive --bundle, --checklist or --preset to check its answers to a checklist as well.\n", path, s.Name, s.Platform)
		})
	}
	c, version, err := f.load(ctx, a, s.Name)
	if err != nil {
		return err
	}
	o := install.Options{Site: s, SiteDir: filepath.Dir(path)}
	if err := a.plainKinds(s, &o); err != nil {
		return err
	}
	if _, err := people(s, o.SiteDir); err != nil {
		return err
	}
	found, err := install.CheckSite(ctx, c, o, version)
	if err != nil {
		return err
	}
	res := siteResult{Site: s.Name, File: path, Product: c.Product, Findings: found}
	if err := a.result(res, func(w io.Writer) { printSiteCheck(w, s.Platform, res) }); err != nil {
		return err
	}
	if n := res.fails(); n > 0 {
		return &foreseenError{site: s.Name, n: n}
	}
	return nil
}

// siteResult is the result of site check.
type siteResult struct {
	Site     string              `json:"site"`
	File     string              `json:"file"`
	Product  string              `json:"product"`
	Findings []install.Foresight `json:"findings"`
}

func (r siteResult) fails() int {
	n := 0
	for _, f := range r.Findings {
		if f.Severity == install.SeverityFail {
			n++
		}
	}
	return n
}

// foreseenError says that rows of the checklist will fail with these answers.
// They were shown already.
type foreseenError struct {
	site string
	n    int
}

func (e *foreseenError) Error() string {
	return fmt.Sprintf("site %s: %s that a run will fail for", e.site, count(e.n, "finding"))
}

func printSiteCheck(w io.Writer, platform string, r siteResult) {
	if r.fails() == 0 {
		fmt.Fprintf(w, "%s is in order: site %s on %s answers what %s asks\n", r.File, r.Site, platform, r.Product)
	}
	for _, f := range r.Findings {
		about := ""
		if f.Item != "" {
			about = " (" + f.Item + ")"
		}
		fmt.Fprintf(w, "%s %s%s: %s\n", f.Severity, cmp.Or(f.Code, "-"), about, oneLine(cmp.Or(f.Cause, f.Detail)))
		if f.Fix != "" {
			fmt.Fprintf(w, "  fix: %s\n", oneLine(f.Fix))
		}
	}
}

// siteTemplate writes a site file that asks the questions of a checklist.
func siteTemplate(c *manifests.Checklist, site *manifests.Site, version string) ([]byte, error) {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# The answers of a site to the checklist of %s. Secrets are given by", c.Product)
	p("# reference, env:NAME or file:PATH, never as they are. Relative paths start at")
	p("# this file. What has no value has to be answered; airlock site check says what is missing.")
	p("apiVersion: %s\nkind: %s", manifests.APIVersion, manifests.KindSite)
	p("name: %s", scalar(site.Name))
	p("platform: %s", scalar(site.Platform))
	p("airgap: %s  # isolated, or partial where some traffic leaves", scalar(site.Airgap))
	p("\n# Who runs the installation: signs the record. Make the key with airlock keygen --name operator.")
	p(`# identity: {name: "you@example", key: "file:operator.key"}`)
	p("\n# Where the record of the installation lies. Without it: .airlock/%s beside this file.", site.Name)
	p("# state: /var/lib/airlock/%s", site.Name)
	p("\n# Where the bundle's content goes. The CA is that of the registry's certificate.")
	p(`# registry: {to: registry.example/airlock, ca: "file:ca.pem", username: airlock, password: "env:REGISTRY_PASSWORD"}`)
	if site.Platform != "ecs" {
		p("\n# kubernetes: {kubeconfig: \"file:kubeconfig\", context: %s}", site.Name)
	}
	// Whatever name was given, what is written must be a site file.
	if _, err := manifests.ParseSite("site.yaml", []byte(b.String())); err != nil {
		return nil, &usageError{err}
	}
	questions, err := install.Questions(c, site, version)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(questions, func(q install.Question) bool { return q.Required || q.Expected }) {
		p("\ninputs:")
	} else { // a key without a value is a mistake
		p("\n# Nothing has to be answered. Take the # away here too, with the first answer.\n# inputs:")
	}
	phase := ""
	for _, q := range questions {
		if q.Phase.ID != phase {
			phase = q.Phase.ID
			p("\n  # Phase %d: %s", q.Phase.Number, q.Phase.Title)
		}
		if err := question(p, q); err != nil {
			return nil, err
		}
	}
	return []byte(b.String()), nil
}

// question writes one input: what it is for, what it may be, and its default.
func question(p func(string, ...any), q install.Question) error {
	about := q.Input.Title
	if about == "" {
		about = "for " + strings.Join(q.Items, ", ")
	}
	p("\n  # %s", strings.ReplaceAll(about, "\n", " "))
	kind := q.Input.Type
	switch {
	case len(q.Input.Enum) > 0:
		kind = strings.Join(q.Input.Enum, ", ")
	case q.Secret():
		kind = "secret: env:NAME or file:PATH"
	}
	switch {
	case q.Required, q.Expected:
		p("  # (%s)\n  %s:", kind, q.Name)
		return nil
	case q.Input.RequiredWhen != "" && q.Input.RequiredWhen != "true":
		p("  # (%s; required when %s)", kind, q.Input.RequiredWhen)
	default:
		p("  # (%s)", kind)
	}
	if q.Default == nil {
		p("  # %s:", q.Name)
		return nil
	}
	raw, err := yaml.MarshalWithOptions(q.Default, yaml.Flow(true))
	if err != nil {
		return fmt.Errorf("write default of %s: %w", q.Name, err)
	}
	p("  # %s: %s", q.Name, strings.TrimSpace(string(raw)))
	return nil
}

// scalar writes text as a YAML value.
func scalar(s string) string {
	raw, err := yaml.Marshal(s)
	if err != nil {
		return `""`
	}
	return strings.TrimSpace(string(raw))
}
