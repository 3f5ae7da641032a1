package verify_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/airlock-project/airlock/verify"
)

// TestFlipAnywhere flips single bytes all over a bundle: at every boundary of a
// region and at random. Both ways of reading refuse. Where a signature file or a
// compressed block has two spellings of one meaning, both ways accept, and every
// blob is what was signed.
func TestFlipAnywhere(t *testing.T) {
	f := forge(t, 3000, 5000, 140_000)
	file := f.encode()
	p := policy(t, f.pub)
	path := filepath.Join(t.TempDir(), "flipped.tar.zst")
	sigStart := bytes.Index(file, f.head[2].data)
	sigEnd := sigStart + len(f.head[2].data)
	packed, marks := f.region["packed"], f.region["marks"]

	accepted := 0
	for _, at := range positions(f, len(file)) {
		old := file[at]
		file[at] ^= byte(1 << (at % 8))
		if err := os.WriteFile(path, file, 0o644); err != nil {
			t.Fatal(err)
		}
		random := openAndVerify(t, path, p)
		stream := verifyStream(t, file, f.pub)
		malleable := at >= sigStart && at < sigEnd || at >= packed && at < marks
		switch {
		case (random == nil) != (stream == nil):
			t.Errorf("byte %d: at random %v, stream %v", at, random, stream)
		case random == nil && !malleable:
			t.Errorf("byte %d: accepted by both", at)
		case random == nil:
			accepted++
		}
		file[at] = old
	}
	if accepted > 30 {
		t.Errorf("%d flips changed nothing: the test looks at the wrong places", accepted)
	}
}

// positions are the bytes around every region's boundary and 400 others.
func positions(f *forgery, size int) []int {
	rnd := rand.New(rand.NewPCG(1, 2))
	var out []int
	for _, at := range f.region {
		for d := -10; d < 20; d++ {
			out = append(out, at+d)
		}
	}
	for range 200 { // half of them outside of the slack, which is most of a small file
		out = append(out, rnd.IntN(size), f.region["meta"]+rnd.IntN(size-f.region["meta"]))
	}
	out = append(out, 0, size-1)
	slices.Sort(out)
	return slices.DeleteFunc(slices.Compact(out), func(at int) bool { return at < 0 || at >= size })
}

func openAndVerify(t *testing.T, path string, p *verify.Policy) error {
	t.Helper()
	b, err := verify.Open(t.Context(), path, p, verify.Options{})
	if err != nil {
		return err
	}
	defer b.Close()
	return b.VerifyAll(t.Context(), nil)
}
