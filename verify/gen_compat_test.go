package verify_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/testdata/fixture"
)

func TestGen(t *testing.T) {
	spool := fixture.Spool(t)
	k, pub := fixture.Key(t)
	path := filepath.Join("..", "testdata", "compat", "v1-tiny.tar.zst")
	p := fixture.Plan(t, spool, image(t, spool, "example.com/app:v1", 1, 2000, 3000, 0, 1), image(t, spool, "example.com/sidecar:v1", 2, 100))
	if _, err := bundle.Create(t.Context(), p, bundle.CreateOptions{Output: path, Sign: fixture.Signer(k)}); err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(pub)
	os.WriteFile("../testdata/compat/v1-tiny.pub", b, 0o644)
}
