// Package relocate writes a relocation map in the words of those who pull:
// container runtimes, Kustomize, Helm, OpenShift, imgpkg and shells. It reads
// no file and asks no registry: the same map and options give the same bytes.
//
// Whoever names an image gets repository:tag@digest, so that a tag that moves
// later changes nothing. What a format cannot say is a note, never left out in
// silence.
package relocate

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/manifests"
	"github.com/goccy/go-yaml"
	"github.com/opencontainers/go-digest"
)

// Kind names a format.
type Kind string

// Kinds that Write knows.
const (
	Containerd Kind = "containerd"  // a tree of hosts.toml, one directory for each source host
	Kustomize  Kind = "kustomize"   // the images block of a kustomization
	Helm       Kind = "helm-values" // an overlay of a chart's values, or a map of all images
	OpenShift  Kind = "openshift"   // ImageDigestMirrorSet and ImageTagMirrorSet
	Imgpkg     Kind = "imgpkg"      // an ImagesLock
	Shell      Kind = "shell"       // assignments that a shell reads
)

// Kinds lists them all, sorted.
func Kinds() []Kind {
	return []Kind{Containerd, Helm, Imgpkg, Kustomize, OpenShift, Shell}
}

// Options say what a map does not. The zero value suits a registry that speaks
// HTTPS with a certificate the nodes trust.
type Options struct {
	// CA is the path, on the nodes, of the certificates that containerd trusts
	// for the registry. It is written, not read.
	CA string
	// PlainHTTP makes containerd speak to the registry without TLS.
	PlainHTTP bool
	// Values are the default values of one chart, for Helm. Without them the
	// result is a generic map of images.
	Values []byte
}

// File is one file of the result. Path is relative and has forward slashes.
type File struct {
	Path string
	Data []byte
}

// Output is what a format makes of a map.
type Output struct {
	Files []File   // by path
	Notes []string // what the format cannot say, for people
}

// KindError says that a kind is not known.
type KindError struct{ Kind Kind }

func (e *KindError) Error() string { return fmt.Sprintf("unknown format %q", string(e.Kind)) }

// Write makes the files of one kind. It is safe for concurrent use.
func Write(kind Kind, m *manifests.RelocationMap, o Options) (Output, error) {
	w := &writer{m: m, o: o}
	write := map[Kind]func() error{
		Containerd: w.containerd, Kustomize: w.kustomize, Helm: w.helm,
		OpenShift: w.openshift, Imgpkg: w.imgpkg, Shell: w.shell,
	}[kind]
	if write == nil {
		return Output{}, &KindError{kind}
	}
	if o.CA != "" && (!filepath.IsAbs(o.CA) || strings.ContainsFunc(o.CA, unicode.IsControl)) {
		return Output{}, fmt.Errorf("CA path %q: want an absolute path on the nodes", o.CA)
	}
	if err := w.read(); err != nil {
		return Output{}, fmt.Errorf("read relocation map: %w", err)
	}
	if err := write(); err != nil {
		return Output{}, fmt.Errorf("write %s: %w", kind, err)
	}
	slices.SortFunc(w.out.Files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	return w.out, nil
}

// image is one relocated image.
type image struct {
	entry    manifests.Relocation
	source   remote.Reference
	hostless bool // the source names no host
	target   remote.Reference
}

// pull is what a consumer names.
func (i image) pull() string { return i.target.String() }

// tag is the target's tag with its digest.
func (i image) tag() string { return i.target.Tag + "@" + i.target.Digest.String() }

// derived reports whether the digest that the source resolved to is not at the
// target, because platforms were chosen.
func (i image) derived() bool { return i.entry.SourceDigest != i.entry.Digest }

// writer makes one Output.
type writer struct {
	m      *manifests.RelocationMap
	o      Options
	images []image // by source, then target
	out    Output
}

// read checks every entry: maps are files that people edit.
func (w *writer) read() error {
	if err := digest.Digest(w.m.Bundle).Validate(); err != nil {
		return fmt.Errorf("bundle %q: %w", w.m.Bundle, err)
	}
	seen := map[string]string{}
	for n, e := range w.m.Entries {
		target, err := remote.ParseReference(e.Target + "@" + e.Digest)
		if err != nil {
			return fmt.Errorf("entry %d: target: %w", n+1, err)
		}
		if target.Tag == "" {
			return fmt.Errorf("entry %d: target %q has no tag", n+1, e.Target)
		}
		if was, ok := seen[e.Kind+" "+e.Source]; ok && was != target.String() {
			return fmt.Errorf("entry %d: %q has two targets", n+1, e.Source)
		}
		seen[e.Kind+" "+e.Source] = target.String()
		if e.Kind != "image" {
			continue
		}
		source, err := remote.ParseReference(e.Source)
		if err != nil {
			return fmt.Errorf("entry %d: source: %w", n+1, err)
		}
		w.images = append(w.images, image{entry: e, source: source, hostless: hostless(e.Source), target: target})
	}
	slices.SortStableFunc(w.images, func(a, b image) int {
		return cmp.Or(cmp.Compare(a.source.String(), b.source.String()), cmp.Compare(a.pull(), b.pull()))
	})
	w.images = slices.CompactFunc(w.images, func(a, b image) bool { return a.source == b.source && a.pull() == b.pull() })
	return nil
}

// hostless reports whether a reference leaves out the host, by docker's rule.
func hostless(ref string) bool {
	first, _, ok := strings.Cut(ref, "/")
	return !ok || (!strings.ContainsAny(first, ".:") && first != "localhost")
}

func (w *writer) note(format string, args ...any) {
	w.out.Notes = append(w.out.Notes, fmt.Sprintf(format, args...))
}

func (w *writer) file(path, text string) {
	w.out.Files = append(w.out.Files, File{Path: path, Data: []byte(text)})
}

// Mark begins every file of a kind that has comments: who finds it there may
// replace the file.
const Mark = "# Written by airlock relocate "

// head says where a file came from.
func (w *writer) head() string {
	return Mark + "from the relocation map of bundle\n# " + w.m.Bundle + "\n"
}

// yaml writes documents with keys in the order given.
func (w *writer) yaml(path string, documents ...any) error {
	var text strings.Builder
	text.WriteString(w.head())
	for i, d := range documents {
		b, err := yaml.MarshalWithOptions(d, yaml.Indent(2))
		if err != nil {
			return fmt.Errorf("encode %s: %w", path, err)
		}
		if i > 0 {
			text.WriteString("---\n")
		}
		text.WriteString(string(b))
	}
	w.file(path, text.String())
	return nil
}

// byName groups the images by the name without tag and digest.
func (w *writer) byName() (names []string, groups map[string][]image) {
	groups = map[string][]image{}
	for _, i := range w.images {
		groups[i.source.Name()] = append(groups[i.source.Name()], i)
	}
	return slices.Sorted(maps.Keys(groups)), groups
}
