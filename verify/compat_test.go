package verify_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/verify"
	"github.com/google/go-cmp/cmp"
)

// TestCompat reads the corpus of bundles that every version must read forever.
// Its files are never made again: if this test fails, the code is wrong.
func TestCompat(t *testing.T) {
	const path = "../testdata/compat/v1-tiny.tar.zst"
	const pub = "../testdata/compat/v1-tiny.pub"
	b, err := verify.Open(t.Context(), path, policy(t, pub), verify.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.VerifyAll(t.Context(), nil); err != nil {
		t.Error(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, _, err := verify.Stream(t.Context(), file, nil, policy(t, pub), verify.Options{}, nil)
	if err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(info, b.Info()); diff != "" {
		t.Errorf("stream and file tell different things:\n%s", diff)
	}
	got := []string{fmt.Sprintf("%s %s release %d by %s, index %s, lock %s", info.Product, info.Version, info.Release, info.Tool, info.Digest, info.Lock)}
	for e, err := range b.Items() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %s %s %s %d", e.Kind, e.Role, e.Ref, e.Digest, e.Size))
	}
	if diff := cmp.Diff(strings.Split(strings.TrimSpace(compatV1), "\n"), got); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
}

const compatV1 = `
demo v1.0.0 release 7 by v0.0.0-test, index sha256:b582f59d0aa6be85f0b386776040d0286621045feedf2b34d2301f4aae281f25, lock sha256:b5ab8cfc0ecc54fc2149aadd0da6ba30273f02f95e757ef04751191709656153
image root example.com/app:v1 sha256:a4f00d38ee7f1726c52ded68b2541073b7255ea4fb40acd0bc296e7509540fa2 851
image root example.com/sidecar:v1 sha256:46b0b78a7e690c6f86dd6bca2ab50e47ff03aa0d6a05d10607ba9fcfa4a4dd87 401
lock root lock/demo:v1.0.0 sha256:9b3aa6514a607656df2be3a8da2686268af528ca081479e1cad5d00262875df0 440
`
