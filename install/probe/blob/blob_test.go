package blob

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/objectstore"
	"github.com/google/go-cmp/cmp"
)

const origin = "https://spacelift.site-a.example"

// server is an S3 server with two buckets, as it should be.
func server(t *testing.T, tls bool) *objectstore.Server {
	t.Helper()
	s := objectstore.New(t, tls)
	s.Make(t, "states", "uploads")
	s.EnableVersioning(t, "states")
	s.Origin = origin
	return s
}

func storage(s *objectstore.Server) map[string]any {
	return map[string]any{"type": "minio", "endpoint": s.Endpoint(), "access_key": objectstore.AccessKey, "secret_key": objectstore.SecretKey}
}

func table() map[string]any {
	return map[string]any{
		"states":  map[string]any{"name": "states", "env": "BUCKET_STATES", "versioning": "required", "keep": true, "tags": true},
		"uploads": map[string]any{"name": "uploads", "env": "BUCKET_UPLOADS", "versioning": "suggested", "expire_days": 7, "least_days": 7},
	}
}

// codesOf runs a probe and returns the codes of its findings with severities,
// after checking that fields are listed and nothing secret is shown.
func codesOf(t *testing.T, p interface {
	install.Probe
	install.Coder
}, with map[string]any,
) ([]string, install.Result) {
	t.Helper()
	res, err := p.Run(t.Context(), install.Input{With: with})
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	for _, f := range res.Findings {
		for name := range f.Fields {
			if listed, ok := p.Codes()[f.Code]; ok && !slices.Contains(listed, name) {
				t.Errorf("field %s is not listed with %s", name, f.Code)
			}
		}
		code := f.Code
		if f.Severity != "" && f.Severity != install.SeverityFail {
			code += " " + string(f.Severity)
		}
		codes = append(codes, code)
	}
	raw, err := json.Marshal(res)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{objectstore.SecretKey, objectstore.AccessKey, "X-Amz-Signature", "StringToSign"} {
		if strings.Contains(string(raw), secret) {
			t.Errorf("the result holds %s: %s", secret, raw)
		}
	}
	return codes, res
}

// caOf writes the authority of a TLS server to a file.
func caOf(t *testing.T, s *objectstore.Server) string {
	t.Helper()
	return caFile(t, s.Certificate())
}

func caFile(t *testing.T, c *x509.Certificate) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// closedPort is an address that nothing listens at.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// changed is a table or storage with fields of one row set otherwise.
func changed(in map[string]any, row string, set map[string]any) map[string]any {
	out := make(map[string]any)
	maps.Copy(out, in)
	if row == "" {
		maps.Copy(out, set)
		return out
	}
	out[row] = changed(in[row].(map[string]any), "", set)
	return out
}

func TestBucket(t *testing.T) {
	for name, c := range map[string]struct {
		tls     bool
		spoil   func(*objectstore.Server)
		storage map[string]any // of the storage argument
		row     map[string]any // of the row states
		want    []string
		says    []string
		left    bool // something may stay behind
	}{
		"good": {want: []string{"OBJ-12 info"}, says: []string{"uploads"}},
		"tls":  {tls: true, storage: map[string]any{"use_ssl": true}, want: []string{"OBJ-12 info"}},
		"missing": {
			row: map[string]any{"name": "spacelift-states"}, want: []string{"OBJ-01", "OBJ-12 info"}, says: []string{"spacelift-states", "BUCKET_STATES"},
		},
		"read only": {
			spoil: func(s *objectstore.Server) {
				s.Deny = func(r *http.Request) bool {
					return r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, "/states/") || r.Method == http.MethodPost
				}
			},
			want: []string{"OBJ-02", "OBJ-02", "OBJ-12 info"}, says: []string{"s3:PutObject", "put object", "states"},
		},
		"may not delete": {
			spoil: func(s *objectstore.Server) {
				s.Deny = func(r *http.Request) bool {
					return r.Method == http.MethodDelete && strings.HasPrefix(r.URL.Path, "/states/") && !r.URL.Query().Has("uploadId")
				}
			},
			want: []string{"OBJ-02", "OBJ-11", "OBJ-12 info"}, says: []string{"s3:DeleteObject", "left behind", "airlock-probe/"}, left: true,
		},
		"unknown key": {storage: map[string]any{"access_key": "AKIASOMEONEELSE"}, want: []string{"OBJ-02"}},
		"underscore dropped": {
			spoil: func(s *objectstore.Server) { s.Drop = func(name string) bool { return strings.Contains(name, "_") } },
			want:  []string{"OBJ-03", "OBJ-03", "OBJ-12 info"}, says: []string{"airlock_probe"},
		},
		"underscore refused": {
			spoil: func(s *objectstore.Server) {
				s.Deny = func(r *http.Request) bool { return r.Header.Get("X-Amz-Meta-Airlock_probe") != "" }
			},
			want: []string{"OBJ-03", "OBJ-03", "OBJ-12 info"}, says: []string{"refused", "without it taken"},
		},
		"states expire": {
			spoil: func(s *objectstore.Server) { s.Expire("states", "cleanup", 2) },
			want:  []string{"OBJ-06", "OBJ-12 info"}, says: []string{"states", "cleanup", "2 days"},
		},
		"too short": {
			spoil: func(s *objectstore.Server) { s.Expire("uploads", "cleanup", 1) },
			want:  []string{"OBJ-12 info", "OBJ-13 warn"}, says: []string{"after 1 days", "least=7"},
		},
		"scheme": {
			storage: map[string]any{"endpoint": "https://minio.site-a.example:9000"}, want: []string{"OBJ-08"}, says: []string{"https://minio.site-a.example:9000"},
		},
		"wrong CA": {tls: true, storage: map[string]any{"use_ssl": true, "ca": ""}, want: []string{"OBJ-09"}, says: []string{"unknown authority"}},
		"not checked": {
			tls: true, storage: map[string]any{"use_ssl": true, "ca": "", "allow_insecure": true}, want: []string{"OBJ-12 info", "OBJ-21 warn"},
		},
		"slash": {row: map[string]any{"name": "states/"}, want: []string{"OBJ-10", "OBJ-12 info"}, says: []string{"slash", `"states/"`, "BUCKET_STATES"}},
		"space": {row: map[string]any{"name": " states"}, want: []string{"OBJ-10", "OBJ-12 info"}, says: []string{"space"}},
		"twice": {row: map[string]any{"name": "uploads"}, want: []string{"OBJ-10", "OBJ-12"}, says: []string{"uploads", "states too"}},
		"no versions": {
			row: map[string]any{"name": "plain"}, spoil: func(s *objectstore.Server) { s.Make(t, "plain") }, want: []string{"OBJ-12", "OBJ-12 info"}, says: []string{"plain", "required"},
		},
		"public": {
			spoil: func(s *objectstore.Server) { s.Public = true },
			want:  []string{"OBJ-14", "OBJ-14", "OBJ-12 info"}, says: []string{"reads an object and lists the bucket"},
		},
		"clock wrong":      {spoil: func(s *objectstore.Server) { s.Skew = -20 * time.Minute }, want: []string{"OBJ-12 info", "OBJ-15"}, says: []string{"behind this machine", "20m"}},
		"clock slow":       {spoil: func(s *objectstore.Server) { s.Skew = 6 * time.Minute }, want: []string{"OBJ-12 info", "OBJ-15 warn"}, says: []string{"ahead"}},
		"nothing there":    {storage: map[string]any{"endpoint": closedPort(t)}, want: []string{"OBJ-18"}, says: []string{"refused"}},
		"plain, not TLS":   {storage: map[string]any{"use_ssl": true}, want: []string{"OBJ-18"}, says: []string{"plain HTTP"}},
		"no rules at all":  {spoil: func(s *objectstore.Server) { s.NoLifecycle = true }, want: []string{"OBJ-19 warn", "OBJ-12 info", "OBJ-19 warn"}},
		"unknown type":     {storage: map[string]any{"type": "s3"}, want: []string{"OBJ-20"}, says: []string{"minio, aws, gcp or azure"}},
		"no type":          {storage: map[string]any{"type": ""}, want: []string{"OBJ-20"}},
		"password in host": {storage: map[string]any{"endpoint": "user:" + objectstore.SecretKey + "@minio:9000"}, want: []string{"OBJ-20"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := server(t, c.tls)
			if c.spoil != nil {
				c.spoil(s)
			}
			conf := storage(s)
			if c.tls {
				conf["ca"] = caOf(t, s)
			}
			got, res := codesOf(t, Bucket{}, map[string]any{"storage": changed(conf, "", c.storage), "buckets": changed(table(), "states", c.row)})
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("codes (-want +got):\n%s\n%+v", d, res.Findings)
			}
			text := spell(res)
			for _, want := range c.says {
				if !strings.Contains(text, want) {
					t.Errorf("it does not say %q: %s", want, text)
				}
			}
			for _, bucket := range []string{"states", "uploads"} {
				if keys := s.Keys(t, bucket); keys != "" && !c.left {
					t.Errorf("%s still holds %s", bucket, keys)
				}
			}
		})
	}
}

// spell puts findings into one text.
func spell(res install.Result) string {
	var b strings.Builder
	for _, f := range res.Findings {
		fmt.Fprintln(&b, f.Code, f.Detail)
		for k, v := range f.Fields {
			fmt.Fprintf(&b, "%s=%s\n", k, v)
		}
	}
	return b.String()
}

func TestBucketOutputs(t *testing.T) {
	s := server(t, false)
	_, res := codesOf(t, Bucket{}, map[string]any{
		"storage": storage(s), "buckets": table(), "env": map[string]any{"BUCKET_USAGE": ""}, "codes": map[string]any{"OBJ-12": "OWN-01"},
	})
	want := map[string]any{
		"storage.buckets":    map[string]any{"states": "states", "uploads": "uploads"},
		"storage.bucket_env": map[string]any{"BUCKET_STATES": "states", "BUCKET_UPLOADS": "uploads", "BUCKET_USAGE": ""},
	}
	if d := cmp.Diff(want, res.Outputs); d != "" {
		t.Error(d)
	}
	if len(res.Findings) != 1 || res.Findings[0].Code != "OWN-01" {
		t.Errorf("%+v", res.Findings)
	}
}

// TestCancelled shows that a probe ends with its context and still removes what
// it put.
func TestCancelled(t *testing.T) {
	s := server(t, false)
	ctx, cancel := contextWithCancel(t)
	s.Deny = func(r *http.Request) bool {
		if r.Method == http.MethodHead && strings.Contains(r.URL.Path, prefix) {
			cancel()
		}
		return false
	}
	if _, err := (Bucket{}).Run(ctx, install.Input{With: map[string]any{"storage": storage(s), "buckets": table()}}); err == nil {
		t.Error("it ends without an error")
	}
	if keys := s.Keys(t, "states") + s.Keys(t, "uploads"); keys != "" {
		t.Errorf("left behind: %s", keys)
	}
}

// TestAWS takes endpoint, region and credentials as Amazon's SDKs do.
func TestAWS(t *testing.T) {
	for name, c := range map[string]struct {
		location string
		env      map[string]string
		storage  map[string]any
		want     []string
		says     string
	}{
		"good":           {location: "eu-west-1", want: []string{"OBJ-12 info"}},
		"another region": {location: "us-west-2", want: []string{"OBJ-01", "OBJ-01"}, says: "it is in region us-west-2, not in eu-west-1"},
		"no region":      {env: map[string]string{"AWS_REGION": ""}, want: []string{"OBJ-20"}, says: "region"},
		"bad endpoint":   {storage: map[string]any{"endpoint": "minio:9000"}, want: []string{"OBJ-20"}, says: "not a URL"},
		"unknown key":    {env: map[string]string{"AWS_ACCESS_KEY_ID": "AKIASOMEONEELSE"}, want: []string{"OBJ-02", "OBJ-02"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := server(t, false)
			s.Location = c.location
			for _, env := range []map[string]string{{
				"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true", "AWS_DEFAULT_REGION": "",
				"AWS_ENDPOINT_URL_S3": s.URL, "AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": objectstore.AccessKey, "AWS_SECRET_ACCESS_KEY": objectstore.SecretKey,
			}, c.env} {
				for k, v := range env {
					t.Setenv(k, v)
				}
			}
			got, res := codesOf(t, Bucket{}, map[string]any{"storage": changed(map[string]any{"type": "aws"}, "", c.storage), "buckets": table()})
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("codes (-want +got):\n%s\n%s", d, spell(res))
			}
			if !strings.Contains(spell(res), c.says) {
				t.Errorf("it does not say %q: %s", c.says, spell(res))
			}
		})
	}
}

func TestPresign(t *testing.T) {
	for name, c := range map[string]struct {
		tls     bool
		spoil   func(*objectstore.Server)
		storage map[string]any
		want    []string
		says    []string
	}{
		"good":           {},
		"tls":            {tls: true, storage: map[string]any{"use_ssl": true}},
		"nothing there":  {storage: map[string]any{"endpoint": closedPort(t), "region": ""}, want: []string{"OBJ-18"}},
		"wrong CA":       {tls: true, storage: map[string]any{"use_ssl": true, "ca": ""}, want: []string{"OBJ-09"}},
		"any signature":  {spoil: func(s *objectstore.Server) { s.AnySignature = true }, want: []string{"OBJ-16", "OBJ-16"}, says: []string{"hands out the object"}},
		"no bucket":      {spoil: func(s *objectstore.Server) {}, want: nil},
		"plain refused":  {spoil: denySigned(http.MethodPut), want: []string{"OBJ-02", "OBJ-02"}, says: []string{"signed PUT", "403 AccessDenied"}},
		"get refused":    {spoil: denySigned(http.MethodGet), want: []string{"OBJ-02", "OBJ-02"}, says: []string{"signed GET"}},
		"clock":          {spoil: func(s *objectstore.Server) { s.Skew = 16 * time.Minute }, want: []string{"OBJ-15"}},
		"scheme":         {storage: map[string]any{"endpoint": "http://h:1"}, want: []string{"OBJ-08"}},
		"signed another": {storage: map[string]any{"secret_key": "another"}, want: []string{"OBJ-02", "OBJ-02"}, says: []string{"SignatureDoesNotMatch"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := server(t, c.tls)
			if c.spoil != nil {
				c.spoil(s)
			}
			conf := storage(s)
			if c.tls {
				conf["ca"] = caOf(t, s)
			}
			got, res := codesOf(t, Presign{}, map[string]any{"storage": changed(conf, "", c.storage), "buckets": []any{"states", "uploads"}})
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("codes (-want +got):\n%s\n%+v", d, res.Findings)
			}
			for _, want := range c.says {
				if !strings.Contains(spell(res), want) {
					t.Errorf("it does not say %q: %s", want, spell(res))
				}
			}
			if keys := s.Keys(t, "states") + s.Keys(t, "uploads"); keys != "" {
				t.Errorf("left behind: %s", keys)
			}
		})
	}
}

func denySigned(method string) func(*objectstore.Server) {
	return func(s *objectstore.Server) {
		s.Deny = func(r *http.Request) bool { return r.Method == method && r.URL.Query().Has("X-Amz-Signature") }
	}
}

// TestPresignUnreachable has a service that is there for this machine's client
// library and not for signed URLs: a proxy that answers 502 for them.
func TestPresignUnreachable(t *testing.T) {
	s := server(t, false)
	front := newFront(t, s)
	got, res := codesOf(t, Presign{}, map[string]any{"storage": changed(storage(s), "", map[string]any{"endpoint": front}), "buckets": []any{"uploads"}})
	if d := cmp.Diff([]string{"OBJ-04"}, got); d != "" {
		t.Errorf("%s\n%+v", d, res.Findings)
	}
	if !strings.Contains(spell(res), "host="+front) {
		t.Error(spell(res))
	}
}

func TestCORS(t *testing.T) {
	for name, c := range map[string]struct {
		origin  string
		url     string
		storage map[string]any
		want    []string
		says    []string
	}{
		"good":          {origin: origin},
		"told right":    {origin: origin, url: "SERVER"},
		"none":          {origin: "", want: []string{"OBJ-05", "OBJ-05"}, says: []string{origin, "PUT", "POST", "403"}},
		"another":       {origin: "https://other.example", want: []string{"OBJ-05", "OBJ-05"}},
		"any":           {origin: "*", want: []string{"OBJ-17 warn"}, says: []string{"any origin"}},
		"told wrong":    {origin: origin, url: "https://uploads.site-a.example/x?secret=1", want: []string{"OBJ-07"}, says: []string{"url=https://uploads.site-a.example\n"}},
		"nothing there": {origin: origin, storage: map[string]any{"endpoint": closedPort(t)}, want: []string{"OBJ-18"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := server(t, false)
			s.Origin = c.origin
			got, res := codesOf(t, CORS{}, map[string]any{
				"storage": changed(storage(s), "", c.storage), "bucket": "uploads", "origin": origin, "methods": []any{"PUT", "POST"},
				"url": strings.ReplaceAll(c.url, "SERVER", s.URL),
			})
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("codes (-want +got):\n%s\n%+v", d, res.Findings)
			}
			for _, want := range c.says {
				if !strings.Contains(spell(res), want) {
					t.Errorf("it does not say %q: %s", want, spell(res))
				}
			}
			if u, ok := res.Outputs["storage.uploads_url"]; c.storage == nil && (!ok || u != s.URL) {
				t.Errorf("outputs %v, want %s", res.Outputs, s.URL)
			}
		})
	}
}

func TestArguments(t *testing.T) {
	s := server(t, false)
	good := storage(s)
	for name, c := range map[string]struct {
		p    install.Probe
		with map[string]any
	}{
		"no table":     {Bucket{}, map[string]any{"storage": good}},
		"odd word":     {Bucket{}, map[string]any{"storage": good, "buckets": changed(table(), "states", map[string]any{"versioning": "yes"})}},
		"contradicted": {Bucket{}, map[string]any{"storage": good, "buckets": changed(table(), "states", map[string]any{"expire_days": 1})}},
		"unknown key":  {Bucket{}, map[string]any{"storage": good, "bucket": table()}},
		"no CA":        {Bucket{}, map[string]any{"storage": changed(good, "", map[string]any{"ca": "/nonexistent"}), "buckets": table()}},
		"no bucket":    {Presign{}, map[string]any{"storage": good}},
		"origin path":  {CORS{}, map[string]any{"storage": good, "bucket": "b", "origin": origin + "/"}},
		"no origin":    {CORS{}, map[string]any{"storage": good, "bucket": "b"}},
	} {
		if _, err := c.p.Run(t.Context(), install.Input{With: c.with}); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestTamper(t *testing.T) {
	for _, sig := range []string{"0123456789abcdef", "ABCDEF==", "f", "a+b/c=d="} {
		u := &url.URL{Scheme: "https", Host: "h", Path: "/b/k", RawQuery: url.Values{"a": {"1"}, "sig": {sig}}.Encode()}
		got := tamper(u, "sig").Query()
		if len(sig) > 1 && got.Get("sig") == sig || len(got.Get("sig")) != len(sig) || got.Get("a") != "1" {
			t.Errorf("%s becomes %s", sig, got)
		}
	}
}
