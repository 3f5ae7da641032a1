package install

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/verify"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// carrier is what the engine reads of a *verify.Bundle. Tests of the engine put
// a checklist behind it; everything exported names *verify.Bundle.
type carrier interface {
	Info() verify.Info
	Decision() verify.Decision
	Items() iter.Seq2[bundle.Entry, error]
	Manifest(d digest.Digest) (raw []byte, desc bundle.Descriptor, ok bool)
	ReadBlob(ctx context.Context, desc bundle.Descriptor) ([]byte, error)
}

// readChecklist returns the one checklist that b carries, its document and the
// digest of that.
func readChecklist(ctx context.Context, b carrier) (c *manifests.Checklist, document []byte, source string, err error) {
	var found []bundle.Entry
	for entry, err := range b.Items() {
		if err != nil {
			return nil, nil, "", fmt.Errorf("list bundle: %w", err)
		}
		if entry.Kind == bundle.KindChecklist && entry.Role == bundle.RoleRoot {
			found = append(found, entry)
		}
	}
	if len(found) == 0 {
		return nil, nil, "", &NoChecklistError{Product: b.Info().Product}
	}
	if len(found) != 1 {
		return nil, nil, "", fmt.Errorf("bundle of %s carries %d checklists, want one", b.Info().Product, len(found))
	}
	layer, err := onlyLayer(b, found[0])
	if err != nil {
		return nil, nil, "", err
	}
	data, err := b.ReadBlob(ctx, layer)
	if err != nil {
		return nil, nil, "", fmt.Errorf("read checklist %s: %w", found[0].Name, err)
	}
	c, err = manifests.ParseChecklist(found[0].Name, data)
	if err != nil {
		return nil, nil, "", err
	}
	return c, data, layer.Digest.String(), nil
}

// onlyLayer returns the single layer of a carried artifact.
func onlyLayer(b carrier, entry bundle.Entry) (bundle.Descriptor, error) {
	raw, _, ok := b.Manifest(entry.Digest)
	if !ok {
		return bundle.Descriptor{}, fmt.Errorf("%s %s: manifest %s is not carried", entry.Kind, entry.Name, entry.Digest)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return bundle.Descriptor{}, fmt.Errorf("%s %s: decode manifest: %w", entry.Kind, entry.Name, err)
	}
	if len(m.Layers) != 1 {
		return bundle.Descriptor{}, fmt.Errorf("%s %s: manifest has %d layers, want one", entry.Kind, entry.Name, len(m.Layers))
	}
	return m.Layers[0], nil
}

// match refuses a bundle, a checklist and a site that do not belong together.
func match(info verify.Info, c *manifests.Checklist, site *manifests.Site) error {
	if c.Product != info.Product {
		return &MismatchError{What: "checklist for product", Have: c.Product, Want: []string{info.Product}}
	}
	if len(c.Platforms) > 0 && !slices.Contains(c.Platforms, site.Platform) {
		return &MismatchError{What: "site platform", Have: site.Platform, Want: c.Platforms}
	}
	if len(info.Audience) > 0 && !slices.Contains(info.Audience, site.Name) {
		return &MismatchError{What: "site", Have: site.Name, Want: info.Audience}
	}
	return nil
}

// selection returns the ids of the selected leaves, nil for all.
func selection(c *manifests.Checklist, phases string, items []string) (map[string]bool, error) {
	if phases == "" && len(items) == 0 {
		return nil, nil
	}
	chosen := make(map[string]bool)
	if err := selectPhases(c, phases, chosen); err != nil {
		return nil, err
	}
	byID := make(map[string]*manifests.Item)
	var ids []string
	for i := range c.Items {
		byID[c.Items[i].ID] = &c.Items[i]
		ids = append(ids, c.Items[i].ID)
	}
	for _, id := range items {
		if byID[id] == nil {
			return nil, &SelectionError{What: "item", Name: id, Have: ids}
		}
		chosen[id] = true
	}
	// Children follow their group, at any depth: the graph is known to be acyclic.
	for grew := true; grew; {
		grew = false
		for id := range chosen {
			for _, child := range byID[id].Children {
				if !chosen[child] {
					chosen[child], grew = true, true
				}
			}
		}
	}
	return chosen, nil
}

func selectPhases(c *manifests.Checklist, phases string, chosen map[string]bool) error {
	if phases == "" {
		return nil
	}
	var have []string
	for _, p := range c.Phases {
		have = append(have, fmt.Sprintf("%d (%s)", p.Number, p.Title))
	}
	find := func(name string) (int, error) {
		for _, p := range c.Phases {
			if name == p.ID || name == fmt.Sprint(p.Number) {
				return p.Number, nil
			}
		}
		return 0, &SelectionError{What: "phase", Name: name, Have: have}
	}
	for part := range strings.SplitSeq(phases, ",") {
		part = strings.TrimSpace(part)
		from, to, isRange := strings.Cut(part, "-")
		if slices.ContainsFunc(c.Phases, func(p manifests.Phase) bool { return p.ID == part }) {
			from, isRange = part, false // an id may hold a hyphen
		}
		first, err := find(strings.TrimSpace(from))
		if err != nil {
			return err
		}
		last := first
		if isRange {
			if last, err = find(strings.TrimSpace(to)); err != nil {
				return err
			}
		}
		if last < first {
			return &SelectionError{What: "phase", Name: part, Have: have}
		}
		for _, p := range c.Phases {
			if p.Number < first || p.Number > last {
				continue
			}
			for _, item := range c.Items {
				if item.Phase == p.ID {
					chosen[item.ID] = true
				}
			}
		}
	}
	return nil
}
