package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/source/file"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/testdata/fixture"
	"github.com/airlock-project/airlock/testdata/objectstore"
)

const storageOrigin = "https://spacelift.site-a.example"

// storageInputs are a site's answers about an S3 server.
func storageInputs(s *objectstore.Server, more map[string]any) map[string]any {
	in := map[string]any{
		"hosts.server": "spacelift.site-a.example", "storage.type": "minio", "storage.minio.endpoint": s.Endpoint(),
		"storage.minio.access_key_id": objectstore.AccessKey, "storage.minio.secret_access_key": objectstore.SecretKey,
	}
	maps.Copy(in, more)
	return in
}

// serverCA writes the authority of a TLS server to a file.
func serverCA(t *testing.T, s *objectstore.Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// anotherCA writes an authority that has nothing to do with any server.
func anotherCA(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "another"}, IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "another.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// storageBuckets are the names that the preset gives the ten buckets.
func storageBuckets(t testing.TB) []string {
	t.Helper()
	var names []string
	for name, def := range presetChecklist(t).Inputs {
		if bucket, ok := def.Default.(string); ok && strings.HasPrefix(name, "storage.bucket.") {
			names = append(names, bucket)
		}
	}
	if len(names) != 10 {
		t.Fatalf("the preset has the buckets %v", names)
	}
	return names
}

func TestRowObjectStorage(t *testing.T) {
	type spoil func(*testing.T, *objectstore.Server, map[string]any)
	for _, c := range []struct {
		row
		tls bool
		do  spoil
	}{
		{row: row{name: "made", want: install.StatePass}},
		{row: row{name: "over TLS", want: install.StatePass}, tls: true},
		{
			row: row{name: "bucket missing", want: install.StateFail, code: "OBJ-01", says: []string{"spacelift-deliveries", "OBJECT_STORAGE_BUCKET_DELIVERIES"}},
			do:  func(_ *testing.T, _ *objectstore.Server, in map[string]any) { in["storage.manage"] = "check" },
		},
		{
			row: row{name: "read-only key", want: install.StateFail, code: "OBJ-02", says: []string{"put object", "grant s3:PutObject on spacelift-"}},
			do: func(_ *testing.T, s *objectstore.Server, _ map[string]any) {
				s.Deny = func(r *http.Request) bool {
					return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "airlock-probe/")
				}
			},
		},
		{
			row: row{name: "underscore dropped", want: install.StateFail, code: "OBJ-03", says: []string{"enable-underscores-in-headers"}},
			do: func(_ *testing.T, s *objectstore.Server, _ map[string]any) {
				s.Drop = func(name string) bool { return strings.Contains(name, "_") }
			},
		},
		{
			row: row{name: "another origin", want: install.StateFail, code: "OBJ-05", says: []string{storageOrigin, "MINIO_API_CORS_ALLOW_ORIGIN", "spacelift-uploads"}},
			do:  func(_ *testing.T, s *objectstore.Server, _ map[string]any) { s.Origin = "https://other.example" },
		},
		{
			row: row{name: "states expire", want: install.StateFail, code: "OBJ-06", says: []string{"spacelift-states", "cleanup", "2 days", "before first use"}},
			do: func(_ *testing.T, s *objectstore.Server, _ map[string]any) {
				s.Expire("spacelift-states", "cleanup", 2)
			},
		},
		{
			row: row{name: "uploads elsewhere", want: install.StateFail, code: "OBJ-07", says: []string{"https://uploads.site-a.example", "set storage.uploads_url to http://127.0.0.1"}},
			do: func(_ *testing.T, _ *objectstore.Server, in map[string]any) {
				in["storage.uploads_url"] = "https://uploads.site-a.example"
			},
		},
		{
			row: row{name: "scheme", want: install.StateFail, code: "OBJ-08", says: []string{"https://minio.site-a.example:9000", "host:port only"}},
			do: func(_ *testing.T, _ *objectstore.Server, in map[string]any) {
				in["storage.minio.endpoint"] = "https://minio.site-a.example:9000"
			},
		},
		{
			row: row{name: "wrong CA", want: install.StateFail, code: "OBJ-09", says: []string{"127.0.0.1", "storage.ca_file"}}, tls: true,
			do: func(t *testing.T, _ *objectstore.Server, in map[string]any) {
				in["storage.ca_file"] = anotherCA(t)
			},
		},
		{
			row: row{name: "slash in a name", want: install.StateFail, code: "OBJ-10", says: []string{`"spacelift-states/"`, "slash", "OBJECT_STORAGE_BUCKET_STATES"}},
			do: func(_ *testing.T, _ *objectstore.Server, in map[string]any) {
				in["storage.bucket.states"] = "spacelift-states/"
			},
		},
		{
			row: row{name: "space in a name", want: install.StateFail, code: "OBJ-10", says: []string{"space", "OBJECT_STORAGE_BUCKET_UPLOADS"}},
			do: func(_ *testing.T, _ *objectstore.Server, in map[string]any) {
				in["storage.bucket.uploads"] = "spacelift-uploads "
			},
		},
		{
			row: row{name: "any signature", want: install.StateFail, code: "OBJ-16", says: []string{"does not check signatures"}},
			do:  func(_ *testing.T, s *objectstore.Server, _ map[string]any) { s.AnySignature = true },
		},
		{
			row: row{name: "any origin", want: install.StateWarn, code: "OBJ-17", says: []string{storageOrigin}},
			do:  func(_ *testing.T, s *objectstore.Server, _ map[string]any) { s.Origin = "*" },
		},
		{
			row: row{name: "signed URLs unanswered", want: install.StateFail, code: "OBJ-04", says: []string{"127.0.0.1", "under a name that the cluster, workers and browsers all resolve"}},
			do: func(_ *testing.T, s *objectstore.Server, _ map[string]any) {
				s.Break = func(r *http.Request) bool { return r.URL.Query().Has("X-Amz-Signature") }
			},
		},
		{
			row: row{name: "breaks", want: install.StateFail, code: "OBJ-11", says: []string{"spacelift-", "get object", "log of the storage service"}},
			do: func(_ *testing.T, s *objectstore.Server, _ map[string]any) {
				s.Break = func(r *http.Request) bool {
					return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "airlock-probe/") && !r.URL.Query().Has("X-Amz-Signature")
				}
			},
		},
		{
			row: row{name: "no versions", want: install.StateFail, code: "OBJ-12", says: []string{"enable versioning of plain-states", "required"}},
			do: func(t *testing.T, s *objectstore.Server, in map[string]any) {
				s.Make(t, storageBuckets(t)...)
				for _, bucket := range storageBuckets(t) {
					s.EnableVersioning(t, bucket)
				}
				s.Make(t, "plain-states")
				in["storage.manage"], in["storage.bucket.states"] = "check", "plain-states"
			},
		},
		{
			row: row{name: "retention too short", want: install.StateWarn, code: "OBJ-13", says: []string{"spacelift-run-logs", "after 3 days", "60 days or more"}},
			do: func(_ *testing.T, s *objectstore.Server, _ map[string]any) {
				s.Expire("spacelift-run-logs", "theirs", 3)
			},
		},
		{
			row: row{name: "open to all", want: install.StateFail, code: "OBJ-14", says: []string{"without credentials", "remove the public access of spacelift-"}},
			do:  func(_ *testing.T, s *objectstore.Server, _ map[string]any) { s.Public = true },
		},
		{
			row: row{name: "clock", want: install.StateFail, code: "OBJ-15", says: []string{"127.0.0.1", "behind this machine", "same time server"}},
			do:  func(_ *testing.T, s *objectstore.Server, _ map[string]any) { s.Skew = -time.Hour },
		},
		{
			row: row{name: "nothing there", want: install.StateFail, code: "OBJ-18", says: []string{"127.0.0.1:", "refused", "firewall"}},
			do:  func(_ *testing.T, s *objectstore.Server, _ map[string]any) { s.Close() },
		},
		{
			row: row{name: "no lifecycle rules", want: install.StateWarn, code: "OBJ-19", says: []string{"spacelift-deliveries", "look yourself"}},
			do:  func(_ *testing.T, s *objectstore.Server, _ map[string]any) { s.NoLifecycle = true },
		},
		{
			row: row{name: "certificate not checked", want: install.StateWarn, code: "OBJ-21", says: []string{"127.0.0.1", "storage.minio.allow_insecure to false"}}, tls: true,
			do: func(_ *testing.T, _ *objectstore.Server, in map[string]any) {
				delete(in, "storage.ca_file")
				in["storage.minio.allow_insecure"] = true
			},
		},
		{
			row: row{name: "type unset or wrong", want: install.StateFail, code: "OBJ-20", says: []string{"s3", "would take aws"}},
			do:  func(_ *testing.T, _ *objectstore.Server, in map[string]any) { in["storage.type"] = "s3" },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := objectstore.New(t, c.tls)
			s.Origin = storageOrigin
			in := storageInputs(s, nil)
			if c.tls {
				in["storage.minio.use_ssl"], in["storage.ca_file"] = true, serverCA(t, s)
			}
			if c.do != nil {
				c.do(t, s, in)
			}
			r := c.row
			r.item, r.inputs = "object-storage", in
			got := runRow(t, r)
			raw, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(raw), "X-Amz-Signature") || strings.Contains(string(raw), objectstore.SecretKey) {
				t.Errorf("the report holds a signature or a key: %s", raw)
			}
			if r.want != install.StatePass {
				return
			}
			env, ok := got.Outputs["storage.bucket_env"].(map[string]any)
			if !ok || len(env) != 11 || env["OBJECT_STORAGE_BUCKET_WORKSPACE"] != "spacelift-workspaces" || env["OBJECT_STORAGE_BUCKET_USAGE_ANALYTICS"] != "" {
				t.Errorf("outputs %+v", got.Outputs)
			}
		})
	}
}

// TestRowObjectStorageDryRun plans with the administrator's key, before there is
// another, and makes nothing.
func TestRowObjectStorageDryRun(t *testing.T) {
	s := objectstore.New(t, false)
	in := map[string]any{
		"hosts.server": "spacelift.site-a.example", "storage.type": "minio", "storage.minio.endpoint": s.Endpoint(),
		"storage.minio.admin_access_key_id": objectstore.AccessKey, "storage.minio.admin_secret_access_key": objectstore.SecretKey,
	}
	s.Deny = func(r *http.Request) bool {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			t.Errorf("a dry run makes %s %s", r.Method, r.URL.Path)
		}
		return false
	}
	got := runRow(t, row{item: "object-storage", inputs: in, dryRun: true, want: install.StatePlanned})
	raw, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"create bucket spacelift-states, with versions", "create bucket spacelift-deliveries, objects deleted after 1 days"} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("it does not say %q: %s", want, raw)
		}
	}
}

func TestRowMinioCredentials(t *testing.T) {
	for _, r := range []row{
		{name: "a key is given", inputs: map[string]any{"storage.type": "minio", "storage.minio.access_key_id": "AKIASPACELIFT", "storage.minio.admin_secret_access_key": "adm1nistrator"}, want: install.StateSkipped},
		{name: "scheme", inputs: map[string]any{"storage.minio.endpoint": "https://minio:9000"}, want: install.StateFail, code: "OBJ-08", says: []string{"https://minio:9000"}},
		{name: "not MinIO", want: install.StateFail, code: "MIN-01", says: []string{"administrator", "by its own means"}},
	} {
		t.Run(r.name, func(t *testing.T) {
			s := objectstore.New(t, false)
			in := map[string]any{
				"storage.type": "minio", "storage.minio.endpoint": s.Endpoint(),
				"storage.minio.admin_access_key_id": "admin", "storage.minio.admin_secret_access_key": "adm1nistrator",
			}
			maps.Copy(in, r.inputs)
			r.item, r.inputs = "minio-credentials", in
			runRow(t, r)
		})
	}
}

// launcher is a carried file.
func launcher(t *testing.T, name, content string) []bundle.Source {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return []bundle.Source{file.New(fixture.Spool(t), manifests.File{Name: name, Path: path}, file.Options{Version: "v4.3.0", Created: fixture.Epoch})}
}

func TestRowUploadLauncherBinary(t *testing.T) {
	for _, c := range []struct {
		row
		file string
		deny bool
	}{
		{row: row{name: "uploaded", want: install.StatePass}, file: "spacelift-launcher"},
		{row: row{name: "not carried", want: install.StateFail, code: "BIN-01", says: []string{"spacelift-launcher", "other-file", "bin/spacelift-launcher"}}, file: "other-file"},
		{row: row{name: "denied", want: install.StateFail, code: "OBJ-02", says: []string{"s3:PutObject", "spacelift-binaries"}}, file: "spacelift-launcher", deny: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := objectstore.New(t, false)
			s.Make(t, "spacelift-binaries")
			if c.deny {
				s.Deny = func(r *http.Request) bool { return r.Method == http.MethodPut }
			}
			r := c.row
			r.item, r.more = "upload-launcher-binary", launcher(t, c.file, "\x7fELF launcher")
			r.inputs = storageInputs(s, map[string]any{"storage.bucket.binaries": "spacelift-binaries"})
			delete(r.inputs, "hosts.server")
			runRow(t, r)
			if keys := s.Keys(t, "spacelift-binaries"); c.want == install.StatePass && keys != "spacelift-launcher" {
				t.Errorf("the bucket has %q", keys)
			}
		})
	}
}
