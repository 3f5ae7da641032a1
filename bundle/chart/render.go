package chart

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	helmchart "helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/releaseutil"
	"sigs.k8s.io/yaml"
)

// DefaultKubeVersion is the Kubernetes version a chart is rendered for where
// Options names none.
const DefaultKubeVersion = "v1.33.0"

// Options say what a chart is rendered with. The zero value renders it under
// its own name into namespace default with its own values.
type Options struct {
	ReleaseName string       // default: the chart's name
	Namespace   string       // default: "default"
	KubeVersion string       // default: DefaultKubeVersion
	APIVersions []string     // beside those that Helm assumes without a cluster
	Values      []ValuesFile // merged in order, a later file wins
	Cluster     *Cluster     // what there is to ask; nil renders for an assumed one
}

// Cluster lets templates see a cluster: what it can do, what is in it, and which
// revision of the release this is.
type Cluster struct {
	Capabilities *chartutil.Capabilities // in place of KubeVersion and APIVersions
	Lookup       engine.ClientProvider   // lookup asks it; nil finds nothing
	Revision     int                     // of the release, from 1
	Upgrade      bool                    // .Release.IsUpgrade instead of IsInstall
}

// ValuesFile is one values file. Name is for messages.
type ValuesFile struct {
	Name string
	Data []byte
}

// Stage is the part of an installation that an object belongs to.
type Stage int

// Stages, in the order in which Helm installs. Objects of StageOther (hooks of
// upgrade, rollback, delete and test) have no part in an installation.
const (
	StageCRD Stage = iota
	StagePreInstall
	StageResource
	StagePostInstall
	StageOther
)

// Object is one rendered Kubernetes object.
type Object struct {
	Source string         // the template or CRD file, from the chart's name on
	Stage  Stage          // where it belongs in an installation
	Tree   map[string]any // the object; numbers are json.Number
}

// APIVersion is the object's apiVersion.
func (o Object) APIVersion() string { return text(o.Tree["apiVersion"]) }

// Kind is the object's kind.
func (o Object) Kind() string { return text(o.Tree["kind"]) }

// Name is the object's metadata.name; it is empty for lists.
func (o Object) Name() string { return text(o.metadata()["name"]) }

// YAML encodes the object with sorted keys: the same object gives the same
// bytes.
func (o Object) YAML() ([]byte, error) {
	b, err := yaml.Marshal(o.Tree)
	if err != nil {
		return nil, fmt.Errorf("encode %s/%s: %w", o.Kind(), o.Name(), err)
	}
	return b, nil
}

// JSON encodes the object with sorted keys.
func (o Object) JSON() ([]byte, error) {
	b, err := json.Marshal(o.Tree)
	if err != nil {
		return nil, fmt.Errorf("encode %s/%s: %w", o.Kind(), o.Name(), err)
	}
	return b, nil
}

func (o Object) metadata() map[string]any {
	m, _ := o.Tree["metadata"].(map[string]any)
	return m
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

// Rendered is what a chart's templates yield.
type Rendered struct {
	Objects []Object // in the order in which Helm installs
	Notes   string   // of the chart itself, not of its subcharts
	Unknown []string // objects that Helm never installs: nobody knows their hook
}

// Render renders the chart without a cluster, in the order in which Helm
// installs: CRDs, pre-install hooks, resources, post-install hooks, other
// hooks. Values that break the chart's schema give a [SchemaError]. Errors show
// no value whose key says that it is secret.
//
// The same chart and options give the same objects, unless a template asks for
// random data, fresh keys or the time.
func (c *Chart) Render(ctx context.Context, o Options) ([]Object, error) {
	out, err := c.RenderAll(ctx, o)
	return out.Objects, err
}

// RenderAll is [Chart.Render] with what else the templates yield.
func (c *Chart) RenderAll(ctx context.Context, o Options) (Rendered, error) {
	return c.renderWithin(ctx, o, MaxMemory)
}

func (c *Chart) renderWithin(ctx context.Context, o Options, memory uint64) (Rendered, error) {
	ctx, cancel := context.WithTimeout(ctx, MaxRenderTime)
	defer cancel()
	type result struct {
		out Rendered
		err error
	}
	done := make(chan result, 1)
	full, stop := outgrown(memory)
	defer stop()
	// The template engine knows no context. A template that never ends keeps
	// its goroutine until the process ends; the caller goes on.
	go func() {
		out, err := c.render(o)
		done <- result{out, err}
	}()
	var err error
	select {
	case r := <-done:
		if r.err == nil {
			return r.out, nil
		}
		err = hide(r.err, o.Values)
	case <-full:
		err = fmt.Errorf("its templates take more than %d MiB of memory", memory>>20)
	case <-ctx.Done():
		err = ctx.Err()
	}
	return Rendered{}, fmt.Errorf("render chart %q: %w", c.Name(), err)
}

func (c *Chart) render(o Options) (out Rendered, err error) {
	// Helm's value handling trusts its input more than we do: a chart must not
	// be able to end the process.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("chart makes Helm panic: %v", r)
		}
	}()
	h, err := c.tree.build()
	if err != nil {
		return out, err
	}
	values, err := c.renderValues(h, o)
	if err != nil {
		return out, err
	}
	files, err := execute(h, values, o.Cluster)
	if err != nil {
		return out, err
	}
	size := 0
	for name, content := range files {
		if size += len(content); size > MaxRender {
			return out, fmt.Errorf("templates yield more than %d bytes", MaxRender)
		}
		if path.Base(name) == "NOTES.txt" {
			if name == path.Join(h.Name(), "templates", "NOTES.txt") {
				out.Notes = content
			}
			delete(files, name)
		}
	}
	out.Unknown = unknownHooks(files)
	out.Objects, err = collect(h, files)
	return out, err
}

func execute(h *helmchart.Chart, values chartutil.Values, in *Cluster) (map[string]string, error) {
	if in != nil && in.Lookup != nil {
		return engine.RenderWithClientProvider(h, values, in.Lookup)
	}
	return engine.Render(h, values)
}

// renderValues makes what templates see as the dot.
func (c *Chart) renderValues(h *helmchart.Chart, o Options) (chartutil.Values, error) {
	caps, err := capabilities(o)
	if err != nil {
		return nil, err
	}
	if want := h.Metadata.KubeVersion; want != "" && !chartutil.IsCompatibleRange(want, caps.KubeVersion.Version) {
		return nil, fmt.Errorf("chart wants Kubernetes %q, not %s", want, caps.KubeVersion.Version)
	}
	name := cmp.Or(o.ReleaseName, c.Name())
	if err := chartutil.ValidateReleaseName(name); err != nil {
		return nil, fmt.Errorf("release name %q: %w", name, err)
	}
	given, err := MergeValues(o.Values)
	if err != nil {
		return nil, err
	}
	if err := chartutil.ProcessDependenciesWithMerge(h, given); err != nil {
		return nil, fmt.Errorf("process dependencies: %w", err)
	}
	release := chartutil.ReleaseOptions{Name: name, Namespace: cmp.Or(o.Namespace, "default"), Revision: 1, IsInstall: true}
	if o.Cluster != nil {
		release.Revision, release.IsInstall, release.IsUpgrade = o.Cluster.Revision, !o.Cluster.Upgrade, o.Cluster.Upgrade
	}
	values, err := chartutil.ToRenderValuesWithSchemaValidation(h, given, release, caps, true)
	if err != nil {
		return nil, fmt.Errorf("merge values: %w", err)
	}
	merged, err := values.Table("Values")
	if err != nil {
		return nil, fmt.Errorf("merge values: %w", err)
	}
	return values, validateValues(h, merged)
}

func capabilities(o Options) (*chartutil.Capabilities, error) {
	if o.Cluster != nil && o.Cluster.Capabilities != nil {
		return o.Cluster.Capabilities, nil
	}
	kube, err := chartutil.ParseKubeVersion(cmp.Or(o.KubeVersion, DefaultKubeVersion))
	if err != nil {
		return nil, fmt.Errorf("parse Kubernetes version %q: %w", o.KubeVersion, err)
	}
	caps := chartutil.DefaultCapabilities.Copy()
	caps.KubeVersion = *kube
	caps.APIVersions = append(slices.Clone(caps.APIVersions), o.APIVersions...)
	// A template may print it; what it prints must not depend on our compiler.
	caps.HelmVersion.GoVersion = ""
	return caps, nil
}

// collect parses what was rendered and puts it in order of installation.
func collect(h *helmchart.Chart, files map[string]string) ([]Object, error) {
	var objects []Object
	for _, crd := range h.CRDObjects() {
		for _, doc := range splitDocuments(string(crd.File.Data)) {
			if err := add(&objects, crd.Filename, StageCRD, doc); err != nil {
				return nil, err
			}
		}
	}
	hooks, manifests, err := releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
	if err != nil {
		return nil, err
	}
	// Helm runs the hooks of an event by weight, then by name.
	slices.SortStableFunc(hooks, func(a, b *release.Hook) int {
		return cmp.Or(cmp.Compare(a.Weight, b.Weight), cmp.Compare(a.Name, b.Name))
	})
	for _, m := range manifests {
		if err := add(&objects, m.Name, StageResource, m.Content); err != nil {
			return nil, err
		}
	}
	for _, hook := range hooks {
		if err := add(&objects, hook.Path, hookStage(hook.Events), hook.Manifest); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(objects, func(a, b Object) int { return cmp.Compare(a.Stage, b.Stage) })
	return objects, nil
}

// unknownHooks names the objects with a hook that Helm does not know, such as
// those of its second version, which it leaves out without a word.
func unknownHooks(files map[string]string) []string {
	var out []string
	for _, name := range sortedKeys(files) {
		if !strings.Contains(files[name], release.HookAnnotation) {
			continue
		}
		objects, err := Parse(files[name])
		if err != nil {
			continue // collect says so
		}
		for _, o := range objects {
			notes, _ := o.metadata()["annotations"].(map[string]any)
			for event := range strings.SplitSeq(text(notes[release.HookAnnotation]), ",") {
				if event = strings.ToLower(strings.TrimSpace(event)); event != "" && !slices.Contains(hookEvents, event) {
					out = append(out, fmt.Sprintf("%s %s of %s: hook %q", o.Kind(), o.Name(), name, event))
				}
			}
		}
	}
	return out
}

// hookEvents are those that Helm knows; test-success is an old name of test.
var hookEvents = []string{
	"pre-install", "post-install", "pre-delete", "post-delete", "pre-upgrade", "post-upgrade", "pre-rollback", "post-rollback",
	"test", "test-success",
}

// hookStage places a hook at the first event of an installation it runs at.
func hookStage(events []release.HookEvent) Stage {
	switch {
	case slices.Contains(events, release.HookPreInstall):
		return StagePreInstall
	case slices.Contains(events, release.HookPostInstall):
		return StagePostInstall
	}
	return StageOther
}

// Parse reads a stream of YAML documents, such as the manifest of a release, in
// its order. The comment that Helm puts before a document (# Source: …) becomes
// the object's source; others have none. Empty documents are left out.
func Parse(stream string) ([]Object, error) {
	var objects []Object
	for _, doc := range splitDocuments(stream) {
		first, _, _ := strings.Cut(doc, "\n")
		source, _ := strings.CutPrefix(first, "# Source: ")
		if source == first {
			source = ""
		}
		if err := add(&objects, strings.TrimSpace(source), StageResource, doc); err != nil {
			return nil, err
		}
	}
	return objects, nil
}

// splitDocuments splits a YAML stream the way Helm does, in its order.
func splitDocuments(stream string) []string {
	docs := releaseutil.SplitManifests(stream)
	keys := sortedKeys(docs)
	slices.SortFunc(keys, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	out := make([]string, len(keys))
	for i, k := range keys {
		out[i] = docs[k]
	}
	return out
}

func add(objects *[]Object, source string, stage Stage, doc string) error {
	var v any
	err := yaml.Unmarshal([]byte(doc), &v, func(d *json.Decoder) *json.Decoder { d.UseNumber(); return d })
	if err != nil {
		return fmt.Errorf("parse output of %q: %w", source, err)
	}
	tree, ok := v.(map[string]any)
	if v != nil && !ok {
		return fmt.Errorf("parse output of %q: a document is not a Kubernetes object", source)
	}
	if len(tree) == 0 {
		return nil // a document of comments only
	}
	o := Object{Source: source, Stage: stage, Tree: tree}
	if o.Kind() == "" || o.APIVersion() == "" {
		return fmt.Errorf("parse output of %q: an object lacks kind or apiVersion", source)
	}
	if len(*objects) == MaxObjects {
		return fmt.Errorf("more than %d objects", MaxObjects)
	}
	*objects = append(*objects, o)
	return nil
}

// MergeValues merges values files the way helm's -f does: maps merge, everything
// else is replaced by the later file.
func MergeValues(files []ValuesFile) (map[string]any, error) {
	merged := map[string]any{}
	for _, f := range files {
		if len(f.Data) > MaxFile {
			return nil, fmt.Errorf("values file %q has more than %d bytes", f.Name, MaxFile)
		}
		values := map[string]any{}
		if err := yaml.Unmarshal(bytes.TrimPrefix(f.Data, []byte("\xef\xbb\xbf")), &values); err != nil {
			return nil, fmt.Errorf("parse values file %q: %s", f.Name, unquoted(err.Error()))
		}
		merged = mergeMaps(merged, values)
	}
	return merged, nil
}

// mergeMaps lays b over a; maps merge, everything else is replaced.
func mergeMaps(a, b map[string]any) map[string]any {
	for k, v := range b {
		below, ok1 := a[k].(map[string]any)
		above, ok2 := v.(map[string]any)
		if ok1 && ok2 {
			a[k] = mergeMaps(below, above)
		} else {
			a[k] = v
		}
	}
	return a
}
