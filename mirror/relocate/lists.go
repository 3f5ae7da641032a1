package relocate

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/goccy/go-yaml"
)

// kustomize writes the images block of a kustomization. Kustomize compares
// names as they are written, so Docker Hub's get every spelling.
func (w *writer) kustomize() error {
	list := []yaml.MapSlice{}
	names, groups := w.byName()
	for _, name := range names {
		group := groups[name]
		first := group[0]
		if slices.ContainsFunc(group, func(i image) bool { return i.target.Name() != first.target.Name() }) {
			w.note("%s: its tags are in several repositories of the target, which an images block cannot say", name)
			continue
		}
		for _, spelling := range spellings(first.source) {
			item := yaml.MapSlice{{Key: "name", Value: spelling}, {Key: "newName", Value: first.target.Name()}}
			if len(group) == 1 {
				item = append(item, yaml.MapItem{Key: "newTag", Value: first.tag()})
			}
			list = append(list, item)
		}
		if len(group) > 1 {
			w.note("%s: the bundle has %d tags of it, and Kustomize knows images by name only: manifests keep the tag they have, without a digest", name, len(group))
		}
	}
	return w.yaml("kustomization.yaml",
		yaml.MapSlice{
			{Key: "apiVersion", Value: "kustomize.config.k8s.io/v1alpha1"},
			{Key: "kind", Value: "Component"},
			{Key: "images", Value: list},
		})
}

// spellings are the ways to write a name without tag and digest.
func spellings(r remote.Reference) []string {
	if r.Host != remote.DefaultHost {
		return []string{r.Name()}
	}
	list := []string{r.Repository, r.Name()}
	if short, ok := strings.CutPrefix(r.Repository, "library/"); ok && !strings.Contains(short, "/") {
		list = append(list, short, r.Host+"/"+short)
	}
	slices.Sort(list)
	return list
}

// openshift writes an ImageDigestMirrorSet and an ImageTagMirrorSet
// (config.openshift.io/v1), one mirror for each repository.
func (w *writer) openshift() error {
	mirrors := []yaml.MapSlice{}
	names, groups := w.byName()
	for _, name := range names {
		var targets []string
		for _, i := range groups[name] {
			targets = append(targets, i.target.Name())
			if i.derived() {
				w.note("%s: chosen platforms have a digest of their own: a pull by %s does not find it, a pull by tag or by %s does", i.entry.Source, i.entry.SourceDigest, i.entry.Digest)
			}
		}
		slices.Sort(targets)
		mirrors = append(mirrors, yaml.MapSlice{
			{Key: "source", Value: name},
			{Key: "mirrors", Value: slices.Compact(targets)},
			{Key: "mirrorSourcePolicy", Value: "NeverContactSource"},
		})
	}
	set := func(kind, list string) yaml.MapSlice {
		return yaml.MapSlice{
			{Key: "apiVersion", Value: "config.openshift.io/v1"},
			{Key: "kind", Value: kind},
			{Key: "metadata", Value: yaml.MapSlice{{Key: "name", Value: "airlock"}}},
			{Key: "spec", Value: yaml.MapSlice{{Key: list, Value: mirrors}}},
		}
	}
	return w.yaml("openshift.yaml", set("ImageDigestMirrorSet", "imageDigestMirrors"), set("ImageTagMirrorSet", "imageTagMirrors"))
}

// imgpkg writes an ImagesLock (imgpkg.carvel.dev/v1alpha1) with the annotation
// by which kbld finds what to replace.
func (w *writer) imgpkg() error {
	images := []yaml.MapSlice{}
	for _, i := range w.images {
		images = append(images, yaml.MapSlice{
			{Key: "image", Value: i.pull()},
			{Key: "annotations", Value: yaml.MapSlice{{Key: "kbld.carvel.dev/id", Value: i.entry.Source}}},
		})
	}
	return w.yaml("images.yml", yaml.MapSlice{
		{Key: "apiVersion", Value: "imgpkg.carvel.dev/v1alpha1"},
		{Key: "kind", Value: "ImagesLock"},
		{Key: "images", Value: images},
	})
}

// shell writes one assignment for everything in the map, whatever its kind.
// Every name begins with its kind, so that none changes what a shell lives by,
// such as PATH.
func (w *writer) shell() error {
	lines := map[string]string{} // by source with kind
	uses := map[string]int{}
	for _, e := range w.m.Entries {
		lines[e.Kind+" "+e.Source] = e.Target + "@" + e.Digest
	}
	for key := range lines {
		uses[variable(key)]++
	}
	list := make([]string, 0, len(lines))
	for key, ref := range lines {
		name := variable(key)
		if uses[name] > 1 {
			sum := sha256.Sum256([]byte(key))
			name += "_" + strings.ToUpper(hex.EncodeToString(sum[:4]))
		}
		// A checked reference holds nothing that a shell would read.
		list = append(list, name+"='"+ref+"'\n")
	}
	slices.Sort(list)
	w.file("images.env", w.head()+strings.Join(list, ""))
	return nil
}

// variable makes a name for a shell (POSIX.1-2017, 3.235 "Name"). A digest
// says nothing to a person and is left out.
func variable(key string) string {
	key, _, _ = strings.Cut(key, "@")
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
}
