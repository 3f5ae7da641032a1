package remote

import (
	"strings"
	"testing"
)

const hex64 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestParseReference(t *testing.T) {
	for in, want := range map[string]string{
		"nginx":                                  "docker.io/library/nginx",
		"nginx:1.27":                             "docker.io/library/nginx:1.27",
		"org/app":                                "docker.io/org/app",
		"docker.io/nginx":                        "docker.io/library/nginx",
		"index.docker.io/org/app":                "docker.io/org/app",
		"registry-1.docker.io/library/nginx:1":   "docker.io/library/nginx:1",
		"localhost/app":                          "localhost/app",
		"localhost:5000/app:v1":                  "localhost:5000/app:v1",
		"localhost:5000":                         "docker.io/library/localhost:5000",
		"127.0.0.1:5000/a/b/c:x":                 "127.0.0.1:5000/a/b/c:x",
		"[::1]:5000/a":                           "[::1]:5000/a",
		"[2001:db8::1]/a:t":                      "[2001:db8::1]/a:t",
		"Quay.IO/Jetstack":                       "",
		"QUAY.io/jetstack/x:V1":                  "quay.io/jetstack/x:V1",
		"a.b/c@sha256:" + hex64:                  "a.b/c@sha256:" + hex64,
		"a.b/c:t@sha256:" + hex64:                "a.b/c:t@sha256:" + hex64,
		"a.b/x__y/z--w/q.r_s":                    "a.b/x__y/z--w/q.r_s",
		"a.b/c:" + strings.Repeat("t", 128):      "a.b/c:" + strings.Repeat("t", 128),
		"a.b/c:" + strings.Repeat("t", 129):      "",
		"a.b/" + strings.Repeat("r", 255):        "a.b/" + strings.Repeat("r", 255),
		"a.b/" + strings.Repeat("r", 256):        "",
		"a.b/c@sha512:" + hex64 + hex64:          "",
		"a.b/c@sha256:" + strings.ToUpper(hex64): "",
		"a.b/c@sha256:" + hex64[1:]:              "",
		"a.b/c@sha256:" + hex64 + "@x":           "",
		"":                                       "",
		"/a":                                     "",
		"a.b/":                                   "",
		"a.b//c":                                 "",
		"a.b/c/":                                 "",
		"a.b/../c":                               "",
		"a.b/c:":                                 "",
		"a.b/c:.x":                               "",
		"a.b/c:-x":                               "",
		"a.b/c d":                                "",
		"a.b/c\n":                                "",
		"a.b/C":                                  "",
		"a.b/c___d":                              "",
		"a.b:0/c":                                "",
		"a.b:65536/c":                            "",
		"a.b:x/c":                                "",
		"a.b:/c":                                 "",
		"-a.b/c":                                 "",
		"a..b/c":                                 "",
		"[::1/c":                                 "",
		"[1.2.3.4]/c":                            "",
		"[fe80::1%eth0]/c":                       "",
		"user@a.b/c":                             "",
		"https://a.b/c":                          "",
		hex64:                                    "",
		strings.Repeat("a", 2000):                "",
	} {
		r, err := ParseReference(in)
		if got := r.String(); (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("ParseReference(%.80q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestReferenceParts(t *testing.T) {
	r, err := ParseReference("ghcr.io/org/app:v1@sha256:" + hex64)
	if err != nil {
		t.Fatal(err)
	}
	want := Reference{Host: "ghcr.io", Repository: "org/app", Tag: "v1", Digest: "sha256:" + hex64}
	if r != want || r.Name() != "ghcr.io/org/app" {
		t.Errorf("got %+v, name %q", r, r.Name())
	}
}

// What is accepted prints as something that parses to the same.
func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"nginx", "a.b:5000/c/d:t@sha256:" + hex64, "[::1]:5000/a", "localhost/x", "a.b/c:", "@", ":", "/", "index.docker.io/a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReference(s)
		if err != nil {
			return
		}
		again, err := ParseReference(r.String())
		if err != nil || again != r {
			t.Errorf("%q parses to %q, which parses to %q, %v", s, r, again, err)
		}
	})
}
