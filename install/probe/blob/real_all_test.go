//go:build all

package blob

import (
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	blobaction "github.com/airlock-project/airlock/install/action/blob"
	"github.com/airlock-project/airlock/testdata/objectstore"
	"github.com/google/go-cmp/cmp"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/cors"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// client is another's view of a server: what the tests prepare and look at.
func client(t *testing.T, endpoint string) *minio.Client {
	t.Helper()
	c, err := minio.New(endpoint, &minio.Options{Creds: credentials.NewStaticV4(objectstore.AccessKey, objectstore.SecretKey, "")})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func at(endpoint string) map[string]any {
	return map[string]any{"type": "minio", "endpoint": endpoint, "access_key": objectstore.AccessKey, "secret_key": objectstore.SecretKey}
}

// ensure makes the table's buckets.
func ensure(t *testing.T, endpoint string) {
	t.Helper()
	res, err := blobaction.Ensure{}.Apply(t.Context(), install.Input{With: map[string]any{"storage": at(endpoint), "buckets": table()}})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range res.Findings {
		if f.Severity != install.SeverityWarn {
			t.Fatalf("%+v", f)
		}
	}
	c, err := blobaction.Ensure{}.Plan(t.Context(), install.Input{With: map[string]any{"storage": at(endpoint), "buckets": table()}})
	if err != nil || !c.Nothing {
		t.Fatalf("made, and still planned: %+v, %v", c, err)
	}
}

// empty fails if a bucket holds anything, in any version.
func empty(t *testing.T, endpoint string) {
	t.Helper()
	for _, bucket := range []string{"states", "uploads"} {
		for o := range client(t, endpoint).ListObjects(t.Context(), bucket, minio.ListObjectsOptions{Recursive: true, WithVersions: true}) {
			t.Errorf("%s still holds %s %s: %v", bucket, o.Key, o.VersionID, o.Err)
		}
		for u := range client(t, endpoint).ListIncompleteUploads(t.Context(), bucket, "", true) {
			t.Errorf("%s still has an upload of %s: %v", bucket, u.Key, u.Err)
		}
	}
}

func check(t *testing.T, endpoint string, p interface {
	install.Probe
	install.Coder
}, more map[string]any, want []string,
) install.Result {
	t.Helper()
	got, res := codesOf(t, p, changed(map[string]any{"storage": at(endpoint)}, "", more))
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%T: codes (-want +got):\n%s\n%s", p, d, spell(res))
	}
	empty(t, endpoint)
	return res
}

func TestVersitygw(t *testing.T) {
	endpoint := objectstore.Versitygw(t)
	ensure(t, endpoint)
	rule := cors.Rule{AllowedOrigin: []string{origin}, AllowedMethod: []string{"PUT", "POST", "GET"}, AllowedHeader: []string{"*"}}
	if err := client(t, endpoint).SetBucketCors(t.Context(), "uploads", cors.NewConfig([]cors.Rule{rule})); err != nil {
		t.Fatal(err)
	}
	// It has no lifecycle rules and says so.
	check(t, endpoint, Bucket{}, map[string]any{"buckets": table()}, []string{"OBJ-19 warn", "OBJ-19 warn"})
	check(t, endpoint, Presign{}, map[string]any{"buckets": []any{"states", "uploads"}}, nil)
	with := map[string]any{"bucket": "uploads", "origin": origin, "methods": []any{"PUT", "POST"}, "url": "http://" + endpoint}
	check(t, endpoint, CORS{}, with, nil)
	check(t, endpoint, CORS{}, changed(with, "", map[string]any{"origin": "https://other.example"}), []string{"OBJ-05", "OBJ-05"})
	check(t, endpoint, CORS{}, changed(with, "", map[string]any{"url": "https://elsewhere.example"}), []string{"OBJ-07"})
	missing := check(t, endpoint, Bucket{}, map[string]any{"buckets": changed(table(), "states", map[string]any{"name": "absent"})}, []string{"OBJ-01", "OBJ-19 warn"})
	if !strings.Contains(spell(missing), "bucket=absent") {
		t.Error(spell(missing))
	}
	for _, storage := range []map[string]any{{"secret_key": "another"}, {"access_key": "AKIAUNKNOWN"}} {
		check(t, endpoint, Bucket{}, map[string]any{"storage": changed(at(endpoint), "", storage), "buckets": table()}, []string{"OBJ-02"})
	}
	if err := client(t, endpoint).SetBucketPolicy(t.Context(), "uploads", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::uploads/*"}]}`); err != nil {
		t.Fatal(err)
	}
	open := check(t, endpoint, Bucket{}, map[string]any{"buckets": table()}, []string{"OBJ-19 warn", "OBJ-14", "OBJ-19 warn"})
	if !strings.Contains(spell(open), "reads an object") {
		t.Error(spell(open))
	}
}

// TestUnderscoresThroughNginx has a proxy that drops headers with underscores:
// the request arrives without one that was signed.
func TestUnderscoresThroughNginx(t *testing.T) {
	endpoint := objectstore.Versitygw(t)
	ensure(t, endpoint)
	front := objectstore.Nginx(t, endpoint)
	res := check(t, endpoint, Bucket{}, map[string]any{"storage": at(front), "buckets": table()}, []string{"OBJ-03", "OBJ-19 warn", "OBJ-03", "OBJ-19 warn"})
	if !strings.Contains(spell(res), "host="+front) {
		t.Error(spell(res))
	}
	check(t, endpoint, Presign{}, map[string]any{"storage": at(front), "buckets": []any{"uploads"}}, nil)
}

func TestMinio(t *testing.T) {
	endpoint := objectstore.Minio(t, origin)
	ensure(t, endpoint)
	check(t, endpoint, Bucket{}, map[string]any{"buckets": table()}, nil)
	check(t, endpoint, Presign{}, map[string]any{"buckets": []any{"states", "uploads"}}, nil)
	with := map[string]any{"bucket": "uploads", "origin": origin, "methods": []any{"PUT", "POST"}}
	check(t, endpoint, CORS{}, with, nil)
	check(t, endpoint, CORS{}, changed(with, "", map[string]any{"origin": "https://other.example"}), []string{"OBJ-05", "OBJ-05"})
}
