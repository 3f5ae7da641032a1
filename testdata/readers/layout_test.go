//go:build all

package readers

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// unpack unpacks the shared bundle with stock tar into a new directory.
func unpack(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layout")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, dir, "tar", "--zstd", "-xf", lab.bundle)
	return dir
}

// decode parses a JSON document of the layout.
func decode[T any](t testing.TB, data []byte) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func blobPath(d digest.Digest) string { return "blobs/sha256/" + d.Encoded() }

// graph returns the blobs that the index lists, in two groups: manifests and
// configs, and layers. It is a second reading of image-spec, independent of the
// product's.
func graph(t testing.TB, dir string) (meta, layers map[string]int64) {
	t.Helper()
	meta, layers = map[string]int64{}, map[string]int64{}
	for _, d := range decode[ocispec.Index](t, read(t, dir, "index.json")).Manifests {
		meta[blobPath(d.Digest)] = d.Size
		m := decode[ocispec.Manifest](t, read(t, dir, blobPath(d.Digest)))
		if m.Config.Digest != "" {
			meta[blobPath(m.Config.Digest)] = m.Config.Size
		}
		for _, l := range m.Layers {
			layers[blobPath(l.Digest)] = l.Size
		}
	}
	for name := range meta {
		delete(layers, name)
	}
	return meta, layers
}

// tar unpacks exactly what the signed index lists, bytes that match their
// names, and airlock takes the directory for the bundle it is.
func TestTarUnpacks(t *testing.T) {
	dir := unpack(t)
	meta, layers := graph(t, dir)
	want := map[string]bool{"oci-layout": true, "index.json": true, "trusted_root.json": true}
	for _, group := range []map[string]int64{meta, layers} {
		for name, size := range group {
			want[name] = true
			data := read(t, dir, name)
			sum := sha256.Sum256(data)
			if int64(len(data)) != size || hex.EncodeToString(sum[:]) != filepath.Base(name) {
				t.Errorf("%s has %d bytes with digest %x, want %d bytes", name, len(data), sum, size)
			}
		}
	}
	got := map[string]bool{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.HasPrefix(p, "signatures/") {
			got[p] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	out := run(t, dir, "airlock", "bundle", "verify", "--key", lab.pub, dir)
	if !strings.Contains(out, "every byte verified") {
		t.Errorf("verify of the directory says %q", out)
	}
	name := slices.Sorted(maps.Keys(layers))[0]
	data := read(t, dir, name)
	data[0] ^= 1
	write(t, filepath.Join(dir, name), data)
	refuse(t, 12, dir, "airlock", "bundle", "verify", "--key", lab.pub, dir)
}

// The listing of tar is the file's table of contents: HEAD in its order, then
// manifests and configs, then layers, each once.
func TestTarLists(t *testing.T) {
	dir := unpack(t)
	meta, layers := graph(t, dir)
	var head []string
	counts := []map[string]int64{meta, layers}
	for name := range strings.Lines(run(t, dir, "tar", "--zstd", "-tf", lab.bundle)) {
		name = strings.TrimSuffix(name, "\n")
		switch {
		case !strings.HasPrefix(name, "blobs/"):
			head = append(head, name)
		case len(counts) > 0 && len(counts[0]) == 0:
			counts = counts[1:]
			fallthrough
		default:
			if _, ok := counts[0][name]; !ok {
				t.Fatalf("%s comes twice, too early or too late", name)
			}
			delete(counts[0], name)
		}
	}
	if len(meta)+len(layers) > 0 {
		t.Errorf("not listed: %v %v", meta, layers)
	}
	sigs, err := os.ReadDir(filepath.Join(dir, "signatures"))
	if err != nil || len(sigs) != 1 {
		t.Fatalf("signatures: %v, %v", sigs, err)
	}
	if diff := cmp.Diff([]string{"oci-layout", "index.json", "signatures/" + sigs[0].Name(), "trusted_root.json"}, head); diff != "" {
		t.Errorf("HEAD (-want +got):\n%s", diff)
	}
}

// The auditor's first command takes out the index and nothing else.
func TestTarTakesOutTheIndex(t *testing.T) {
	dir := t.TempDir()
	run(t, dir, "tar", "--occurrence=1", "--zstd", "-xf", lab.bundle, "index.json")
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("extracted %v, %v", entries, err)
	}
	if got, want := read(t, dir, "index.json"), read(t, unpack(t), "index.json"); string(got) != string(want) {
		t.Error("another index than that of the whole")
	}
}

// zstd decodes the file within 8 MiB and knows the slack and the table for what
// they are.
func TestZstdReads(t *testing.T) {
	dir := t.TempDir()
	run(t, dir, "zstd", "-q", "-t", lab.bundle)
	names := shell(t, dir, `zstd -q -d --memory=8MB -c "$1" | tar -tf -`, lab.bundle)
	if want := run(t, dir, "tar", "--zstd", "-tf", lab.bundle); names != want {
		t.Errorf("with little memory zstd reads %q, want %q", names, want)
	}
	// "Frames  Skips  Compressed  …": at least HEAD, META and PACKED; slack and table.
	out := run(t, dir, "zstd", "-l", lab.bundle)
	m := regexp.MustCompile(`(?m)^\s*(\d+)\s+(\d+)\s`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("zstd -l says %q", out)
	}
	frames, errF := strconv.Atoi(m[1])
	skips, errS := strconv.Atoi(m[2])
	if errF != nil || errS != nil || frames < 3 || skips != 2 {
		t.Errorf("zstd -l counts %s frames and %s skippable ones, want at least 3 and 2", m[1], m[2])
	}
}

// A path may hold whatever a file system allows in it.
func TestPathWithSpaces(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a medium [1] of 'two'")
	path := filepath.Join(dir, "the bundle *.tar.zst")
	copyFile(t, lab.bundle, path)
	run(t, dir, "airlock", "verify", "--key", lab.pub, path)
	run(t, dir, "airlock", "bundle", "inspect", path)
	shell(t, dir, `cat "$1" | airlock verify --key "$2" -`, path, lab.pub)
	run(t, dir, "airlock", "bundle", "extract", "--key", lab.pub, path, "docs", "-o", filepath.Join(dir, "the docs"))
	run(t, dir, "airlock", "bundle", "sign", "--key", lab.key, path)
	run(t, dir, "airlock", "verify", "--key", lab.pub, path)
	out := filepath.Join(dir, "un packed")
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, dir, "tar", "--zstd", "-xf", path, "-C", out)
	run(t, dir, "airlock", "verify", "--key", lab.pub, out)
	created := filepath.Join(dir, "made here.tar.zst")
	run(t, filepath.Join(lab.dir, "product"), "airlock", "bundle", "create", "--plain-http", lab.host, "--key", lab.key, "-o", created)
	run(t, dir, "sha256sum", "--quiet", "-c", created+".sha256")
	run(t, dir, "airlock", "verify", "--key", lab.pub, created)
}
