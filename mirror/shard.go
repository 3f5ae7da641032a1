package mirror

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
)

// maxShards bounds Shard.Count; beyond it shards are empty for any bundle.
const maxShards = 4096

// Shard is a part of the blobs of a bundle. The parts of one Count cover all
// blobs and none overlaps; which blob is whose follows from digests alone, so
// that machines need not talk to each other. The zero value is no shard.
type Shard struct {
	Index int // from 0, as Kubernetes numbers the pods of an Indexed Job
	Count int
}

// ParseShard reads "index/count", as in 0/4 to 3/4.
func ParseShard(s string) (Shard, error) {
	first, second, ok := strings.Cut(s, "/")
	i, err1 := strconv.Atoi(first)
	n, err2 := strconv.Atoi(second)
	sh := Shard{Index: i, Count: n}
	if !ok || err1 != nil || err2 != nil || n == 0 || sh.check() != nil {
		return Shard{}, fmt.Errorf("shard %q: give index/count, from 0/count to the one before count/count, count at most %d", s, maxShards)
	}
	return sh, nil
}

func (s Shard) check() error {
	if s == (Shard{}) {
		return nil
	}
	if s.Count < 1 || s.Count > maxShards || s.Index < 0 || s.Index >= s.Count {
		return fmt.Errorf("shard %d of %d: count from 0 and below the count, of at most %d", s.Index, s.Count, maxShards)
	}
	return nil
}

// has reports whether a blob is in the shard.
func (s Shard) has(d digest.Digest) bool {
	raw, err := hex.DecodeString(d.Encoded())
	if err != nil || len(raw) < 8 {
		return s.Index == 0 // every digest that was verified is longer
	}
	return binary.BigEndian.Uint64(raw)%uint64(s.Count) == uint64(s.Index)
}

// cut leaves the blobs of the shard, each for its first repository.
func (s Shard) cut(tasks map[digest.Digest]*blobTask) {
	maps.DeleteFunc(tasks, func(d digest.Digest, _ *blobTask) bool { return !s.has(d) })
	for _, t := range tasks {
		t.repos = t.repos[:1]
	}
}

// String writes a shard as ParseShard reads it; no shard is empty.
func (s Shard) String() string {
	if s.Count == 0 {
		return ""
	}
	return fmt.Sprintf("%d/%d", s.Index, s.Count)
}

// runShard sends the blobs of the shard, each to its first repository, which is
// the same for all shards and the closing run as long as nobody else changes
// tags meanwhile. It names nothing.
func (e *engine) runShard(ctx context.Context) error {
	tasks := e.schedule()
	e.opts.Shard.cut(tasks)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	e.stop = cancel
	e.sendBlobs(ctx, tasks)
	sum := tally{of: "blobs", cause: context.Cause(ctx)}
	for _, d := range slices.Sorted(maps.Keys(tasks)) {
		t := tasks[d]
		err := t.done[t.repos[0].path].err
		if err != nil {
			err = fmt.Errorf("push to %s: %w", t.repos[0].name, err)
		}
		sum.add(t.repos[0].name+"@"+d.String(), err)
	}
	if err := sum.err(); err != nil {
		return err
	}
	return sum.cause
}
