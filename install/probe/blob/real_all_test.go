//go:build all

package blob

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	azservice "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"
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

// azuriteKey is the well-known key of the account that Azurite has.
const azuriteKey = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

func TestAzurite(t *testing.T) {
	endpoint := objectstore.Azurite(t)
	a := objectstore.NewARM(t)
	for name, v := range a.Env() {
		t.Setenv(name, v)
	}
	connection := "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=" + azuriteKey + ";BlobEndpoint=http://" + endpoint + "/devstoreaccount1;"
	c, err := azservice.NewClientFromConnectionString(connection, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"states", "uploads"} {
		if _, err := c.CreateContainer(t.Context(), name, nil); err != nil {
			t.Fatal(err)
		}
	}
	rule := azservice.CORSRule{AllowedOrigins: new(origin), AllowedMethods: new("PUT,POST,GET"), AllowedHeaders: new("*"), ExposedHeaders: new(""), MaxAgeInSeconds: new(int32(10))}
	if _, err := c.SetProperties(t.Context(), &azservice.SetPropertiesOptions{CORS: []*azservice.CORSRule{&rule}}); err != nil {
		t.Fatal(err)
	}
	conf := map[string]any{"type": "azure", "connection_string": connection, "ca": caFile(t, a.Certificate())}
	asked := changed(conf, "", map[string]any{"subscription": "sub", "resource_group": "group", "arm_endpoint": a.URL})
	look := func(name string, p interface {
		install.Probe
		install.Coder
	}, with map[string]any, want ...string,
	) install.Result {
		got, res := codesOf(t, p, with)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: codes (-want +got):\n%s\n%s", name, d, spell(res))
		}
		for _, secret := range []string{azuriteKey, objectstore.ARMToken, objectstore.ARMSecret, "sig="} {
			if strings.Contains(spell(res), secret) {
				t.Errorf("%s: shown: %s", name, spell(res))
			}
		}
		for _, bucket := range []string{"states", "uploads"} {
			page, err := c.NewContainerClient(bucket).NewListBlobsFlatPager(nil).NextPage(t.Context())
			if err != nil || len(page.Segment.BlobItems) != 0 {
				t.Errorf("%s: %s still holds %d blobs, %v", name, bucket, len(page.Segment.BlobItems), err)
			}
		}
		return res
	}
	a.Versioning = true
	look("good", Bucket{}, map[string]any{"storage": asked, "buckets": table()})
	look("ARM not asked", Bucket{}, map[string]any{"storage": conf, "buckets": table()}, "OBJ-19 warn", "OBJ-19 warn", "OBJ-19 warn", "OBJ-19 warn")
	// What Spacelift's own module makes.
	a.Policy = objectstore.DeleteRule("delete-states", 2, "states/")
	res := look("states expire", Bucket{}, map[string]any{"storage": asked, "buckets": table()}, "OBJ-06")
	for _, want := range []string{"rule=delete-states", "days=2", "bucket=states"} {
		if !strings.Contains(spell(res), want) {
			t.Errorf("it does not say %s: %s", want, spell(res))
		}
	}
	a.Policy = nil
	look("missing", Bucket{}, map[string]any{"storage": asked, "buckets": changed(table(), "states", map[string]any{"name": "absent"})}, "OBJ-01")
	wrong := strings.Replace(connection, "Eby8", "Xby8", 1)
	look("wrong key", Bucket{}, map[string]any{"storage": changed(asked, "", map[string]any{"connection_string": wrong}), "buckets": table()}, "OBJ-02", "OBJ-02")
	look("signed", Presign{}, map[string]any{"storage": conf, "buckets": []any{"states", "uploads"}})
	look("cors", CORS{}, map[string]any{"storage": conf, "bucket": "uploads", "origin": origin, "methods": []any{"PUT", "POST"}, "url": "http://" + endpoint})
	look("other origin", CORS{}, map[string]any{"storage": conf, "bucket": "uploads", "origin": "https://other.example"}, "OBJ-05")
}

// TestFakeGCS runs against a server that checks neither credentials nor
// signatures: the probes say exactly that, and the rest works.
func TestFakeGCS(t *testing.T) {
	endpoint := objectstore.FakeGCS(t)
	t.Setenv("STORAGE_EMULATOR_HOST", endpoint)
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", accountFile(t))
	post(t, "http://"+endpoint+"/storage/v1/b?project=p", `{"name":"states","versioning":{"enabled":true}}`)
	post(t, "http://"+endpoint+"/storage/v1/b?project=p", `{"name":"uploads"}`)
	conf := map[string]any{"type": "gcp"}
	for name, c := range map[string]struct {
		p interface {
			install.Probe
			install.Coder
		}
		with map[string]any
		want []string
	}{
		"bucket":  {Bucket{}, map[string]any{"storage": conf, "buckets": table()}, []string{"OBJ-14", "OBJ-14", "OBJ-12 info"}},
		"missing": {Bucket{}, map[string]any{"storage": conf, "buckets": changed(table(), "states", map[string]any{"name": "absent"})}, []string{"OBJ-01", "OBJ-14", "OBJ-12 info"}},
		"signed":  {Presign{}, map[string]any{"storage": conf, "buckets": []any{"uploads"}}, []string{"OBJ-16"}},
		"cors":    {CORS{}, map[string]any{"storage": conf, "bucket": "uploads", "origin": origin, "url": "https://storage.example"}, []string{"OBJ-07", "OBJ-17 warn"}},
	} {
		got, res := codesOf(t, c.p, c.with)
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s: codes (-want +got):\n%s\n%s", name, d, spell(res))
		}
	}
	for _, bucket := range []string{"states", "uploads"} {
		if list := get(t, "http://"+endpoint+"/storage/v1/b/"+bucket+"/o?versions=true"); strings.Contains(list, prefix) {
			t.Errorf("%s still holds %s", bucket, list)
		}
	}
}

// accountFile is a service account's key, of an account that nobody knows.
func accountFile(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "spacelift@project.iam.gserviceaccount.com", "token_uri": "http://127.0.0.1:1",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "account.json")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func post(t *testing.T, target, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	answered(t, req)
}

func get(t *testing.T, target string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	return answered(t, req)
}

func answered(t *testing.T, req *http.Request) string {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s, %v", req.URL, resp.Status, raw, err)
	}
	return string(raw)
}
