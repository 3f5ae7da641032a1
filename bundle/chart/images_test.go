package chart_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/airlock-project/airlock/bundle/chart"
)

func object(t testing.TB, doc string) chart.Object {
	t.Helper()
	o := chart.Object{Source: "test", Stage: chart.StageResource}
	useNumber := func(d *json.Decoder) *json.Decoder { d.UseNumber(); return d }
	if err := yaml.Unmarshal([]byte(doc), &o.Tree, useNumber); err != nil {
		t.Fatal(err)
	}
	return o
}

const (
	head       = "apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: x}\nspec:\n  "
	someDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

// TestImagesPlaces says for one field of a custom resource which images it
// names and what it becomes when they move.
func TestImagesPlaces(t *testing.T) {
	for _, tt := range []struct {
		name, spec string
		images     []string
		moved      string
	}{
		{"image", "image: nginx", []string{"nginx"}, "image: in.example.net/nginx"},
		{"image with port", "image: 'localhost:5000/a'", []string{"localhost:5000/a"}, "image: in.example.net/a"},
		{"not a reference", "image: 'https://example.com/x.img'", nil, ""},
		{"xImage", "runnerImage: 'a/runner:1'", []string{"a/runner:1"}, "runnerImage: in.example.net/runner:1"},
		{"xImage without tag", "bootImage: ubuntu", nil, ""},
		{"xImage and tag", "{runnerImage: a/runner, runnerImageTag: 1.5}", []string{"a/runner:1.5"}, "{runnerImage: in.example.net/runner, runnerImageTag: '1.5'}"},
		{"images", "images: ['busybox:1', yes]", []string{"busybox:1"}, "images: ['in.example.net/busybox:1', yes]"},
		{"parts", "{image: {registry: quay.io, repository: a/b, tag: v1}}", []string{"quay.io/a/b:v1"}, "{image: {registry: in.example.net, repository: b, tag: v1}}"},
		{"parts with digest", "{x: {repository: quay.io/b, tag: v1, digest: '" + someDigest + "'}}", []string{"quay.io/b:v1@" + someDigest}, "{x: {repository: in.example.net/b, tag: v1, digest: '" + someDigest + "'}}"},
		{"digest as tag", "{x: {repository: quay.io/b, tag: '" + someDigest + "'}}", []string{"quay.io/b@" + someDigest}, "{x: {repository: in.example.net/b@sha256, tag: " + someDigest[7:] + "}}"},
		{"chart repository", "{x: {repository: 'https://charts.example.com', tag: v1}}", nil, ""},
		{"repository alone", "{x: {repository: acme/web}}", nil, ""},
		{"flag", "args: ['--x-image=busybox:1', '--y=busybox:1', '--z=q.io/z:1']", []string{"busybox:1", "q.io/z:1"}, "args: ['--x-image=in.example.net/busybox:1', '--y=busybox:1', '--z=in.example.net/z:1']"},
		{"list in flag", "args: ['--all=q.io/a:1,q.io/b:2']", []string{"q.io/a:1", "q.io/b:2"}, "args: ['--all=in.example.net/a:1,in.example.net/b:2']"},
		{"json in text", `conf: '{"image":"busybox:1","other":"busybox:2"}'`, []string{"busybox:1"}, `conf: '{"image":"in.example.net/busybox:1","other":"busybox:2"}'`},
		{"sentence", "text: 'use q.io/a:1. Then stop'", []string{"q.io/a:1"}, "text: 'use in.example.net/a:1. Then stop'"},
		{"url", "text: 'https://q.io/a:1'", nil, ""},
		{"scheme", "text: 'oci://q.io/a:1'", nil, ""},
		{"host and port", "text: 'db.example.com:5432'", nil, ""},
		{"no tag", "text: q.io/a", nil, ""},
		{"api group", "text: 'example.com/v1beta1:Thing'", nil, ""},
		{"network", "text: '10.0.0.0/8:80'", nil, ""},
		{"address", "text: 'fd00::1/64'", nil, ""},
		{"path", "text: '/etc/app.d/conf:ro'", nil, ""},
		{"mail", "text: 'a.b@example.com/x:y'", nil, ""},
		{"upper case path", "text: 'q.io/A:1'", nil, ""},
		{"short digest", "text: 'q.io/a@sha256:00'", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := object(t, head+tt.spec)
			var images []string
			for _, r := range chart.Images([]chart.Object{o}) {
				images = append(images, r.Image)
			}
			if d := cmp.Diff(tt.images, images); d != "" {
				t.Errorf("images (-want +got):\n%s", d)
			}
			moved, _, err := chart.Relocate([]chart.Object{o}, func(image string) (string, bool, error) {
				return "in.example.net/" + image[strings.LastIndex(image, "/")+1:], true, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			want := tt.moved
			if want == "" {
				want = tt.spec
			}
			if d := cmp.Diff(object(t, head+want).Tree, moved[0].Tree); d != "" {
				t.Errorf("moved (-want +got):\n%s", d)
			}
		})
	}
}

func TestImagesInList(t *testing.T) {
	o := object(t, `{apiVersion: v1, kind: List, items: [
		{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{image: nginx}]}},
		{apiVersion: v1, kind: Secret, data: {X_IMAGE: `+"YS9iOjE="+`, raw: "/w=="}}]}`)
	want := []chart.Reference{{"a/b:1", "List/ items[1].data.X_IMAGE"}, {"nginx", "List/ items[0].spec.containers[0].image"}}
	if d := cmp.Diff(want, chart.Images([]chart.Object{o})); d != "" {
		t.Errorf("images (-want +got):\n%s", d)
	}
}

// FuzzImages holds the scanner to its promise: what Images lists is what
// Relocate rewrites, and moving every image to itself changes nothing.
func FuzzImages(f *testing.F) {
	f.Add("image", "nginx:1")
	f.Add("args", "--x-image=quay.io/a/b:v1,quay.io/c@"+someDigest)
	f.Add("conf", "image: busybox:1\nurl: https://q.io/a:1\n")
	f.Add("X_IMAGE", "a:b:c@d\x00é")
	f.Fuzz(func(t *testing.T, key, value string) {
		tree := func() map[string]any {
			return map[string]any{
				"apiVersion": "v1", "kind": "Thing",
				"a": map[string]any{key: value, "tag": "v1"},
				"b": []any{value, map[string]any{"name": key, "value": value}, map[string]any{"name": key + "_TAG", "value": "v2"}},
				"c": map[string]any{"repository": value, "digest": someDigest},
			}
		}
		listed := chart.Images([]chart.Object{{Tree: tree()}})
		seen := map[string]bool{}
		same, unknown, err := chart.Relocate([]chart.Object{{Tree: tree()}}, func(image string) (string, bool, error) {
			seen[image] = true
			return image, true, nil
		})
		if err != nil || len(unknown) != 0 {
			t.Fatalf("Relocate: %v, unknown %v", err, unknown)
		}
		images := map[string]bool{}
		for _, r := range listed {
			images[r.Image] = true
		}
		if d := cmp.Diff(images, seen); d != "" {
			t.Errorf("Images and Relocate see different images (-Images +Relocate):\n%s", d)
		}
		if d := cmp.Diff(listed, chart.Images(same)); d != "" {
			t.Errorf("images moved to themselves differ:\n%s", d)
		}
	})
}
