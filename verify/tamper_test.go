package verify_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/airlock-project/airlock/testdata/fixture"
	"github.com/airlock-project/airlock/verify"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// refusal says which error a tampered bundle meets.
type refusal struct {
	name string
	is   func(error) bool
}

func class(err error) refusal {
	return refusal{err.Error(), func(e error) bool { return errors.Is(e, err) }}
}

func typed[E error]() refusal {
	var zero E
	return refusal{fmt.Sprintf("%T", zero), func(e error) bool { _, ok := errors.AsType[E](e); return ok }}
}

// both asks for a type and a class at once.
func both(a, b refusal) refusal {
	return refusal{a.name + " of " + b.name, func(e error) bool { return a.is(e) && b.is(e) }}
}

var (
	content   = typed[*verify.ContentError]()
	index     = typed[*verify.IndexError]()
	unsigned  = typed[*verify.UnsignedError]()
	untrusted = typed[*verify.UntrustedError]()
	differs   = both(content, typed[*archive.DigestError]())
)

// tamperCase makes a bundle that must be refused.
type tamperCase struct {
	name string
	make func(f *forgery) []byte
	want refusal
	// late: Open has no reason to refuse, VerifyAll and Fetch do.
	late bool
	// stream, where set, is what a reader of a pipe sees instead, because it
	// comes upon another lie first.
	stream refusal
}

// TestTamper refuses every tampered file at random and from a pipe, each time
// with the error that the case names, and writes nothing.
func TestTamper(t *testing.T) {
	whole := forge(t)
	for _, group := range [][]tamperCase{flips(), cuts(), heads(), signatures(), members(), frames(), tables(), indexes()} {
		for _, c := range group {
			t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
				t.Parallel()
				f := whole.clone(t)
				checkRefused(t, f.pub, c.make(f), c)
			})
		}
	}
}

func checkRefused(t *testing.T, pub string, file []byte, c tamperCase) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "tampered.tar.zst")
	if err := os.WriteFile(path, file, 0o444); err != nil {
		t.Fatal(err)
	}
	before := listing(t, dir)
	opened, err := verifyFile(t, path, pub)
	if err == nil {
		t.Error("at random: accepted")
	} else if !c.want.is(err) {
		t.Errorf("at random: want %s, got %T %v", c.want.name, err, err)
	}
	if opened != c.late {
		t.Errorf("open succeeded: %t, want %t (%v)", opened, c.late, err)
	}
	want := c.want
	if c.stream.is != nil {
		want = c.stream
	}
	if err := verifyStream(t, file, pub); err == nil {
		t.Error("stream: accepted")
	} else if !want.is(err) {
		t.Errorf("stream: want %s, got %T %v", want.name, err, err)
	}
	if diff := cmp.Diff(before, listing(t, dir)); diff != "" {
		t.Errorf("something was written (-before +after):\n%s", diff)
	}
}

// verifyFile opens and verifies at random. Where Open succeeds but VerifyAll
// does not, it proves that Fetch never yields wrong content to its end.
func verifyFile(t *testing.T, path, pub string) (opened bool, err error) {
	t.Helper()
	b, err := verify.Open(t.Context(), path, policy(t, pub), verify.Options{})
	if err != nil {
		return false, err
	}
	defer b.Close()
	if err = b.VerifyAll(t.Context(), nil); err != nil {
		checkWithheld(t, b)
	}
	return true, err
}

// checkWithheld fetches everything: each blob comes whole and right, or ends in
// an error before its last byte; at least one does.
func checkWithheld(t *testing.T, b *verify.Bundle) {
	t.Helper()
	withheld := 0
	for e, err := range b.Items() {
		if err != nil {
			t.Fatal(err)
		}
		raw, _, _ := b.Manifest(e.Digest)
		node, err := bundle.ParseNode(e.MediaType, raw)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range append(node.Blobs(), e.Descriptor) {
			rc, err := b.Fetch(t.Context(), d)
			if err != nil {
				withheld++
				continue
			}
			data, err := io.ReadAll(rc)
			rc.Close()
			switch {
			case err != nil && int64(len(data)) >= d.Size && d.Size > 0:
				t.Errorf("fetch %s: all %d bytes came before %v", d.Digest, d.Size, err)
			case err != nil:
				withheld++
			case digest.FromBytes(data) != d.Digest:
				t.Errorf("fetch %s: wrong content without error", d.Digest)
			}
		}
	}
	if withheld == 0 {
		t.Error("VerifyAll refused, but every blob could be fetched")
	}
}

func verifyStream(t *testing.T, file []byte, pub string) error {
	t.Helper()
	info, dec, err := verify.Stream(t.Context(), bytes.NewReader(file), nil, policy(t, pub), verify.Options{}, nil)
	if err != nil && (info.Product != "" || len(dec.Signers) > 0) {
		t.Errorf("stream: refused, but told %+v %+v", info, dec)
	}
	return err
}

func policy(t *testing.T, pub string) *verify.Policy {
	t.Helper()
	p, err := verify.KeyPolicy(pub)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// listing is every file below dir with its size and time.
func listing(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		out = append(out, fmt.Sprint(path, fi.Size(), fi.ModTime().UnixNano(), fi.Mode()))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// flip is a case in which one byte differs, at a place that at computes.
func flip(name string, want refusal, late bool, at func(f *forgery, file []byte) int) tamperCase {
	return tamperCase{name: "flip in " + name, want: want, late: late, make: func(f *forgery) []byte {
		file := f.encode()
		file[at(f, file)] ^= 0x04
		return file
	}}
}

// find is the offset of a text that HEAD holds as it is.
func find(text string, skip int) func(*forgery, []byte) int {
	return func(f *forgery, file []byte) int {
		i := bytes.Index(file, []byte(text))
		if i < 0 {
			f.t.Fatalf("no %q in the file", text)
		}
		return i + skip
	}
}

// in is an offset relative to a region.
func in(region func(f *forgery) string, skip int) func(*forgery, []byte) int {
	return func(f *forgery, _ []byte) int { return f.region[region(f)] + skip }
}

func named(s string) func(*forgery) string { return func(*forgery) string { return s } }
func manifest(f *forgery) string           { return f.stored[0].name }
func layer(f *forgery) string              { return f.stored[len(f.stored)-1].name }
func config(f *forgery) string             { return f.stored[2].name }
func plain(f *forgery) string              { return f.packed[0].name }

func flips() []tamperCase {
	return []tamperCase{
		flip("first magic", class(archive.ErrNotBundle), false, func(*forgery, []byte) int { return 0 }),
		flip("first frame header", class(archive.ErrNotBundle), false, func(*forgery, []byte) int { return 5 }),
		flip("oci-layout", class(archive.ErrNotBundle), false, find(`1.0.0"}`, 0)),
		flip("index.json", untrusted, false, find("dev.airlock.release", 24)),
		flip("signature", untrusted, false, find(`"messageSignature"`, 150)),
		flip("trusted_root.json", class(archive.ErrEntryUnknown), false, find("trustedroot+json", 0)),
		flip("tar header of HEAD", class(archive.ErrEntryHeader), false, find("index.json\x00", 101)),
		flip("tar padding of HEAD", class(archive.ErrSlack), false, find(archive.Layout, 200)),
		flip("slack header", class(archive.ErrFrame), false, in(named("slack"), -8)),
		flip("slack", class(archive.ErrSlack), false, in(named("slack"), 5000)),
		flip("last byte of slack", class(archive.ErrSlack), false, in(named("meta"), -1)),
		flip("frame header of a manifest", class(archive.ErrFrame), false, in(manifest, 5)),
		flip("block header of a manifest", class(archive.ErrFrame), false, in(manifest, 7)),
		flip("tar header of a manifest", class(archive.ErrEntryHeader), false, in(manifest, 9+150)),
		flip("manifest", differs, false, in(manifest, 9+512+3)),
		flip("tar padding of a manifest", class(archive.ErrSlack), false, func(f *forgery, _ []byte) int {
			return f.region[manifest(f)] + 9 + 512 + len(f.stored[0].data)
		}),
		flip("config", differs, true, in(config, 9+512+3)),
		flip("stored frame header", both(content, class(archive.ErrFrame)), true, in(layer, 4)),
		flip("stored block header", both(content, class(archive.ErrFrame)), true, in(layer, 6+3+forgedBlock)),
		flip("layer tar header", both(content, class(archive.ErrEntryHeader)), true, in(layer, 9+120)),
		flip("layer", differs, true, in(layer, 9+512+1000)),
		flip("last byte of layer", differs, true, func(f *forgery, _ []byte) int {
			return f.region[layer(f)] + 6 + 3 + 3 + 512 + 150_000 - 1
		}),
		flip("layer padding", both(content, class(archive.ErrSlack)), true, in(named("packed"), -1)),
		flip("packed magic", both(content, class(archive.ErrFrame)), true, in(plain, 0)),
		flip("packed frame header", content, true, in(plain, 4)),
		flip("packed content size", both(content, class(archive.ErrBomb)), true, in(plain, 5)),
		flip("packed block", content, true, in(plain, 9+3+40)),
		flip("end marks", class(archive.ErrTable), false, in(named("marks"), 100)),
		flip("end marks header", class(archive.ErrTable), false, in(named("marks"), 7)),
		flip("table magic", class(archive.ErrTable), false, in(named("table"), 1)),
		flip("table size", class(archive.ErrTable), false, in(named("table"), 4)),
		{name: "flip in table entry", want: class(archive.ErrTrailing), stream: class(archive.ErrTable), make: func(f *forgery) []byte {
			file := f.encode()
			file[f.region["table"]+9] ^= 0x04
			return file
		}},
		flip("packed offset", class(archive.ErrTable), false, func(_ *forgery, file []byte) int { return len(file) - 32 }),
		flip("frame count", class(archive.ErrTable), false, func(_ *forgery, file []byte) int { return len(file) - 24 }),
		flip("reserved", class(archive.ErrTable), false, func(_ *forgery, file []byte) int { return len(file) - 12 }),
		flip("footer", class(archive.ErrTable), false, func(_ *forgery, file []byte) int { return len(file) - 1 }),
	}
}

// cut is a case in which the file ends too early.
func cut(name string, late bool, at func(f *forgery, file []byte) int) tamperCase {
	return tamperCase{name: "cut in " + name, want: class(archive.ErrTruncated), late: late, make: func(f *forgery) []byte {
		file := f.encode()
		return file[:at(f, file)]
	}}
}

func cuts() []tamperCase {
	older := func(f *forgery) []byte {
		f.index.Info.Release--
		f.resign()
		return f.encode()
	}
	return []tamperCase{
		{name: "empty", want: class(archive.ErrNotBundle), make: func(*forgery) []byte { return nil }},
		cut("first frame", false, func(*forgery, []byte) int { return 2000 }),
		cut("slack", false, in(named("slack"), 3000)),
		cut("manifest", false, in(manifest, 700)),
		cut("layer", false, in(layer, 100_000)),
		cut("packed", false, in(plain, 100)),
		cut("end marks", false, in(named("marks"), 10)),
		cut("table", false, in(named("table"), 9)),
		cut("footer", false, func(_ *forgery, file []byte) int { return len(file) - 1 }),
		{name: "one byte more", want: class(archive.ErrTrailing), make: func(f *forgery) []byte { return append(f.encode(), 0) }},
		{name: "zeros more", want: class(archive.ErrTrailing), make: func(f *forgery) []byte { return append(f.encode(), make([]byte, 1<<20)...) }},
		{name: "skippable frame more", want: class(archive.ErrTrailing), make: func(f *forgery) []byte {
			return skippable(f.encode(), 0x184D2A50, []byte("x"))
		}},
		{name: "whole bundle more", want: class(archive.ErrTrailing), make: func(f *forgery) []byte {
			file := f.encode()
			return append(file, bytes.Clone(file)...)
		}},
		{name: "older signed bundle more", want: class(archive.ErrTrailing), make: func(f *forgery) []byte {
			return append(f.encode(), older(f)...)
		}},
		{name: "tar of older signed index before end marks", want: class(archive.ErrTrailing), stream: class(archive.ErrTable), make: func(f *forgery) []byte {
			old := older(f)
			f.index.Info.Release++
			f.resign()
			f.tail = func(tail []byte) []byte { return append(old[:f.region["meta"]:f.region["meta"]], tail...) }
			return f.encode()
		}},
	}
}

// withHead is a case that changes the entries of HEAD.
func withHead(name string, want refusal, change func(f *forgery)) tamperCase {
	return tamperCase{name: name, want: want, make: func(f *forgery) []byte {
		change(f)
		return f.encode()
	}}
}

// insert puts a member into HEAD at i.
func insert(i int, m func(f *forgery) member) func(*forgery) {
	return func(f *forgery) { f.head = append(f.head[:i:i], append([]member{m(f)}, f.head[i:]...)...) }
}

func headerOf(h tar.Header) func(f *forgery) member {
	return func(f *forgery) member { return member{header: f.header(h)} }
}

func heads() []tamperCase {
	dup := func(i int) func(f *forgery) member { return func(f *forgery) member { return f.head[i] } }
	return []tamperCase{
		withHead("duplicate index after the first", class(archive.ErrEntryDuplicate), insert(2, dup(1))),
		withHead("duplicate index at the end", class(archive.ErrEntryDuplicate), insert(4, dup(1))),
		withHead("duplicate signature", class(archive.ErrEntryDuplicate), insert(3, dup(2))),
		withHead("duplicate oci-layout", class(archive.ErrEntryDuplicate), insert(1, dup(0))),
		withHead("unknown entry", class(archive.ErrEntryUnknown), insert(2, func(*forgery) member { return member{name: "README", data: []byte("x")} })),
		withHead("unknown entry at the end", class(archive.ErrEntryUnknown), insert(4, func(*forgery) member { return member{name: "README", data: []byte("x")} })),
		withHead("blob in HEAD", class(archive.ErrEntryUnknown), insert(4, func(f *forgery) member { return f.stored[0] })),
		withHead("index missing", class(archive.ErrEntryUnknown), func(f *forgery) { f.head = append(f.head[:1], f.head[2:]...) }),
		withHead("trusted root missing", class(archive.ErrTruncated), func(f *forgery) { f.head = f.head[:3] }),
		withHead("parent name", class(archive.ErrEntryName), insert(1, headerOf(tar.Header{Typeflag: tar.TypeReg, Name: "../index.json"}))),
		withHead("inner parent name", class(archive.ErrEntryName), insert(1, headerOf(tar.Header{Typeflag: tar.TypeReg, Name: "blobs/../index.json"}))),
		withHead("absolute name", class(archive.ErrEntryName), insert(1, headerOf(tar.Header{Typeflag: tar.TypeReg, Name: "/etc/passwd"}))),
		withHead("dot name", class(archive.ErrEntryName), insert(1, headerOf(tar.Header{Typeflag: tar.TypeReg, Name: "./index.json"}))),
		withHead("signature name with a slash", class(archive.ErrEntryName), insert(2, func(*forgery) member { return member{name: "signatures/a/b", data: []byte("{}")} })),
		withHead("hidden signature name", class(archive.ErrEntryName), insert(2, func(*forgery) member { return member{name: "signatures/.x", data: []byte("{}")} })),
		withHead("symlink", class(archive.ErrEntryType), insert(1, headerOf(tar.Header{Typeflag: tar.TypeSymlink, Name: "index.json", Linkname: "/etc/passwd"}))),
		withHead("hard link", class(archive.ErrEntryType), insert(1, headerOf(tar.Header{Typeflag: tar.TypeLink, Name: "index.json", Linkname: "oci-layout"}))),
		withHead("device", class(archive.ErrEntryType), insert(1, headerOf(tar.Header{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3}))),
		withHead("named pipe", class(archive.ErrEntryType), insert(1, headerOf(tar.Header{Typeflag: tar.TypeFifo, Name: "pipe"}))),
		withHead("directory", class(archive.ErrEntryType), insert(1, headerOf(tar.Header{Typeflag: tar.TypeDir, Name: "blobs/"}))),
		withHead("pax name", class(archive.ErrEntryType), insert(1, headerOf(tar.Header{Typeflag: tar.TypeReg, Name: strings.Repeat("n", 300), Format: tar.FormatPAX}))),
		withHead("GNU long name", class(archive.ErrEntryType), insert(1, headerOf(tar.Header{Typeflag: tar.TypeReg, Name: strings.Repeat("n", 300), Format: tar.FormatGNU}))),
		withHead("end marks in HEAD", class(archive.ErrEntryHeader), insert(4, func(*forgery) member { return member{header: make([]byte, 1024)} })),
		withHead("slack over the limit", class(archive.ErrLimit), func(f *forgery) { f.slack = make([]byte, archive.MaxHead) }),
		{name: "slack that claims 4 GiB", want: class(archive.ErrLimit), make: func(f *forgery) []byte {
			file := f.encode()
			copy(file[f.region["slack"]-4:], "\xff\xff\xff\xff")
			return file
		}},
		{name: "second frame of slack", want: class(archive.ErrFrame), make: func(f *forgery) []byte {
			file := f.encode()
			at := f.region["meta"]
			return append(skippable(bytes.Clone(file[:at]), 0x184D2A50, make([]byte, 4088)), file[at:]...)
		}},
		{name: "HEAD in two frames", want: class(archive.ErrFrame), make: func(f *forgery) []byte {
			file := f.encode()
			var head []byte
			for _, m := range f.head {
				head = append(head, f.tar(m)...)
			}
			split := append(stored(head[:1024]), stored(head[1024:])...)
			return append(skippable(split, 0x184D2A50, make([]byte, 4096)), file[f.region["meta"]:]...)
		}},
	}
}

func signatures() []tamperCase {
	stranger := func(f *forgery, index []byte) []byte {
		k, _ := fixture.Key(f.t)
		sig, err := k.Blob(index)
		if err != nil {
			f.t.Fatal(err)
		}
		return sig
	}
	raw := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return b
	}
	return []tamperCase{
		withHead("signature stripped", unsigned, func(f *forgery) { f.head = append(f.head[:2], f.head[3:]...) }),
		withHead("unknown key", untrusted, func(f *forgery) { f.head[2].data = stranger(f, f.head[1].data) }),
		withHead("signature over something else", untrusted, func(f *forgery) {
			sig, err := f.key.Blob([]byte("{}"))
			if err != nil {
				f.t.Fatal(err)
			}
			f.head[2].data = sig
		}),
		withHead("index edited after signing", untrusted, func(f *forgery) {
			f.head[1].data = bytes.Replace(f.head[1].data, []byte(`"dev.airlock.release":"7"`), []byte(`"dev.airlock.release":"8"`), 1)
		}),
		withHead("DSSE envelope", untrusted, func(f *forgery) { f.head[2].data = dsse(f, f.head[1].data) }),
		withHead("65 signatures", class(archive.ErrLimit), func(f *forgery) {
			for i := range 64 {
				insert(2, func(*forgery) member { return member{name: fmt.Sprintf("signatures/%d", i), data: []byte("{}")} })(f)
			}
		}),
		withHead("signature too large", class(archive.ErrLimit), insert(2, func(*forgery) member {
			return member{name: "signatures/large", data: make([]byte, archive.MaxSignature+1)}
		})),
		withHead("index too large", class(archive.ErrLimit), func(f *forgery) { f.sign(make([]byte, archive.MaxIndex+1)) }),
		withHead("signed other document", index, func(f *forgery) { f.sign([]byte(`{"release":"v1","sha256":"00"}`)) }),
		withHead("signed text", index, func(f *forgery) { f.sign([]byte("I approve")) }),
		withHead("signed image index", index, func(f *forgery) {
			f.sign(raw(ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []bundle.Descriptor{}}))
		}),
		withHead("signed index of another format", index, func(f *forgery) {
			f.sign(bytes.Replace(f.head[1].data, []byte(`"dev.airlock.format":"1"`), []byte(`"dev.airlock.format":"2"`), 1))
		}),
	}
}

// dsse is an envelope by the right key whose payload is the index.
func dsse(f *forgery, payload []byte) []byte {
	f.t.Helper()
	const payloadType = "application/vnd.in-toto+json"
	pae := fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
	sum := digest.SHA256.Hash()
	sum.Write(pae)
	sig, err := f.key.Digest(sum.Sum(nil))
	if err != nil {
		f.t.Fatal(err)
	}
	var b map[string]any
	if err := json.Unmarshal(f.head[2].data, &b); err != nil {
		f.t.Fatal(err)
	}
	delete(b, "messageSignature")
	b["dsseEnvelope"] = map[string]any{"payload": payload, "payloadType": payloadType, "signatures": []any{map[string]any{"sig": sig}}}
	out, err := json.Marshal(b)
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}
