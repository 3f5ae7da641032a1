package manifests

import "time"

// Bounds on a lock, those of the archive format (bundle/archive/limits.go,
// which this package cannot import): a lock beyond them locks nothing that can
// be written.
const (
	maxLockedManifest  = 4 << 20
	maxLockedManifests = 40_000
	maxLockedBlobs     = 400_000
)

// ParseLock decodes airlock.lock strictly and checks it. name stands for the
// document in findings. The error is Findings: all of them at once. A lock of
// MaxDocument bytes takes a few seconds and some 50 times its size of memory.
func ParseLock(name string, data []byte) (*Lock, error) {
	l := new(Lock)
	if err := parse(name, data, MaxDocument, KindLock, l, l.check); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *Lock) check(d *document) {
	if _, err := time.Parse(time.RFC3339, l.Created); l.Created != "" && err != nil {
		d.at(path{"created"}, "got %s, which is no time of the calendar", quoted(l.Created))
	}
	sizes := map[string]int64{}
	var manifests, blobs int
	for i, item := range l.Items {
		manifests += len(item.Manifests)
		blobs += len(item.Blobs)
		for j, desc := range item.Manifests {
			p := path{"items", i, "manifests", j}
			if desc.Size > maxLockedManifest {
				d.at(p.with("size"), "a manifest has at most %d bytes, got %d", maxLockedManifest, desc.Size)
			}
			desc.check(d, sizes, p)
		}
		once := make(map[string]bool, len(item.Blobs))
		for j, desc := range item.Blobs {
			p := path{"items", i, "blobs", j}
			if once[desc.Digest] {
				d.at(p.with("digest"), "%s is listed twice", quoted(desc.Digest))
			}
			once[desc.Digest] = true
			desc.check(d, sizes, p)
		}
	}
	if manifests > maxLockedManifests {
		d.at(path{"items"}, "lock has %d manifests, at most %d are allowed", manifests, maxLockedManifests)
	}
	if blobs > maxLockedBlobs {
		d.at(path{"items"}, "lock has %d blobs, at most %d are allowed", blobs, maxLockedBlobs)
	}
}

func (desc LockedDescriptor) check(d *document, sizes map[string]int64, p path) {
	if size, ok := sizes[desc.Digest]; ok && size != desc.Size {
		d.at(p.with("size"), "got %d, but %s has %d bytes elsewhere in the lock", desc.Size, desc.Digest, size)
		return
	}
	if desc.Digest != "" {
		sizes[desc.Digest] = desc.Size
	}
}
