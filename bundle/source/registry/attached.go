package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// cosignSuffixes are the tags cosign puts beside an image: signatures,
// attestations and SBOMs, as sha256-<hex> and the suffix.
var cosignSuffixes = [...]string{".sig", ".att", ".sbom"}

// attached returns what is attached to subjects, and what is attached to that:
// referrers sorted by digest, then cosign tags, subject by subject, level by
// level. Nothing attached is no error; a registry that does not say is.
func (r *resolver) attached(ctx context.Context, subjects []*node) ([]*node, error) {
	var out []*node
	known := map[digest.Digest]bool{}
	for _, n := range subjects {
		known[n.Digest] = true
	}
	for depth := 1; len(subjects) > 0; depth++ {
		found, err := r.lookups(ctx, subjects)
		if err != nil {
			return nil, err
		}
		if len(found) > 0 && depth > archive.MaxDepth {
			return nil, &FormatError{Object: r.written, Reason: fmt.Sprintf("referrers of referrers nest deeper than %d", archive.MaxDepth)}
		}
		nodes, fresh, err := r.attach(ctx, found, known)
		if err != nil {
			return nil, err
		}
		out = append(out, nodes...)
		subjects = fresh
	}
	return out, nil
}

// lookups asks for the referrers and cosign tags of all subjects.
func (r *resolver) lookups(ctx context.Context, subjects []*node) ([]wanted, error) {
	answers := make([][]wanted, len(subjects))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(concurrency)
	for i, n := range subjects {
		g.Go(func() error {
			referrers, err := r.referrers(gctx, n)
			if err != nil {
				return fmt.Errorf("list referrers: %w", err)
			}
			tags, err := r.cosignTags(gctx, n.Digest)
			if err != nil {
				return fmt.Errorf("look for cosign tags: %w", err)
			}
			answers[i] = append(referrers, tags...)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return slices.Concat(answers...), nil
}

// attach fetches what was found. nodes is what the pin lists; fresh is what
// was not known before, whose own attachments are still to be looked for, and
// which is known from now on.
func (r *resolver) attach(ctx context.Context, found []wanted, known map[digest.Digest]bool) (nodes, fresh []*node, err error) {
	listed := map[digest.Digest]bool{}
	found = slices.DeleteFunc(found, func(w wanted) bool {
		twice := w.ref == "" && (known[w.desc.Digest] || listed[w.desc.Digest])
		listed[w.desc.Digest] = true
		return twice
	})
	got, err := r.fetch(ctx, found)
	if err != nil {
		return nil, nil, err
	}
	byDigest := map[digest.Digest]*node{}
	for _, n := range got {
		byDigest[n.Digest] = n
	}
	for _, w := range found {
		n := byDigest[w.desc.Digest]
		if n == nil {
			continue // a referrer that is gone
		}
		if err := r.checkSubject(w, n); err != nil {
			return nil, nil, err
		}
		entry := *n // the same manifest may be a referrer and a tag
		entry.Role, entry.Ref = w.role, w.ref
		nodes = append(nodes, &entry)
		if !known[n.Digest] {
			known[n.Digest] = true
			fresh = append(fresh, n)
		}
		below, err := r.tree(ctx, n.parsed.Children)
		if err != nil {
			return nil, nil, err
		}
		for _, c := range below {
			if !known[c.Digest] {
				known[c.Digest] = true
				nodes, fresh = append(nodes, c), append(fresh, c)
			}
		}
	}
	return nodes, fresh, nil
}

func (r *resolver) checkSubject(w wanted, n *node) error {
	if w.subject == "" || n.parsed.Subject != nil && n.parsed.Subject.Digest == w.subject {
		return nil
	}
	return &FormatError{Object: r.object(n.Digest.String()), Reason: fmt.Sprintf("the registry lists it as a referrer of %s, which is not its subject", w.subject)}
}

// referrers lists the referrers of n by API or, where there is none, by the
// referrers tag schema (distribution-spec 1.1).
func (r *resolver) referrers(ctx context.Context, n *node) ([]wanted, error) {
	var out []wanted
	collect := func(page []bundle.Descriptor) error {
		for _, d := range page {
			if err := r.checkReferrer(d); err != nil {
				return err
			}
			if len(out) == maxManifests {
				return &FormatError{Object: r.object(n.Digest.String()), Reason: fmt.Sprintf("more than %d referrers", maxManifests)}
			}
			out = append(out, wanted{desc: d, role: bundle.RoleReferrer, subject: n.Digest})
		}
		return nil
	}
	err := r.repo.Referrers(ctx, n.Descriptor, "", collect)
	if noSuchAPI(err) {
		out = nil
		err = r.byTag.Referrers(ctx, n.Descriptor, "", collect)
	}
	if err != nil && !isNotFound(err) {
		return nil, remote.Explain(err, r.object(n.Digest.String()))
	}
	slices.SortFunc(out, func(a, b wanted) int { return strings.Compare(string(a.desc.Digest), string(b.desc.Digest)) })
	return slices.CompactFunc(out, func(a, b wanted) bool { return a.desc.Digest == b.desc.Digest }), nil
}

func (r *resolver) checkReferrer(d bundle.Descriptor) error {
	err := bundle.CheckDescriptor(d)
	switch {
	case err != nil:
	case d.Size > archive.MaxManifest:
		err = fmt.Errorf("%d bytes, at most %d allowed", d.Size, archive.MaxManifest)
	case !bundle.IsIndex(d.MediaType) && !bundle.IsManifest(d.MediaType):
		err = fmt.Errorf("media type %q is neither manifest nor index", d.MediaType)
	}
	if err != nil {
		return &FormatError{Object: fmt.Sprintf("referrer %q in %s", d.Digest, r.ref.Name()), Reason: err.Error()}
	}
	return nil
}

// noSuchAPI reports the answers, other than the first 404, which oras-go knows,
// with which registries older than the referrers API answer it.
func noSuchAPI(err error) bool {
	if errors.Is(err, errdef.ErrUnsupported) {
		return true
	}
	resp, ok := errors.AsType[*errcode.ErrorResponse](err)
	if !ok {
		return false
	}
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusNotImplemented:
		return true
	}
	return false
}

func isNotFound(err error) bool {
	if resp, ok := errors.AsType[*errcode.ErrorResponse](err); ok {
		return resp.StatusCode == http.StatusNotFound
	}
	if _, ok := errors.AsType[*remote.NotFoundError](err); ok {
		return true
	}
	return errors.Is(err, errdef.ErrNotFound)
}

// cosignTags looks for cosign's tags of a manifest, with HEAD, which rate
// limits do not count as a pull.
func (r *resolver) cosignTags(ctx context.Context, d digest.Digest) ([]wanted, error) {
	var out []wanted
	for _, suffix := range cosignSuffixes {
		tag := "sha256-" + d.Encoded() + suffix
		desc, err := r.repo.Resolve(ctx, tag)
		if _, refused := errors.AsType[*errcode.ErrorResponse](err); err != nil && !refused && !isNotFound(err) {
			// HEAD need not say digest and size (distribution-spec "Pulling manifests").
			desc, _, err = r.read(ctx, tag)
		}
		if isNotFound(err) {
			continue
		}
		if err != nil {
			return nil, remote.Explain(err, r.object(tag))
		}
		if err := r.checkReferrer(desc); err != nil {
			return nil, err
		}
		out = append(out, wanted{
			desc: bundle.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size},
			role: bundle.RoleCosignTag,
			ref:  repositoryAsWritten(r.written) + ":" + tag,
		})
	}
	return out, nil
}

// distributable refuses a layer that its author only lets be fetched from
// elsewhere, unless the registry has it nevertheless.
func (r *resolver) distributable(ctx context.Context, n *node, d bundle.Descriptor) error {
	foreign := len(d.URLs) > 0 || strings.Contains(d.MediaType, ".nondistributable.") || strings.Contains(d.MediaType, ".foreign.")
	if !foreign {
		return nil
	}
	object := r.object(d.Digest.String())
	ok, err := r.repo.Blobs().Exists(ctx, d)
	if err != nil {
		return remote.Explain(err, object)
	}
	if !ok {
		return &FormatError{Object: r.object(n.Digest.String()), Reason: fmt.Sprintf("layer %s is non-distributable and the registry does not have it; push it there with the image (docker: allow-nondistributable-artifacts) or build on another base", d.Digest)}
	}
	return nil
}
