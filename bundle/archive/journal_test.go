package archive

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
)

// half writes a PLACED and a PACKED blob of two each and breaks off.
func half(t *testing.T) (path string, p Plan, placed, packed [][]byte) {
	t.Helper()
	placed = [][]byte{filled(300_000), noise(5000)}
	packed = [][]byte{filled(100_000), noise(700)}
	p = Plan{Index: 100, Record: "lock"}
	for i := range 2 {
		p.Contents.Placed = append(p.Contents.Placed, Blob{digest.FromBytes(placed[i]), int64(len(placed[i]))})
		p.Contents.Packed = append(p.Contents.Packed, Blob{digest.FromBytes(packed[i]), int64(len(packed[i]))})
	}
	path = filepath.Join(t.TempDir(), "x")
	w := mustCreate(t, path, p)
	place(t, w, placed[0])
	if err := w.Pack(bytes.NewReader(packed[0])); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path, p, placed, packed
}

func mustCreate(t *testing.T, path string, p Plan) *Writer {
	t.Helper()
	w, err := Create(path, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func place(t *testing.T, w *Writer, b []byte) {
	t.Helper()
	pw, err := w.Place(Blob{digest.FromBytes(b), int64(len(b))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pw.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := pw.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestResume takes over exactly what lies whole in the partial file.
func TestResume(t *testing.T) {
	damage := func(at int64) func(*testing.T, string, *Plan) {
		return func(t *testing.T, path string, p *Plan) {
			t.Helper()
			l, err := newLayout(HeadSize(p.Index), p.Contents)
			if err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(path+".partial", os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if at < 0 {
				at = l.packed + 20
			} else {
				at += l.order[0].offset
			}
			if _, err := f.WriteAt([]byte{0xA5, 0x5A}, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tt := range []struct {
		name           string
		change         func(t *testing.T, path string, p *Plan)
		placed, packed bool // of the two written, which are taken over
	}{
		{"untouched", func(*testing.T, string, *Plan) {}, true, true},
		{"torn line", func(t *testing.T, path string, _ *Plan) {
			appendTo(t, path+".partial.journal", `{"packed":"sha256:`)
		}, true, true},
		{"line of another blob", func(t *testing.T, path string, _ *Plan) {
			appendTo(t, path+".partial.journal", `{"blob":"sha256:00"}`+"\n"+`{"packed":"sha256:00","frames":[4294967295]}`+"\n")
		}, true, true},
		{"another lock", func(_ *testing.T, _ string, p *Plan) { p.Record = "other" }, false, false},
		{"placed blob damaged", damage(5000), false, true},
		{"packed blob damaged", damage(-1), true, false},
		{"partial file lost", func(t *testing.T, path string, _ *Plan) { remove(t, path+".partial") }, false, false},
		{"journal lost", func(t *testing.T, path string, _ *Plan) { remove(t, path+".partial.journal") }, false, false},
		{"longer index", func(_ *testing.T, _ string, p *Plan) { p.Index += 1 << 20 }, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path, p, placed, packed := half(t)
			tt.change(t, path, &p)
			w := mustCreate(t, path, p)
			if got := w.Done(p.Contents.Placed[0]); got != tt.placed {
				t.Errorf("placed: taken over %t, want %t", got, tt.placed)
			}
			if got := w.Done(p.Contents.Packed[0]); got != tt.packed {
				t.Errorf("packed: taken over %t, want %t", got, tt.packed)
			}
			if err := w.Commit(Head{Index: make([]byte, p.Index)}); err == nil {
				t.Error("committed a file with blobs missing")
			}
			for i, b := range placed {
				if !w.Done(p.Contents.Placed[i]) {
					place(t, w, b)
				}
			}
			for b, ok := w.NextPacked(); ok; b, ok = w.NextPacked() {
				if err := w.Pack(bytes.NewReader(packed[map[digest.Digest]int{p.Contents.Packed[1].Digest: 1}[b.Digest]])); err != nil {
					t.Fatal(err)
				}
			}
			h := Head{Index: make([]byte, p.Index)}
			if err := w.Commit(h); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			whole, _ := write(t, h, nil, placed, packed)
			want, err := os.ReadFile(whole)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("the resumed file differs, %v", err)
			}
		})
	}
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// TestPlaceAgain: a blob written once and then begun anew is not whole.
func TestPlaceAgain(t *testing.T) {
	path, p, placed, packed := half(t)
	w := mustCreate(t, path, p)
	place(t, w, placed[1])
	if err := w.Pack(bytes.NewReader(packed[1])); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Place(p.Contents.Placed[0]); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(Head{Index: make([]byte, p.Index)}); err == nil {
		t.Error("committed while a blob is being written")
	}
	place(t, w, placed[0])
	if err := os.WriteFile(path, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(Head{Index: make([]byte, p.Index)}); !errors.Is(err, os.ErrExist) {
		t.Errorf("commit over a file: %v", err)
	}
}

// TestWrongContent: size and digest are checked before a blob counts.
func TestWrongContent(t *testing.T) {
	path, p, placed, packed := half(t)
	w := mustCreate(t, path, p)
	pw, err := w.Place(p.Contents.Placed[1])
	if err != nil {
		t.Fatal(err)
	}
	_, werr := pw.Write(append(bytes.Clone(placed[1]), 0))
	for name, err := range map[string]error{
		"placed, too long":  werr,
		"placed, nothing":   pw.Close(),
		"packed, too long":  w.Pack(bytes.NewReader(append(bytes.Clone(packed[1]), 0))),
		"packed, too short": w.Pack(bytes.NewReader(packed[1][1:])),
		"packed, other":     w.Pack(bytes.NewReader(make([]byte, len(packed[1])))),
	} {
		if _, ok := errors.AsType[*DigestError](err); !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := w.Commit(Head{Index: make([]byte, p.Index)}); err == nil {
		t.Error("committed")
	}
}

func TestHeadFull(t *testing.T) {
	h := tinyHead()
	h.Signatures[0].Data = make([]byte, SignatureReserve+headAlign)
	if _, err := h.encode(HeadSize(len(h.Index))); err == nil {
		t.Error("signatures larger than the reserve were taken")
	}
	h.Signatures[0] = Signature{Name: "../x"}
	if _, err := h.encode(HeadSize(len(h.Index))); !errors.Is(err, ErrEntryName) {
		t.Errorf("name: %v", err)
	}
}
