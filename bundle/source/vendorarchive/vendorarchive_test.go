package vendorarchive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/artifact"
	"github.com/airlock-project/airlock/bundle/source/dockerarchive"
	"github.com/airlock-project/airlock/bundle/source/file"
	"github.com/airlock-project/airlock/manifests"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

var _ bundle.Source = (*Source)(nil)

var signedAt = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// newKey makes a key on the day before signedAt.
func newKey(t testing.TB, lifetime uint32) *openpgp.Entity {
	t.Helper()
	e, err := openpgp.NewEntity("vendor", "", "vendor@example.com", &packet.Config{
		Algorithm:       packet.PubKeyAlgoEdDSA,
		KeyLifetimeSecs: lifetime,
		Time:            func() time.Time { return signedAt.Add(-24 * time.Hour) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func fingerprint(e *openpgp.Entity) string {
	return strings.ToUpper(hex.EncodeToString(e.PrimaryKey.Fingerprint))
}

func public(t testing.TB, e *openpgp.Entity, armored bool) []byte {
	t.Helper()
	return encode(t, openpgp.PublicKeyType, armored, e.Serialize)
}

func sign(t testing.TB, e *openpgp.Entity, data []byte, armored bool) []byte {
	t.Helper()
	config := &packet.Config{DefaultHash: crypto.SHA256, Time: func() time.Time { return signedAt }}
	return encode(t, openpgp.SignatureType, armored, func(w io.Writer) error {
		return openpgp.DetachSign(w, []*openpgp.Entity{e}, bytes.NewReader(data), config)
	})
}

func encode(t testing.TB, typ string, armored bool, f func(io.Writer) error) []byte {
	t.Helper()
	var b bytes.Buffer
	if !armored {
		if err := f(&b); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	w, err := armor.Encode(&b, typ, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f(w), w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// member is a member of an archive made by a test.
type member struct {
	name string
	data []byte
	link string
	typ  byte
}

// release is a vendor's release in a folder.
type release struct {
	dir     string
	file    string // name of the archive
	members []member
	key     *openpgp.Entity
	entry   manifests.Archive
}

const top = "self-hosted-v3.0.0"

func newRelease(t testing.TB) *release {
	t.Helper()
	launcher := make([]byte, 5000)
	copy(launcher, elf.ELFMAG)
	launcher[elf.EI_DATA], launcher[18] = byte(elf.ELFDATA2LSB), byte(elf.EM_X86_64)
	r := &release{dir: t.TempDir(), file: top + ".tar.gz", key: newKey(t, 0), members: []member{
		{name: top + "/", typ: tar.TypeDir},
		{name: top + "/version", data: []byte("v3.0.0\n")},
		{name: top + "/container-images/backend.tar", data: image(t, "backend:v3.0.0")},
		{name: top + "/container-images/launcher.tar", data: image(t, "launcher:v3.0.0")},
		{name: top + "/bin/launcher", data: launcher},
		{name: top + "/latest", link: "bin/launcher"},
	}}
	r.entry = manifests.Archive{
		Name: "vendor", Path: r.file, Sums: "SUMS", Signature: "SUMS.sig",
		Signer: manifests.OpenPGPSigner{Key: "key.asc", Fingerprint: fingerprint(r.key)},
		Images: []manifests.ArchiveImage{{Path: "container-images/backend.tar", As: "backend:v3.0.0"}, {Path: "container-images/launcher.tar", As: "launcher:v3.0.0"}},
		Files:  []manifests.ArchiveFile{{Path: "bin/launcher", Name: "launcher"}},
	}
	return r
}

// image is a docker-save tar with an image of its own.
func image(t testing.TB, ref string) []byte {
	t.Helper()
	img, err := random.Image(60_000, 2)
	if err != nil {
		t.Fatal(err)
	}
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cf.OS, cf.Architecture = "linux", "amd64"
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := tarball.MultiWrite(map[name.Tag]v1.Image{tag: img}, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// write writes the release: archive, checksums, signature, key.
func (r *release) write(t testing.TB) {
	t.Helper()
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	tw := tar.NewWriter(gz)
	for _, m := range r.members {
		h := &tar.Header{Name: m.name, Size: int64(len(m.data)), Mode: 0o755, Typeflag: m.typ, Linkname: m.link}
		if m.link != "" && m.typ == 0 {
			h.Typeflag = tar.TypeSymlink
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(m.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), gz.Close()); err != nil {
		t.Fatal(err)
	}
	sums := fmt.Appendf(nil, "%064d  other.tar.gz\n%s  %s\n", 1, sha256Hex(b.Bytes()), r.file)
	r.put(t, r.file, b.Bytes())
	r.put(t, "SUMS", sums)
	r.put(t, "SUMS.sig", sign(t, r.key, sums, false))
	r.put(t, "key.asc", public(t, r.key, true))
}

func (r *release) put(t testing.TB, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (r *release) source(t testing.TB, listen bundle.Listener) *Source {
	t.Helper()
	spool, err := bundle.OpenSpool(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { spool.Close() })
	return New(spool, r.entry, Options{
		Options: file.Options{Dir: r.dir, Version: "v3.0.0", Created: signedAt, Listen: listen},
		Now:     func() time.Time { return signedAt.Add(time.Hour) },
	})
}

func open(t *testing.T, s *Source, d bundle.Descriptor) []byte {
	t.Helper()
	rc, err := s.Open(t.Context(), bundle.Pin{}, d)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	b, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestResolve(t *testing.T) {
	r := newRelease(t)
	r.write(t)
	var read, total int64
	s := r.source(t, func(e bundle.Event) { read, total = read+e.Bytes, total+e.Total })
	pins, err := s.Resolve(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var refs []string
	for _, p := range pins {
		refs = append(refs, p.Kind+" "+p.Ref)
	}
	want := []string{"image backend:v3.0.0", "image launcher:v3.0.0", "file files/launcher:v3.0.0", "vendor vendor/vendor:v3.0.0"}
	if d := cmp.Diff(want, refs); d != "" {
		t.Fatalf("pins:\n%s", d)
	}
	if fi, err := os.Stat(filepath.Join(r.dir, r.file)); err != nil || read != 2*fi.Size() || total != read {
		t.Errorf("read %d of %d bytes, want twice the archive's %v, %v", read, total, fi.Size(), err)
	}
	again, err := r.source(t, nil).Resolve(t.Context(), pins)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(pins, again); d != "" {
		t.Errorf("second run differs:\n%s", d)
	}
	checkChain(t, r, s, pins)
}

// checkChain does what an install probe does inside the gap.
func checkChain(t *testing.T, r *release, s *Source, pins []bundle.Pin) {
	t.Helper()
	vendor := pins[3].Manifests[0]
	a, b, c, d, err := Layers(vendor.Raw)
	if err != nil {
		t.Fatal(err)
	}
	sums, sig, key, statement := open(t, s, a), open(t, s, b), open(t, s, c), open(t, s, d)
	if vendor.ArtifactType != bundle.MediaTypeVendor || len(pins[3].Blobs) != 5 {
		t.Errorf("vendor pin = %+v", pins[3])
	}
	st, err := CheckStatement(sums, sig, key, fingerprint(r.key), statement)
	if err != nil {
		t.Fatal(err)
	}
	for i, img := range st.Images {
		if err := img.Check(pins[i].Manifests[0].Raw, open(t, s, pins[i].Blobs[0])); err != nil {
			t.Error(err)
		}
		if err := img.Check(pins[1-i].Manifests[0].Raw, open(t, s, pins[1-i].Blobs[0])); !as[*StatementError](err) {
			t.Errorf("other image: got %v, want *StatementError", err)
		}
	}
	if got := st.Images[0]; got.Platform != "linux/amd64" || !cmp.Equal(got.RepoTags, []string{"backend:v3.0.0"}) || len(got.DiffIDs) != 2 {
		t.Errorf("image = %+v", got)
	}
	if err := st.Files[0].Check(pins[2].Manifests[0].Raw); err != nil {
		t.Error(err)
	}
	if got := st.Files[0]; got.SHA256 != sha256Hex(r.members[4].data) || got.Size != 5000 || got.Mode != "0755" || got.ELFMachine != "EM_X86_64" {
		t.Errorf("file = %+v", got)
	}
	foreign := newKey(t, 0)
	for what, err := range map[string]error{
		"sums":      second(CheckStatement(flip(sums), sig, key, fingerprint(r.key), statement)),
		"sig":       second(CheckStatement(sums, flip(sig), key, fingerprint(r.key), statement)),
		"key":       second(CheckStatement(sums, sig, public(t, foreign, true), fingerprint(r.key), statement)),
		"signer":    second(CheckStatement(sums, sig, public(t, foreign, true), fingerprint(foreign), statement)),
		"armor":     second(CheckStatement(sums, sig, public(t, r.key, false), fingerprint(r.key), statement)),
		"statement": second(CheckStatement(sums, sig, key, fingerprint(r.key), bytes.Replace(statement, []byte(st.Sums), bytes.Repeat([]byte("0"), 64), 1))),
		"other sum": second(CheckStatement(sums, sig, key, fingerprint(r.key), bytes.Replace(statement, []byte(st.Archive.SHA256), bytes.Repeat([]byte("0"), 64), 1))),
	} {
		if err == nil {
			t.Errorf("changed %s: taken", what)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func flip(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/2] ^= 1
	return b
}

func as[E error](err error) bool { _, ok := errors.AsType[E](err); return ok }

func text(want string) func(error) bool {
	return func(err error) bool { return err != nil && strings.Contains(err.Error(), want) }
}

func (r *release) flip(t *testing.T, name string) {
	b, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	r.put(t, name, flip(b))
}

func TestRefuses(t *testing.T) {
	for _, tc := range []struct {
		name   string
		before func(*testing.T, *release)
		after  func(*testing.T, *release)
		is     func(error) bool
	}{
		{"ARC-01 archive flipped", nil, func(t *testing.T, r *release) { r.flip(t, r.file) }, as[*ChecksumError]},
		{"sums flipped", nil, func(t *testing.T, r *release) { r.flip(t, "SUMS") }, as[*SignatureError]},
		{"signature flipped", nil, func(t *testing.T, r *release) {
			b, err := os.ReadFile(filepath.Join(r.dir, "SUMS.sig"))
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)-1] ^= 1
			r.put(t, "SUMS.sig", b)
		}, as[*SignatureError]},
		{"ARC-02 foreign signature", nil, func(t *testing.T, r *release) {
			sums, err := os.ReadFile(filepath.Join(r.dir, "SUMS"))
			if err != nil {
				t.Fatal(err)
			}
			r.put(t, "SUMS.sig", sign(t, newKey(t, 0), sums, true))
		}, as[*SignerError]},
		{"foreign key and signature", func(t *testing.T, r *release) { r.key = newKey(t, 0) }, nil, as[*KeyError]},
		{"expired key", func(t *testing.T, r *release) {
			r.key = newKey(t, 24*3600+60)
			r.entry.Signer.Fingerprint = fingerprint(r.key)
		}, nil, as[*SignatureError]},
		{"key ID for a fingerprint", func(t *testing.T, r *release) {
			r.entry.Signer.Fingerprint = r.entry.Signer.Fingerprint[24:]
		}, nil, text("no full fingerprint")},
		{"empty signature", nil, func(t *testing.T, r *release) { r.put(t, "SUMS.sig", nil) }, as[*SignatureError]},
		{"large signature", nil, func(t *testing.T, r *release) { r.put(t, "SUMS.sig", make([]byte, MaxSignature+1)) }, text("more than")},
		{"ARC-03 missing image", func(t *testing.T, r *release) { r.members = append(r.members[:2:2], r.members[3:]...) }, nil, as[*MissingMemberError]},
		{"ARC-03 missing file", func(t *testing.T, r *release) { r.members = r.members[:4] }, nil, as[*MissingMemberError]},
		{"parent", add(member{name: top + "/../../x"}), nil, as[*artifact.NameError]},
		{"absolute", add(member{name: "/x"}), nil, as[*artifact.NameError]},
		{"link outside", add(member{name: top + "/l", link: "../x"}), nil, as[*artifact.NameError]},
		{"absolute link", add(member{name: top + "/l", link: "/etc/passwd"}), nil, as[*artifact.NameError]},
		{"device", add(member{name: top + "/d", typ: tar.TypeChar}), nil, as[*artifact.TypeError]},
		{"twice", add(member{name: top + "/bin/launcher"}), nil, text("stands twice")},
		{"second top directory", add(member{name: "other/x"}), nil, text("two top directories")},
		{"no top directory", add(member{name: "x"}), nil, text("outside the archive's top directory")},
		{"wanted link", func(_ *testing.T, r *release) {
			r.entry.Files = []manifests.ArchiveFile{{Path: "latest", Name: "launcher"}}
		}, nil, text(`is a link to "bin/launcher"`)},
		{"version file", func(_ *testing.T, r *release) { r.members[1].data = []byte("v3.0.1\n") }, nil, as[*VersionError]},
		{"file name", func(_ *testing.T, r *release) {
			r.file = "self-hosted-v3.0.1.tar.gz"
			r.entry.Path = r.file
		}, nil, as[*VersionError]},
		{"repo tag", func(t *testing.T, r *release) { r.members[2].data = image(t, "backend:v2.9.0") }, nil, as[*VersionError]},
		{"as", func(t *testing.T, r *release) {
			r.members[2].data = image(t, "backend:v3.1.0")
			r.entry.Images[0].As = "backend:v3.1.0"
		}, nil, as[*VersionError]},
		{"image without tag", func(t *testing.T, r *release) { r.entry.Images[0].As = "backend" }, nil, text("no image reference with a tag")},
		{"path twice", func(_ *testing.T, r *release) { r.entry.Files[0].Path = r.entry.Images[0].Path }, nil, text("asked for twice")},
		{"path outside", func(_ *testing.T, r *release) { r.entry.Files[0].Path = "../x" }, nil, as[*artifact.NameError]},
		{"no image in the tar", func(_ *testing.T, r *release) { r.members[2].data = []byte("not a tar, but longer than nothing") }, nil, text("read image")},
		{"image cut off", func(_ *testing.T, r *release) { r.members[2].data = r.members[2].data[:50_000] }, nil, func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
		{"image that lies", func(t *testing.T, r *release) {
			r.members[2].data = bytes.ReplaceAll(r.members[2].data, []byte("diff_ids"), []byte("diff_idz"))
		}, nil, as[*dockerarchive.DigestError]},
		{"no sums", nil, func(t *testing.T, r *release) { r.entry.Sums = "none" }, func(err error) bool { return errors.Is(err, os.ErrNotExist) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRelease(t)
			if tc.before != nil {
				tc.before(t, r)
			}
			r.write(t)
			if tc.after != nil {
				tc.after(t, r)
			}
			if _, err := r.source(t, nil).Resolve(t.Context(), nil); !tc.is(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func add(m member) func(*testing.T, *release) {
	return func(_ *testing.T, r *release) { r.members = append(r.members, m) }
}

// A file that changes between the passes is caught although the second pass
// finds everything it looks for.
func TestChangedBetweenPasses(t *testing.T) {
	r := newRelease(t)
	r.write(t)
	path := filepath.Join(r.dir, r.file)
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other := bytes.Clone(old)
	other[4] ^= 1 // the gzip header's time: same length, same content
	var read int64
	s := r.source(t, func(e bundle.Event) {
		if read += e.Bytes; read == int64(len(old)) && e.Bytes > 0 {
			r.put(t, r.file, other) // same inode, new bytes
		}
	})
	if _, err := s.Resolve(t.Context(), nil); !as[*ChecksumError](err) || !text("changed while it was read")(err) {
		t.Errorf("got %v, want a *ChecksumError", err)
	}
}

func TestCheckSignature(t *testing.T) {
	key, foreign := newKey(t, 0), newKey(t, 0)
	data := []byte("data")
	both := append(public(t, foreign, false), public(t, key, false)...)
	now := signedAt.Add(time.Hour)
	revoked := newKey(t, 0)
	sigOfRevoked := sign(t, revoked, data, false)
	config := &packet.Config{Time: func() time.Time { return signedAt.Add(time.Minute) }}
	if err := revoked.Revoke(packet.KeyCompromised, "stolen", config); err != nil {
		t.Fatal(err)
	}
	// byHand signs as no library would.
	byHand := func(hash crypto.Hash, at time.Time) []byte {
		salted := false
		c := &packet.Config{DefaultHash: hash, NonDeterministicSignaturesViaNotation: &salted, Time: func() time.Time { return at }}
		s := &packet.Signature{Version: 4, SigType: packet.SigTypeBinary, PubKeyAlgo: key.PrimaryKey.PubKeyAlgo, Hash: hash, CreationTime: at, IssuerKeyId: &key.PrimaryKey.KeyId}
		h := hash.New()
		h.Write(data)
		return encode(t, "", false, func(w io.Writer) error {
			return errors.Join(s.Sign(h, key.PrivateKey, c), s.Serialize(w))
		})
	}
	textSig := encode(t, "", false, func(w io.Writer) error {
		return openpgp.DetachSignWithParams(w, []*openpgp.Entity{key}, bytes.NewReader(data), &openpgp.SignParams{TextSig: true, Config: &packet.Config{Time: func() time.Time { return signedAt }}})
	})
	sub := newKey(t, 0)
	if err := sub.AddSigningSubkey(&packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return signedAt.Add(-time.Hour) }}); err != nil {
		t.Fatal(err)
	}
	subkey := sub.Subkeys[len(sub.Subkeys)-1].PublicKey.Fingerprint
	for _, tc := range []struct {
		name     string
		sig, key []byte
		fp       string
		now      time.Time
		is       func(error) bool // nil: good
	}{
		{"armored", sign(t, key, data, true), public(t, key, true), fingerprint(key), now, nil},
		{"binary, lower case", sign(t, key, data, false), public(t, key, false), strings.ToLower(fingerprint(key)), now, nil},
		{"key among others", sign(t, key, data, false), both, fingerprint(key), now, nil},
		{"two signers", append(sign(t, foreign, data, false), sign(t, key, data, false)...), both, fingerprint(key), now, nil},
		{"any clock", sign(t, key, data, false), both, fingerprint(key), time.Time{}, nil},
		{"by a subkey", sign(t, sub, data, false), public(t, sub, true), fingerprint(sub), now, nil},
		{"a subkey's fingerprint", sign(t, sub, data, false), public(t, sub, true), hex.EncodeToString(subkey), now, as[*KeyError]},
		{"other key of the file", sign(t, foreign, data, false), both, fingerprint(key), now, as[*SignerError]},
		{"other data", sign(t, key, []byte("other"), false), both, fingerprint(key), now, as[*SignatureError]},
		{"revoked", sigOfRevoked, public(t, revoked, false), fingerprint(revoked), now, as[*SignatureError]},
		{"revoked, any clock", sigOfRevoked, public(t, revoked, false), fingerprint(revoked), time.Time{}, as[*SignatureError]},
		{"by hand", byHand(crypto.SHA256, signedAt), both, fingerprint(key), now, nil},
		{"weak hash", byHand(crypto.SHA1, signedAt), public(t, key, false), fingerprint(key), now, as[*SignatureError]},
		{"text signature", textSig, both, fingerprint(key), now, as[*SignatureError]},
		{"from the future", byHand(crypto.SHA256, signedAt.Add(48*time.Hour)), both, fingerprint(key), now, as[*SignatureError]},
		{"older than the key", byHand(crypto.SHA256, signedAt.Add(-48*time.Hour)), both, fingerprint(key), now, as[*SignatureError]},
		{"not a key", sign(t, key, data, false), []byte("x"), fingerprint(key), now, as[*KeyError]},
		{"signature as key", sign(t, key, data, false), sign(t, key, data, true), fingerprint(key), now, as[*KeyError]},
		{"key as signature", public(t, key, false), both, fingerprint(key), now, as[*SignatureError]},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := CheckSignature(data, tc.sig, tc.key, tc.fp, tc.now)
			if tc.is == nil && err != nil || tc.is != nil && !tc.is(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestFindSum(t *testing.T) {
	a, b := strings.Repeat("a", 64), strings.Repeat("B", 64)
	for _, tc := range []struct {
		name, sums string
		want       string // empty: refused
	}{
		{"text", a + "  x.tar.gz\n", a},
		{"binary", a + " *x.tar.gz\n", a},
		{"in a folder", a + "  dist/x.tar.gz\n" + b + "  y\n", a},
		{"upper case", b + "  x.tar.gz", strings.ToLower(b)},
		{"twice", a + "  x.tar.gz\n" + a + "  ./x.tar.gz\n", ""},
		{"not listed", a + "  xx.tar.gz\n", ""},
		{"one space", a + " x.tar.gz\n", ""},
		{"short", a[1:] + "  x.tar.gz\n", ""},
		{"no hex", strings.Repeat("z", 64) + "  x.tar.gz\n", ""},
		{"empty line", a + "  x.tar.gz\n\n", ""},
		{"empty", "", ""},
		{"carriage return", a + "  x.tar.gz\r\n", ""},
		{"bad other line", a + "  x.tar.gz\nfoo\n", ""},
		{"outside", a + "  ../x.tar.gz\n", ""},
	} {
		got, err := FindSum([]byte(tc.sums), "x.tar.gz")
		if got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%s: got %q, %v; want %q", tc.name, got, err, tc.want)
		}
	}
}

func TestFindVersion(t *testing.T) {
	for in, want := range map[string]string{
		"self-hosted-v3.0.0": "3.0.0", "v3.0.0\n": "3.0.0", "3.0.0-rc.1": "3.0.0-rc.1", "v1.2": "1.2",
		"latest": "", "v3": "", "abc123.4": "", "": "",
	} {
		if got := findVersion(in); got != want {
			t.Errorf("findVersion(%q) = %q, want %q", in, got, want)
		}
	}
}

func goodStatement(t testing.TB) []byte {
	t.Helper()
	sum := strings.Repeat("a", 64)
	b, err := (&Statement{
		Version: 1, Archive: Archive{Name: "x.tar.gz", SHA256: sum, Size: 1}, Signer: strings.Repeat("A", 40),
		Sums: sum, Signature: sum, Key: sum, Images: []Image{}, Files: []File{},
	}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseStatement(t *testing.T) {
	good := goodStatement(t)
	if _, err := ParseStatement(good); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"unknown key":    bytes.Replace(good, []byte(`"version"`), []byte(`"x": 1, "version"`), 1),
		"duplicate key":  bytes.Replace(good, []byte(`"version": 1`), []byte(`"version": 2, "version": 1`), 1),
		"other case":     bytes.Replace(good, []byte(`"version"`), []byte(`"Version"`), 1),
		"trailing data":  append(bytes.Clone(good), "{}"...),
		"other spacing":  bytes.ReplaceAll(good, []byte("  "), nil),
		"version":        bytes.Replace(good, []byte(`"version": 1`), []byte(`"version": 2`), 1),
		"sum":            bytes.Replace(good, []byte("aaaa"), []byte("aaax"), 1),
		"archive's name": bytes.Replace(good, []byte("x.tar.gz"), []byte("../x"), 1),
		"signer":         bytes.Replace(good, []byte("AAAA"), []byte("AAA"), 1),
		"null":           []byte("null\n"),
		"empty":          nil,
	} {
		if _, err := ParseStatement(bad); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func FuzzParseStatement(f *testing.F) {
	f.Add(goodStatement(f))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseStatement(b)
		if err != nil {
			return
		}
		if again, err := s.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("taken but not canonical: %v", err)
		}
		if !json.Valid(b) {
			t.Fatal("taken but no JSON")
		}
	})
}

func FuzzCheckSignature(f *testing.F) {
	key := newKey(f, 0)
	data := []byte("data")
	pub, sig := public(f, key, false), sign(f, key, data, false)
	f.Add(data, sig, pub)
	f.Add(data, sign(f, key, data, true), public(f, key, true))
	f.Fuzz(func(t *testing.T, d, s, k []byte) {
		if CheckSignature(d, s, k, fingerprint(key), time.Time{}) == nil && !bytes.Equal(d, data) {
			t.Fatal("signature over other data holds")
		}
	})
}

func FuzzFindSum(f *testing.F) {
	f.Add([]byte(strings.Repeat("a", 64) + "  x.tar.gz\n"))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if sum, err := FindSum(b, "x.tar.gz"); err == nil && len(sum) != 64 {
			t.Fatalf("sum %q", sum)
		}
	})
}
