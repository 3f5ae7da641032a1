//go:build all

package minio

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	store "github.com/airlock-project/airlock/install/internal/blob"
	"github.com/airlock-project/airlock/testdata/objectstore"
)

func TestRealMinio(t *testing.T) {
	endpoint := objectstore.Minio(t, "*")
	in := input(t, endpoint)
	in.With["admin_access_key"], in.With["admin_secret_key"] = objectstore.AccessKey, objectstore.SecretKey
	for _, again := range []bool{false, true} {
		c, err := Action{}.Plan(t.Context(), in)
		if err != nil || c.Nothing != again {
			t.Fatalf("again %v: %+v, %v", again, c, err)
		}
		if res := apply(t, in); res.Changed == again || len(res.Findings) != 0 {
			t.Fatalf("again %v: %+v", again, res)
		}
	}
	raw, err := os.ReadFile(filepath.Join(in.Secrets, "minio-spacelift.key"))
	if err != nil {
		t.Fatal(err)
	}
	admin := open1(t, endpoint, objectstore.AccessKey, objectstore.SecretKey)
	limited := open1(t, endpoint, "spacelift", strings.TrimSpace(string(raw)))
	for _, bucket := range []string{"states", "other"} {
		if err := admin.Maker.Create(t.Context(), bucket); err != nil {
			t.Fatal(err)
		}
		_, err := limited.Objects.Put(t.Context(), bucket, store.Object{Key: "k", Body: strings.NewReader("x"), Size: 1})
		if (err == nil) != (bucket == "states") {
			t.Errorf("put to %s: %v", bucket, err)
		}
	}
	if err := limited.Maker.Create(t.Context(), "third"); store.ReasonOf(err) != store.Denied {
		t.Errorf("the key makes buckets: %v", err)
	}
	in.With["admin_secret_key"] = "wrong"
	if res := apply(t, in); len(res.Findings) != 1 || res.Findings[0].Code != "MIN-01" {
		t.Errorf("%+v", res)
	}
	lost := install.Input{With: map[string]any{}, Secrets: t.TempDir()}
	maps.Copy(lost.With, in.With)
	lost.With["admin_secret_key"] = objectstore.SecretKey
	if res := apply(t, lost); len(res.Findings) != 1 || res.Findings[0].Code != "MIN-02" {
		t.Errorf("%+v", res)
	}
}

func open1(t *testing.T, endpoint, key, secret string) *store.Service {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Type: store.TypeMinio, Endpoint: endpoint, AccessKey: key, SecretKey: secret})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}
