package mirror

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"

	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/airlock-project/airlock/mirror/target"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// ReferrersError says that a registry does not list what refers to a manifest
// of the bundle: clients find no signatures there.
type ReferrersError struct {
	Repository string // registry/repository
	Subject    digest.Digest
	Missing    []digest.Digest // sorted, at least one
	Err        error
}

func (e *ReferrersError) Error() string {
	return fmt.Sprintf("referrers of %s@%s: %v; not listed: %s", e.Repository, e.Subject, e.Err, shorten(e.names()))
}

// Unwrap returns the cause.
func (e *ReferrersError) Unwrap() error { return e.Err }

func (e *ReferrersError) names() []string {
	list := make([]string, len(e.Missing))
	for i, d := range e.Missing {
		list[i] = d.String()
	}
	return list
}

var (
	errNotListed = errors.New("the registry took them and does not list them")
	// errFixedTag is no reason to hold back the image: no later run fares better.
	errFixedTag = errors.New("the tag that lists them holds other content and is not changed; the signatures stay in the bundle: verify them offline")
)

// family is a manifest and what the bundle carries that refers to it.
type family struct {
	subject digest.Digest
	members []*node // by digest
}

// families groups manifests by subject, in order of the subjects' digests.
func families(nodes []*node) []family {
	by := map[digest.Digest][]*node{}
	for _, n := range nodes {
		if n.subject != "" {
			by[n.subject] = append(by[n.subject], n)
		}
	}
	var list []family
	for _, subject := range slices.Sorted(maps.Keys(by)) {
		members := by[subject]
		slices.SortFunc(members, func(a, b *node) int { return cmp.Compare(a.desc.Digest, b.desc.Digest) })
		list = append(list, family{subject, slices.Compact(members)})
	}
	return list
}

// relate sees to it that the registry lists the referrers among an item's
// manifests, which are there. What never will be listed is kept for the report.
func (e *engine) relate(ctx context.Context, j *job) error {
	j.unlisted = nil
	for _, f := range families(slices.Collect(j.item.manifests())) {
		err := e.relateOne(ctx, j.repo, f)
		if unlisted, ok := errors.AsType[*ReferrersError](err); ok && errors.Is(err, errFixedTag) {
			j.unlisted = append(j.unlisted, unlisted)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// relateOne asks what is listed until nothing is missing, and writes the
// fallback index where there is one. A registry's list may lag behind a push,
// and another writer may have replaced the index that was just written.
func (e *engine) relateOne(ctx context.Context, r *repo, f family) error {
	unlock := r.lock(f.subject)
	defer unlock()
	for attempt := 1; ; attempt++ {
		missing, err := e.unlisted(ctx, r, f)
		if err != nil || len(missing) == 0 {
			return err
		}
		failure := func(cause error) error {
			return &ReferrersError{Repository: r.name, Subject: f.subject, Missing: digests(missing), Err: cause}
		}
		switch {
		case attempt > fewAttempts:
			return failure(errNotListed)
		case r.referrers.Load() == referrersAPI:
			if err := e.pause(ctx, attempt, nil); err != nil {
				return err
			}
			continue
		}
		err = e.try(ctx, func() error { return e.extend(ctx, r, f) })
		if errors.Is(err, errFixedTag) {
			return failure(errFixedTag)
		}
		if err != nil {
			return fmt.Errorf("list referrers of %s: %w", f.subject, err)
		}
	}
}

func digests(nodes []*node) []digest.Digest {
	list := make([]digest.Digest, len(nodes))
	for i, n := range nodes {
		list[i] = n.desc.Digest
	}
	return list
}

// unlisted returns the members of a family that the registry does not list.
func (e *engine) unlisted(ctx context.Context, r *repo, f family) ([]*node, error) {
	var have map[digest.Digest]bool
	err := e.try(ctx, func() (err error) {
		have, err = r.listed(ctx, f.subject)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ask for referrers of %s: %w", f.subject, err)
	}
	return slices.DeleteFunc(slices.Clone(f.members), func(n *node) bool { return have[n.desc.Digest] }), nil
}

// extend reads the fallback index anew and adds what it lacks.
func (e *engine) extend(ctx context.Context, r *repo, f family) error {
	index, err := r.fallback(ctx, f.subject)
	if err != nil {
		return err
	}
	raw, err := index.with(f.members)
	if err != nil || raw == nil {
		return err
	}
	if err := e.pacer.wait(ctx); err != nil {
		return err
	}
	err = r.write(ctx, ocispec.MediaTypeImageIndex, raw, index.tag)
	if index.fields != nil && e.fixed(err) {
		return fmt.Errorf("%s:%s: %w", r.name, index.tag, errFixedTag)
	}
	return err
}

// fixed reports whether a tag was refused because it is never moved.
func (e *engine) fixed(err error) bool {
	if err == nil {
		return false
	}
	if p, ok := errors.AsType[*target.Problem](e.opts.explain(err)); ok && (p.Code == target.TagImmutable || p.Code == target.Locked) {
		return true
	}
	s := status(err)
	return s == http.StatusConflict || s == http.StatusPreconditionFailed
}

// How a repository lists referrers, once it was asked.
const (
	referrersUnknown int32 = iota
	referrersAPI
	referrersTag
)

// lock serialises work on the referrers of a subject.
func (r *repo) lock(subject digest.Digest) (unlock func()) {
	r.mu.Lock()
	m := r.subjects[subject]
	if m == nil {
		m = &sync.Mutex{}
		r.subjects[subject] = m
	}
	r.mu.Unlock()
	m.Lock()
	return m.Unlock
}

// listed returns what the registry lists as referrers of a subject: through the
// API or, where it has none, in the index under the fallback tag.
func (r *repo) listed(ctx context.Context, subject digest.Digest) (map[digest.Digest]bool, error) {
	have := map[digest.Digest]bool{}
	if r.referrers.Load() != referrersTag {
		scoped := auth.AppendRepositoryScope(ctx, r.Reference, auth.ActionPull, auth.ActionPush)
		err := r.api.Referrers(scoped, ocispec.Descriptor{Digest: subject}, "", func(page []ocispec.Descriptor) error {
			for _, d := range page {
				have[d.Digest] = true
			}
			return nil
		})
		if r.referrers.Load() == referrersAPI || !lacksReferrers(err) {
			if err == nil {
				r.referrers.Store(referrersAPI)
			}
			return have, err
		}
		r.referrers.Store(referrersTag)
	}
	index, err := r.fallback(ctx, subject)
	if errors.Is(err, errFixedTag) {
		return nil, nil // whatever is there lists nothing
	}
	if err != nil {
		return nil, err
	}
	return index.listed, nil
}

// lacksReferrers reports whether an answer says that there is no referrers API.
// The distribution-spec has 404 for it, registries have more.
func lacksReferrers(err error) bool {
	switch status(err) {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	}
	return errors.Is(err, errdef.ErrUnsupported)
}

// fallbackIndex is the index that lists referrers where no API does
// (distribution-spec 1.1, "Referrers Tag Schema").
type fallbackIndex struct {
	tag       string
	fields    map[string]json.RawMessage // as it was, nil if there is none
	manifests []json.RawMessage
	listed    map[digest.Digest]bool
}

// referrersTagOf is the tag of a subject's index.
func referrersTagOf(subject digest.Digest) string {
	hex := subject.Encoded()
	return string(subject.Algorithm()) + "-" + hex[:min(64, len(hex))]
}

// fallback reads the index of a subject. A tag that names anything else is
// errFixedTag: it is not ours to replace.
func (r *repo) fallback(ctx context.Context, subject digest.Digest) (*fallbackIndex, error) {
	index := &fallbackIndex{tag: referrersTagOf(subject), listed: map[digest.Digest]bool{}}
	resp, err := r.manifest(ctx, http.MethodGet, index.tag)
	if err != nil {
		return nil, err
	}
	defer drain(resp)
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return index, nil
	default:
		return nil, readError(resp)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, archive.MaxManifest+1))
	if err != nil {
		return nil, err
	}
	if digest.FromBytes(raw) == subject {
		return index, nil // some registries take the tag for the subject's digest
	}
	if !index.parse(raw) {
		return nil, fmt.Errorf("%s:%s: %w", r.name, index.tag, errFixedTag)
	}
	return index, nil
}

// parse reads an index and reports whether it is one.
func (x *fallbackIndex) parse(raw []byte) bool {
	var kind string
	if len(raw) > archive.MaxManifest || json.Unmarshal(raw, &x.fields) != nil || x.fields == nil ||
		json.Unmarshal(x.fields["mediaType"], &kind) != nil || kind != ocispec.MediaTypeImageIndex ||
		json.Unmarshal(x.fields["manifests"], &x.manifests) != nil {
		return false
	}
	for _, m := range x.manifests {
		var d struct {
			Digest digest.Digest `json:"digest"`
		}
		if json.Unmarshal(m, &d) != nil {
			return false
		}
		x.listed[d.Digest] = true
	}
	return true
}

// with returns the index with the members that it lacks, each with its artifact
// type and annotations; what is in it stays as it is. It returns nil if none is
// lacking.
func (x *fallbackIndex) with(members []*node) ([]byte, error) {
	manifests := slices.Clone(x.manifests)
	for _, n := range members {
		if x.listed[n.desc.Digest] {
			continue
		}
		d := n.desc
		d.ArtifactType, d.Annotations = n.artifact, n.annotations
		raw, err := json.Marshal(d)
		if err != nil {
			return nil, fmt.Errorf("encode descriptor of %s: %w", d.Digest, err)
		}
		manifests = append(manifests, raw)
	}
	if len(manifests) == len(x.manifests) {
		return nil, nil
	}
	fields := map[string]json.RawMessage{
		"schemaVersion": json.RawMessage("2"),
		"mediaType":     json.RawMessage(`"` + ocispec.MediaTypeImageIndex + `"`),
	}
	maps.Copy(fields, x.fields)
	list, err := json.Marshal(manifests)
	if err != nil {
		return nil, fmt.Errorf("encode index %s: %w", x.tag, err)
	}
	fields["manifests"] = list
	raw, err := json.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("encode index %s: %w", x.tag, err)
	}
	if len(raw) > archive.MaxManifest {
		return nil, fmt.Errorf("index %s would have %d bytes, %d are allowed", x.tag, len(raw), archive.MaxManifest)
	}
	return raw, nil
}
