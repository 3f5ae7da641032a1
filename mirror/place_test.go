package mirror

import (
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/opencontainers/go-digest"
)

func TestMap(t *testing.T) {
	root := digest.FromString("root")
	short := root.Encoded()[:12]
	const image = bundle.KindImage
	tests := []struct {
		kind, ref, strip, keep string
	}{
		{image, "quay.io/jetstack/x:v1", "jetstack/x:v1", "quay.io/jetstack/x:v1"},
		{image, "docker.io/library/postgres:16", "library/postgres:16", "docker.io/library/postgres:16"},
		{image, "docker.io/postgres:16", "library/postgres:16", "docker.io/library/postgres:16"},
		{image, "index.docker.io/bitnami/kubectl:1", "bitnami/kubectl:1", "docker.io/bitnami/kubectl:1"},
		{image, "spacelift-backend:v3.0.0", "spacelift-backend:v3.0.0", "spacelift-backend:v3.0.0"},
		{image, "team/tool:1.2", "team/tool:1.2", "team/tool:1.2"},
		{image, "localhost/x", "x:latest", "localhost/x:latest"},
		{image, "registry.test:5000/a/b:1", "a/b:1", "registry.test_5000/a/b:1"},
		{image, "REGISTRY.test/a:1", "a:1", "registry.test/a:1"},
		{image, "quay.io/x@" + root.String(), "x:sha256-" + short, "quay.io/x:sha256-" + short},
		{image, "quay.io/x:v1@" + root.String(), "x:v1", "quay.io/x:v1"},
		{image, "quay.io:443/x", "x:latest", "quay.io_443/x:latest"},
		{bundle.KindChart, "charts/spacelift:v0.62.0", "charts/spacelift:v0.62.0", "charts/spacelift:v0.62.0"},
		{bundle.KindFile, "files/docs.d/x:1", "files/docs.d/x:1", "files/docs.d/x:1"},
		{bundle.KindChart, "r.test:5000/charts/x:1", "charts/x:1", "r.test_5000/charts/x:1"}, // from oci://
	}
	for _, tt := range tests {
		item := bundle.Item{Kind: tt.kind, Ref: tt.ref}
		for hosts, want := range map[HostMode]string{"": tt.strip, StripHost: tt.strip, KeepHost: tt.keep} {
			got, err := Map(item, root, hosts)
			if err != nil || got.String() != want {
				t.Errorf("Map(%s %q, %q) = %s, %v; want %s", tt.kind, tt.ref, hosts, got, err, want)
			}
		}
	}
}

func TestMapRefuses(t *testing.T) {
	for _, ref := range []string{
		"", ":v1", "quay.io/:v1", "quay.io/X:v1", "quay.io/a//b:1", "quay.io/../x:1", "/x:1",
		"quay.io/x:", "quay.io/x:-1", "quay.io/x:" + strings.Repeat("a", 129), "a b:1", "x\x00:1",
	} {
		if got, err := Map(bundle.Item{Kind: bundle.KindImage, Ref: ref}, digest.FromString("r"), StripHost); err == nil {
			t.Errorf("Map(%q) = %s, want an error", ref, got)
		}
	}
}

func FuzzMap(f *testing.F) {
	for _, s := range []string{"quay.io/jetstack/x:v1", "postgres", "[::1]:5000/x@sha256:ab", "a:b:c/d:e", ""} {
		for _, hosts := range []HostMode{StripHost, KeepHost, Flatten} {
			f.Add(s, string(hosts))
		}
	}
	root := digest.FromString("root")
	f.Fuzz(func(t *testing.T, ref, hosts string) {
		p, err := Map(bundle.Item{Kind: bundle.KindImage, Ref: ref}, root, HostMode(hosts))
		if err != nil {
			return
		}
		if !repositoryName.MatchString(p.Repository) || !tagName.MatchString(p.Tag) {
			t.Errorf("Map(%q) = %q", ref, p)
		}
		again, err := Map(bundle.Item{Kind: bundle.KindFile, Ref: p.String()}, root, KeepHost)
		if err != nil || again != p {
			t.Errorf("Map(%q) = %q, read again %q, %v", ref, p, again, err)
		}
	})
}

func TestParseTo(t *testing.T) {
	for _, to := range []string{"", "harbor/x", "https://r.test/x", "user:secret@r.test/x", "r.test/X", "r.test/a//b", "/x"} {
		_, _, err := parseTo(to)
		if err == nil {
			t.Errorf("parseTo(%q) accepts it", to)
			continue
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("parseTo(%q) shows a secret: %v", to, err)
		}
	}
	host, prefix, err := parseTo("r.test:5000/a/b/")
	if host != "r.test:5000" || prefix != "a/b" || err != nil {
		t.Errorf("parseTo = %q %q %v", host, prefix, err)
	}
}
