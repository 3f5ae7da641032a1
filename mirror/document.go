package mirror

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/mirror/target"
	"github.com/airlock-project/airlock/verify"
	"github.com/opencontainers/go-digest"
)

// KindPlan is the kind of a Document.
const KindPlan = "MirrorPlan"

// MaxDocument bounds a saved plan in bytes.
const MaxDocument = 64 << 20

// Document is what a run would do, written down so that it can be reviewed,
// kept, and carried out by RunPlan. Same bundle, options and registry: same
// document. It holds no secret.
type Document struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`

	Bundle           digest.Digest `json:"bundle"`   // of the bundle's index.json
	Target           string        `json:"target"`   // registry and prefix
	Provider         string        `json:"provider"` // kind of the target
	Mapping          Mapping       `json:"mapping"`
	CredentialSource string        `json:"credentialSource,omitempty"`
	Shard            string        `json:"shard,omitempty"` // index/count: only its blobs are sent, and nothing is named

	Repositories []RepositoryPlan `json:"repositories"` // by name
	Actions      []target.Action  `json:"actions"`      // made before the first push
	Notices      []target.Notice  `json:"notices"`      // some may be fatal: then nothing would be sent
	CrossMount   target.Mount     `json:"crossMount,omitempty"`
	Items        []ItemPlan       `json:"items"` // by place
	Blobs        []BlobPlan       `json:"blobs"` // by digest, those of items that are not there

	Totals  Totals `json:"totals"`
	LeftOut int    `json:"leftOut,omitempty"` // see Plan.LeftOut
}

// RepositoryPlan is a repository of the target.
type RepositoryPlan struct {
	Name     string          `json:"name"`
	Presence target.Presence `json:"presence,omitempty"` // empty: the registry does not say
}

// ItemPlan is a tag and its state.
type ItemPlan struct {
	Sources    []string      `json:"sources"` // references of the bundle
	Repository string        `json:"repository"`
	Tag        string        `json:"tag"`
	Digest     digest.Digest `json:"digest"`
	State      State         `json:"state"`
	Problem    string        `json:"problem,omitempty"` // for Conflict and Unknown
	Tags       []SeenTag     `json:"tags"`              // its own, then those of cosign
	Manifests  int           `json:"manifests"`         // to be written
}

// SeenTag is a tag that was asked for.
type SeenTag struct {
	Tag  string        `json:"tag"`
	Want digest.Digest `json:"want"`
	Have digest.Digest `json:"have,omitempty"` // empty: not there
}

// BlobPlan is a blob that an item lacks. It may still be at the target.
type BlobPlan struct {
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"`
	From   string        `json:"from,omitempty"`  // a repository that has it
	Send   string        `json:"send,omitempty"`  // the repository that takes the bytes
	Mount  []string      `json:"mount,omitempty"` // the repositories it is mounted into
}

// Totals sum up.
type Totals struct {
	Absent   int   `json:"absent"` // items
	Same     int   `json:"same"`
	Conflict int   `json:"conflict"`
	Unknown  int   `json:"unknown"`
	Blobs    int   `json:"blobs"` // to be sent; fewer are where the registry has some of them
	Bytes    int64 `json:"bytes"` // of these
	Mounts   int   `json:"mounts"`
	Requests int   `json:"requests"` // about how many, beyond asking for tags
}

// DryRun asks the target and the registry and writes nothing. Fatal notices are
// in the document and no error.
func DryRun(ctx context.Context, b *verify.Bundle, o Options) (*Document, error) {
	return dryRun(ctx, b, o)
}

func dryRun(ctx context.Context, src source, o Options) (*Document, error) {
	e, err := prepareEngine(ctx, src, o)
	if err != nil {
		return nil, err
	}
	if err := e.survey(ctx); err != nil {
		// What is fatal is what the reader of the plan has to know.
		if _, ok := errors.AsType[*RefusedError](err); !ok {
			return nil, err
		}
	}
	return e.document(), nil
}

// document writes down what was seen.
func (e *engine) document() *Document {
	d := &Document{
		APIVersion: manifests.APIVersion, Kind: KindPlan,
		Bundle: e.plan.Bundle, Target: e.plan.To, Provider: e.target.Kind(), Mapping: e.opts.Mapping,
		CredentialSource: e.opts.CredentialSource, Shard: e.opts.Shard.String(), CrossMount: e.state.CrossMount, LeftOut: e.plan.LeftOut,
		Repositories: []RepositoryPlan{}, Items: []ItemPlan{}, Blobs: []BlobPlan{},
		Actions: append([]target.Action{}, e.state.Actions...), Notices: append([]target.Notice{}, e.state.Notices...),
	}
	for _, path := range slices.Sorted(maps.Keys(e.repos)) {
		d.Repositories = append(d.Repositories, RepositoryPlan{Name: path, Presence: e.state.Repositories[path]})
	}
	for _, j := range e.jobs {
		d.addItem(j)
	}
	tasks := e.schedule()
	if e.opts.Shard.Count > 0 {
		e.opts.Shard.cut(tasks)
	}
	for _, k := range slices.Sorted(maps.Keys(tasks)) {
		d.addBlob(tasks[k], e.noMount.Load())
	}
	d.Totals.Requests += len(d.Actions)
	return d
}

func (d *Document) addItem(j *job) {
	it := ItemPlan{
		Repository: j.item.Repository, Tag: j.item.Tag, Digest: j.item.Root.Digest,
		State: cmp.Or(j.state, Unknown), Tags: append([]SeenTag{}, j.seen...),
	}
	for _, o := range j.item.Origins {
		it.Sources = append(it.Sources, o.Ref)
	}
	switch it.State {
	case Absent:
		d.Totals.Absent++
	case Same:
		d.Totals.Same++
	case Conflict:
		d.Totals.Conflict++
	default:
		d.Totals.Unknown++
	}
	switch {
	case j.err != nil:
		it.Problem = j.err.Error()
	case d.Shard == "":
		it.Manifests = len(j.body) + len(j.refs)
		d.Totals.Requests += j.writes()
	}
	d.Items = append(d.Items, it)
}

func (d *Document) addBlob(t *blobTask, noMount bool) {
	b := BlobPlan{Digest: t.desc.Digest, Size: t.desc.Size}
	into := t.repos
	if t.from != nil {
		b.From = t.from.path
	} else {
		b.Send = into[0].path
		into = into[1:]
		d.Totals.Blobs++
		d.Totals.Bytes += t.desc.Size
		d.Totals.Requests += 2
		if noMount {
			d.Totals.Requests++
		}
	}
	for _, r := range into {
		b.Mount = append(b.Mount, r.path)
	}
	d.Totals.Mounts += len(into)
	d.Totals.Requests += len(into)
	d.Blobs = append(d.Blobs, b)
}

// Encode returns the document as indented JSON.
func (d *Document) Encode() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(d); err != nil {
		return nil, fmt.Errorf("encode plan: %w", err)
	}
	return b.Bytes(), nil
}

// ReadDocument reads a document of at most MaxDocument bytes, strictly: unknown
// fields, other kinds and versions, negative numbers, and anything after it are
// refused.
func ReadDocument(r io.Reader) (*Document, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("read plan: %w", err)
	}
	if len(data) > MaxDocument {
		return nil, fmt.Errorf("read plan: larger than %d bytes", MaxDocument)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	d := new(Document)
	if err := dec.Decode(d); err != nil {
		return nil, fmt.Errorf("read plan: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("read plan: more follows the document")
	}
	if d.APIVersion != manifests.APIVersion || d.Kind != KindPlan {
		return nil, fmt.Errorf("read plan: apiVersion %q and kind %q are not %s and %s", d.APIVersion, d.Kind, manifests.APIVersion, KindPlan)
	}
	if err := d.Bundle.Validate(); err != nil {
		return nil, fmt.Errorf("read plan: bundle: %w", err)
	}
	if d.negative() {
		return nil, errors.New("read plan: it counts below zero: it is not as it was written, make a new one")
	}
	return d, nil
}

// negative reports a count or size that no plan has.
func (d *Document) negative() bool {
	t := d.Totals
	return min(t.Absent, t.Same, t.Conflict, t.Unknown, t.Blobs, t.Mounts, t.Requests, d.LeftOut) < 0 || t.Bytes < 0 ||
		slices.ContainsFunc(d.Blobs, func(b BlobPlan) bool { return b.Size < 0 }) ||
		slices.ContainsFunc(d.Items, func(it ItemPlan) bool { return it.Manifests < 0 })
}
