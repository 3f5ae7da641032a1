package verify_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/testdata/fixture"
	"github.com/airlock-project/airlock/verify"
)

func image(t *testing.T, spool *bundle.Spool, name string, seed uint64, sizes ...int) *fixture.Source {
	t.Helper()
	s, err := fixture.NewImage(spool, name, seed, sizes...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOpenVerifyRead(t *testing.T) {
	spool := fixture.Spool(t)
	a := image(t, spool, "example.com/a:1", 1, 3<<20, 9<<20, 0, 1, 512)
	b := fixture.Open(t, spool, a, image(t, spool, "example.com/b:1", 2, 40<<20))
	if err := b.VerifyAll(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for _, want := range a.Pin.Blobs {
		rc, err := b.Fetch(t.Context(), want)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(rc)
		rc.Close()
		if err != nil || int64(len(data)) != want.Size || want.Digest.Algorithm().FromBytes(data) != want.Digest {
			t.Errorf("fetch %s: %d bytes, %v", want.Digest, len(data), err)
		}
	}
	if got := b.Info(); got.Product != "demo" || got.Release != 7 {
		t.Errorf("info %+v", got)
	}
	if d := b.Decision(); len(d.Signers) != 1 {
		t.Errorf("decision %+v", d)
	}
}

func TestStream(t *testing.T) {
	spool := fixture.Spool(t)
	path, pub := fixture.File(t, spool, image(t, spool, "example.com/a:1", 1, 3<<20, 9<<20, 0, 1, 512))
	p, err := verify.KeyPolicy(pub)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, _, err := verify.Stream(t.Context(), f, nil, p, verify.Options{}, nil)
	if err != nil || info.Product != "demo" {
		t.Fatal(info, err)
	}
}

func TestLayoutDirectory(t *testing.T) {
	spool := fixture.Spool(t)
	path, pub := fixture.File(t, spool, image(t, spool, "example.com/a:1", 1, 3<<20, 9<<20, 0, 1, 512))
	dir := filepath.Join(t.TempDir(), "x")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "--zstd", "-xf", path, "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	p, err := verify.KeyPolicy(pub)
	if err != nil {
		t.Fatal(err)
	}
	b, err := verify.Open(t.Context(), dir, p, verify.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.VerifyAll(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}
