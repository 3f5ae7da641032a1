package manifests

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func digestOf(c string) string { return "sha256:" + strings.Repeat(c, 64) }

func exampleLock() *Lock {
	return &Lock{
		Header:     Header{APIVersion: APIVersion, Kind: KindLock},
		Definition: digestOf("0"),
		Created:    "2026-11-01T12:00:00Z",
		Items: []LockedItem{
			{
				Entry: "image quay.io/x:1", Spec: digestOf("5"), Kind: "image", Name: "quay.io/x", Ref: "quay.io/x:1", Source: "quay.io/x:1",
				Manifests: []LockedDescriptor{
					{MediaType: "application/vnd.oci.image.index.v1+json", Digest: digestOf("1"), Size: 512, Role: "root", Ref: "quay.io/x:1"},
					{
						MediaType: "application/vnd.oci.image.manifest.v1+json", Digest: digestOf("2"), Size: 400, Role: "child", ArtifactType: "application/x+json",
						Platform: &LockedPlatform{OS: "windows", Architecture: "amd64", Variant: "v2", OSVersion: "10.0.17763.1", OSFeatures: []string{"win32k", "a, b"}},
					},
				},
				Blobs: []LockedDescriptor{{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip", Digest: digestOf("3"), Size: 1 << 40}},
			},
			{
				Entry: "file docs: [a]", Kind: "file", Name: "yes", Source: "C:\\docs \"x\" #1: {é\u2028}",
				Manifests: []LockedDescriptor{{MediaType: "null", Digest: digestOf("4"), Platform: &LockedPlatform{}}},
			},
		},
	}
}

func TestLockEncode(t *testing.T) {
	raw, err := exampleLock().Encode()
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/encoded.lock"
	if *update {
		if err := os.WriteFile(golden, raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(raw)); diff != "" {
		t.Errorf("bytes changed; bundles made before would no longer be reproducible (-want +got):\n%s", diff)
	}
	back, err := ParseLock("airlock.lock", raw)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(exampleLock(), back); diff != "" {
		t.Errorf("lock differs after a round trip (-want +got):\n%s", diff)
	}
	if err := validate(t, KindLock, raw); err != nil {
		t.Errorf("schema: %v", err)
	}
}

func TestLockEncodeRefuses(t *testing.T) {
	for name, bad := range map[string]string{"not UTF-8": "a\xff", "newline": "a\nb", "NUL": "\x00"} {
		l := exampleLock()
		l.Items[1].Source = bad
		if _, err := l.Encode(); err == nil {
			t.Errorf("%s: Encode succeeded", name)
		}
	}
	l := exampleLock()
	l.Items[0].Source = strings.Repeat("a", MaxDocument)
	if _, err := l.Encode(); err == nil {
		t.Error("Encode of a lock beyond MaxDocument succeeded")
	}
}

// TestLargeLock keeps a lock of a real size readable.
func TestLargeLock(t *testing.T) {
	l := exampleLock()
	l.Items = nil
	for i := range 300 {
		item := LockedItem{Entry: "e", Kind: "image", Name: fmt.Sprintf("n%d", i)}
		for j := range 10 {
			item.Manifests = append(item.Manifests, LockedDescriptor{MediaType: "m", Digest: fmt.Sprintf("sha256:%064x", i*100+j), Size: 10})
			item.Blobs = append(item.Blobs, LockedDescriptor{MediaType: "b", Digest: fmt.Sprintf("sha256:%064x", 1<<20+i*100+j), Size: 10})
		}
		l.Items = append(l.Items, item)
	}
	raw, err := l.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseLock("airlock.lock", raw)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(l, back); diff != "" {
		t.Error(diff)
	}
}

func exampleMap() *RelocationMap {
	return &RelocationMap{
		APIVersion: APIVersion, Kind: KindRelocationMap, Bundle: digestOf("a"), Target: "harbor.example.com/airlock",
		Entries: []Relocation{
			{Kind: "image", Source: "b:1", SourceDigest: digestOf("1"), Target: "harbor.example.com/airlock/b:1", Digest: digestOf("2"), Platforms: []string{"linux/amd64"}, Referrers: []string{digestOf("3")}},
			{Kind: "image", Source: "a:1", SourceDigest: digestOf("4"), Target: "harbor.example.com/airlock/a:1", Digest: digestOf("4")},
		},
	}
}

func TestRelocationMap(t *testing.T) {
	m := exampleMap()
	raw, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if m.Entries[0].Source != "b:1" {
		t.Error("Encode changed the map it was given")
	}
	back, err := ParseRelocationMap("map.json", raw)
	if err != nil {
		t.Fatal(err)
	}
	want := exampleMap()
	want.Entries[0], want.Entries[1] = want.Entries[1], want.Entries[0]
	if diff := cmp.Diff(want, back); diff != "" {
		t.Errorf("map differs after a round trip (-want +got):\n%s", diff)
	}
	again, err := back.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(raw), string(again)); diff != "" {
		t.Errorf("order of entries shows in the bytes:\n%s", diff)
	}
	if !strings.HasSuffix(string(raw), "}\n") {
		t.Error("no newline at the end")
	}
}

func TestRelocationMapRefused(t *testing.T) {
	good, err := exampleMap().Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, old, new, want string }{
		{"unknown key", `"target": "harbor.example.com/airlock",`, `"target": "x", "foo": {"a": [1, 2]},`, "foo: unknown key"},
		{"other case", `"bundle"`, `"Bundle"`, "Bundle: unknown key"},
		{"duplicate key", `"target": "harbor.example.com/airlock",`, `"target": "x", "target": "y",`, "target: duplicate key"},
		{"trailing data", "}\n", "}\n{}", "data after the end"},
		{"wrong kind", "RelocationMap", "Bundle", `kind: got "Bundle"`},
		{"wrong version", "airlock/v1", "airlock/v9", `apiVersion: got "airlock/v9"`},
		{"digest", digestOf("2"), "sha256:2", `got "sha256:2"`},
		{"empty", string(good), "", "ends too early"},
		{"syntax", "{", "{,", "not JSON: syntax"},
		{"cut", "\n  ]\n}\n", "", "ends too early"},
		{"not an object", string(good), "[]", "want an object"},
		{"null", string(good), "null", "want an object"},
		{"deep", `"target": "harbor.example.com/airlock"`, `"x": ` + strings.Repeat("[", 100000), "not JSON"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bad := strings.Replace(string(good), tt.old, tt.new, 1)
			if tt.name == "cut" || tt.name == "trailing data" {
				i := strings.LastIndex(string(good), tt.old)
				bad = string(good)[:i] + tt.new
			}
			m, err := ParseRelocationMap("map.json", []byte(bad))
			findings, ok := errors.AsType[Findings](err)
			if !ok || m != nil {
				t.Fatalf("error is %v, want findings", err)
			}
			if !strings.Contains(findings.Error(), tt.want) {
				t.Errorf("findings are\n%v\nwant one with %q", findings, tt.want)
			}
		})
	}
}
