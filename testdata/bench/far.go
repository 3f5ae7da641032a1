package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Rows that are about the shape of a bundle: how many blobs, how large.
const (
	rowFar  = "mirror, 50 ms away, 8 blobs of 4 MB"
	rowHalf = "mirror, 50 ms away, 500 blobs of 16 kB"
	rowMany = "mirror, 50 ms away, 2000 blobs of 16 kB"
	row400  = "mirror of 400 MB"
	row4000 = "mirror of 4 GB"
)

// roundTrips is how many a blob that is absent takes: the question that opens an
// upload, and the body.
const roundTrips = 2

// shape is a bundle by what it consists of.
type shape struct {
	images, layers int // layers of each image
	size           int64
	far            bool // mirrored over a relay
}

func (s shape) blobs() int { return s.images * (s.layers + 1) }

// shapes lists the rows of shapes; what is large only where it was asked for.
func shapes(large bool) []step {
	rows := []struct {
		name string
		s    shape
	}{
		{rowFar, shape{1, 8, 4_000_000, true}},
		{rowHalf, shape{4, 125, 16_000, true}},
		{rowMany, shape{4, 500, 16_000, true}},
		{row400, shape{2, 5, 40_000_000, false}},
		{row4000, shape{2, 5, 400_000_000, false}},
	}
	if !large {
		rows = rows[:len(rows)-1]
	}
	var list []step
	for _, r := range rows {
		list = append(list, step{Name: r.name, once: true, run: func(b *bench, ctx context.Context) (sample, error) { return b.shape(ctx, r.name, r.s) }})
	}
	return list
}

// shape makes a bundle, mirrors it to a registry that keeps nothing, and notes
// what that took.
func (b *bench) shape(ctx context.Context, name string, s shape) (_ sample, err error) {
	source, sink := newPhantom(), newPhantom()
	defer source.Close()
	defer sink.Close()
	dir := b.path("shape")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return sample{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file, err := b.shapeBundle(ctx, dir, source, s)
	if err != nil {
		return sample{}, err
	}
	to := sink.host
	if s.far {
		r, err := startRelay(sink.host)
		if err != nil {
			return sample{}, err
		}
		defer r.Close()
		to = r.Addr().String()
	}
	out, err := b.measure(ctx, dir, b.airlock, "mirror", file, "--key", b.path("bench.pub"), "--to", to, "--plain-http", to)
	if err != nil {
		return sample{}, err
	}
	b.notes = append(b.notes, s.note(name, out, source.total, sink))
	return out, nil
}

func (b *bench) shapeBundle(ctx context.Context, dir string, source *phantom, s shape) (string, error) {
	sizes := make([][]int64, s.images)
	for i := range sizes {
		for range s.layers {
			sizes[i] = append(sizes[i], s.size)
		}
	}
	if err := source.carry(ctx, "shape", sizes...); err != nil {
		return "", err
	}
	var def strings.Builder
	def.WriteString("apiVersion: airlock/v1\nkind: Bundle\nproduct: bench\nversion: v1.0.0\nrelease: 1\nimages:\n")
	for _, img := range source.images {
		fmt.Fprintf(&def, "  - {ref: %q}\n", source.host+"/"+img.repo+":"+img.tag)
	}
	fmt.Fprintf(&def, "tools: {path: %q, platforms: [%s]}\n", b.path("tools"), b.platform)
	if err := os.WriteFile(filepath.Join(dir, "airlock.yaml"), []byte(def.String()), 0o644); err != nil {
		return "", err
	}
	file := filepath.Join(dir, "shape.tar.zst")
	_, err := b.measure(ctx, dir, b.airlock, "bundle", "create", "--key", b.path("bench.key"), "--plain-http", source.host, "-o", file)
	return file, err
}

// note says how a run compares with what its round trips cost one after the
// other, which is the measure that the number of blobs does not change.
func (s shape) note(name string, out sample, total int64, sink *phantom) string {
	sent := fmt.Sprintf("sent %.3f of %.1f MB, %d requests, %d under way at the most", float64(sink.got.Load())/float64(total), mb(total), sink.requests.Load(), sink.most.Load())
	if !s.far {
		return fmt.Sprintf("%s: peak %.0f MB, %s.", name, mb(out.Peak), sent)
	}
	waits := float64(roundTrips*s.blobs()) * (2 * oneWay).Seconds()
	return fmt.Sprintf("%s: %.0f blobs/s, %.1f round trips at once on average, %s.", name, float64(s.blobs())/out.Seconds, waits/out.Seconds, sent)
}
