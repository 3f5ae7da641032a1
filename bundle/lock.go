package bundle

import (
	"fmt"
	"time"

	"github.com/airlock-project/airlock/manifests"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// NewLock writes down what sources resolved to. pins[i] belongs to sources[i],
// and so does specs[i] unless specs is nil.
func NewLock(definition string, created time.Time, sources []Source, specs []Spec, pins [][]Pin) *manifests.Lock {
	l := &manifests.Lock{
		Header:     manifests.Header{APIVersion: manifests.APIVersion, Kind: manifests.KindLock},
		Definition: definition,
		Created:    created.UTC().Format(time.RFC3339),
	}
	for i, s := range sources {
		for _, p := range pins[i] {
			item := manifests.LockedItem{Entry: s.Origin(), Kind: p.Kind, Name: p.Name, Ref: p.Ref, Source: p.Origin}
			if i < len(specs) {
				item.Spec = specs[i].Digest
			}
			for _, m := range p.Manifests {
				d := lockDescriptor(m.Descriptor)
				d.Role, d.Ref = m.Role, m.Ref
				item.Manifests = append(item.Manifests, d)
			}
			for _, b := range p.Blobs {
				item.Blobs = append(item.Blobs, lockDescriptor(b))
			}
			l.Items = append(l.Items, item)
		}
	}
	return l
}

func lockDescriptor(d Descriptor) manifests.LockedDescriptor {
	out := manifests.LockedDescriptor{MediaType: d.MediaType, Digest: d.Digest.String(), Size: d.Size, ArtifactType: d.ArtifactType}
	if d.Platform != nil {
		out.Platform = &manifests.LockedPlatform{OS: d.Platform.OS, Architecture: d.Platform.Architecture, Variant: d.Platform.Variant, OSVersion: d.Platform.OSVersion, OSFeatures: d.Platform.OSFeatures}
	}
	return out
}

// Locked returns the pins that a lock records for one entry of the definition.
func Locked(l *manifests.Lock, entry string) ([]Pin, error) {
	var pins []Pin
	for _, item := range l.Items {
		if item.Entry != entry {
			continue
		}
		p := Pin{Item: Item{Kind: item.Kind, Name: item.Name, Ref: item.Ref}, Origin: item.Source}
		for _, d := range item.Manifests {
			desc, err := unlockDescriptor(d)
			if err != nil {
				return nil, fmt.Errorf("lock: item %s: %w", item.Name, err)
			}
			p.Manifests = append(p.Manifests, Manifest{Descriptor: desc, Role: d.Role, Ref: d.Ref})
		}
		for _, d := range item.Blobs {
			desc, err := unlockDescriptor(d)
			if err != nil {
				return nil, fmt.Errorf("lock: item %s: %w", item.Name, err)
			}
			p.Blobs = append(p.Blobs, desc)
		}
		pins = append(pins, p)
	}
	return pins, nil
}

func unlockDescriptor(d manifests.LockedDescriptor) (Descriptor, error) {
	out := Descriptor{MediaType: d.MediaType, Digest: digest.Digest(d.Digest), Size: d.Size, ArtifactType: d.ArtifactType}
	if d.Platform != nil {
		out.Platform = &ocispec.Platform{OS: d.Platform.OS, Architecture: d.Platform.Architecture, Variant: d.Platform.Variant, OSVersion: d.Platform.OSVersion, OSFeatures: d.Platform.OSFeatures}
	}
	return out, CheckDescriptor(out)
}
