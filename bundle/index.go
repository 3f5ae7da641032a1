package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/mod/semver"
)

// Format is the value of AnnotationFormat this version writes and reads.
const Format = "1"

// Info is what an index says of its bundle.
type Info struct {
	Product  string
	Version  string
	Release  int64
	Created  time.Time
	Lock     digest.Digest
	Tool     string
	Expires  time.Time // zero: never
	Audience []string  // empty: any site
	MinTool  string
}

// Index is a parsed index.json.
type Index struct {
	Info    Info
	Entries []Entry
}

// refName is the grammar of org.opencontainers.image.ref.name (image-spec 1.1,
// annotations.md). Readers such as skopeo refuse what does not fit.
var refName = regexp.MustCompile(`^[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*(?:/[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*)*$`)

// itemName bounds names and references in annotations: printable ASCII without
// spaces, so that they can be shown and quoted anywhere.
var itemName = regexp.MustCompile(`^[!-~]{1,512}$`)

// EncodeIndex returns the one encoding of index.json for these entries.
func EncodeIndex(info Info, entries []Entry) ([]byte, error) {
	idx := ocispec.Index{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageIndex,
		ArtifactType: ArtifactType,
		Manifests:    make([]Descriptor, 0, len(entries)),
		Annotations:  info.annotations(),
	}
	for _, e := range entries {
		d := Descriptor{MediaType: e.MediaType, Digest: e.Digest, Size: e.Size, Platform: e.Platform, ArtifactType: e.ArtifactType}
		d.Annotations = map[string]string{AnnotationKind: e.Kind, AnnotationName: e.Name, AnnotationRole: e.Role}
		if e.Ref != "" {
			d.Annotations[AnnotationRef] = e.Ref
			if refName.MatchString(e.Ref) {
				d.Annotations[ocispec.AnnotationRefName] = e.Ref
			}
		}
		idx.Manifests = append(idx.Manifests, d)
	}
	return encodeJSON(idx)
}

// encodeJSON is json.Marshal without HTML escapes and without a final newline.
func encodeJSON(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

func (i Info) annotations() map[string]string {
	a := map[string]string{
		AnnotationFormat:  Format,
		AnnotationProduct: i.Product,
		AnnotationVersion: i.Version,
		AnnotationRelease: strconv.FormatInt(i.Release, 10),
		AnnotationCreated: i.Created.UTC().Format(time.RFC3339),
		AnnotationLock:    i.Lock.String(),
		AnnotationTool:    i.Tool,
	}
	if !i.Expires.IsZero() {
		a[AnnotationExpires] = i.Expires.UTC().Format(time.RFC3339)
	}
	if len(i.Audience) > 0 {
		a[AnnotationAudience] = strings.Join(i.Audience, ",")
	}
	if i.MinTool != "" {
		a[AnnotationMinTool] = i.MinTool
	}
	return a
}

// ParseIndex reads index.json strictly: the bytes must be exactly what
// EncodeIndex writes for what was read, so no two readers can see different
// things in them (unknown or duplicate keys, other spelling, trailing data).
// Call it only with bytes whose signature was checked, or to show what an
// unverified bundle claims.
func ParseIndex(raw []byte) (Index, error) {
	var doc ocispec.Index
	if err := json.Unmarshal(raw, &doc); err != nil {
		return Index{}, fmt.Errorf("parse index.json: %w", err)
	}
	if doc.ArtifactType != ArtifactType {
		return Index{}, &archive.FormatError{Offset: -1, Entry: "index.json", Err: archive.ErrNotBundle, Detail: fmt.Sprintf("artifactType %q", doc.ArtifactType)}
	}
	if f := doc.Annotations[AnnotationFormat]; f != Format {
		return Index{}, fmt.Errorf("index.json: format %q is not known to this version, which reads format %s", f, Format)
	}
	if len(doc.Manifests) > archive.MaxManifests {
		return Index{}, fmt.Errorf("index.json: %d manifests, at most %d allowed", len(doc.Manifests), archive.MaxManifests)
	}
	info, err := parseInfo(doc.Annotations)
	if err != nil {
		return Index{}, fmt.Errorf("index.json: %w", err)
	}
	idx := Index{Info: info}
	for _, d := range doc.Manifests {
		e, err := parseEntry(d)
		if err != nil {
			return Index{}, fmt.Errorf("index.json: manifest %q: %w", d.Digest, err)
		}
		idx.Entries = append(idx.Entries, e)
	}
	if err := checkEntries(idx.Entries); err != nil {
		return Index{}, fmt.Errorf("index.json: %w", err)
	}
	again, err := EncodeIndex(info, idx.Entries)
	if err != nil {
		return Index{}, err
	}
	if !bytes.Equal(raw, again) {
		return Index{}, errors.New("index.json is not in its canonical encoding")
	}
	return idx, nil
}

func parseInfo(a map[string]string) (Info, error) {
	i := Info{Product: a[AnnotationProduct], Version: a[AnnotationVersion], Tool: a[AnnotationTool], MinTool: a[AnnotationMinTool]}
	for _, key := range []string{AnnotationProduct, AnnotationVersion, AnnotationTool} {
		if !itemName.MatchString(a[key]) {
			return Info{}, fmt.Errorf("annotation %s: %q is missing or malformed", key, a[key])
		}
	}
	var err error
	if i.Release, err = strconv.ParseInt(a[AnnotationRelease], 10, 64); err != nil || i.Release < 1 {
		return Info{}, fmt.Errorf("annotation %s: %q is not a positive integer", AnnotationRelease, a[AnnotationRelease])
	}
	if i.Created, err = time.Parse(time.RFC3339, a[AnnotationCreated]); err != nil {
		return Info{}, fmt.Errorf("annotation %s: %w", AnnotationCreated, err)
	}
	i.Lock = digest.Digest(a[AnnotationLock])
	if err := CheckDescriptor(Descriptor{Digest: i.Lock}); err != nil {
		return Info{}, fmt.Errorf("annotation %s: %w", AnnotationLock, err)
	}
	if v, ok := a[AnnotationExpires]; ok {
		if i.Expires, err = time.Parse(time.RFC3339, v); err != nil {
			return Info{}, fmt.Errorf("annotation %s: %w", AnnotationExpires, err)
		}
	}
	if v, ok := a[AnnotationAudience]; ok {
		i.Audience = strings.Split(v, ",")
	}
	for _, site := range i.Audience {
		if !itemName.MatchString(site) {
			return Info{}, fmt.Errorf("annotation %s: site %q is malformed", AnnotationAudience, site)
		}
	}
	if i.MinTool != "" && !semver.IsValid("v"+strings.TrimPrefix(i.MinTool, "v")) {
		return Info{}, fmt.Errorf("annotation %s: %q is not a version", AnnotationMinTool, i.MinTool)
	}
	return i, nil
}

// kinds and roles that an index may name.
var (
	knownKinds = map[string]bool{KindImage: true, KindChart: true, KindModule: true, KindFile: true, KindTool: true, KindChecklist: true, KindLock: true, KindVendor: true}
	knownRoles = map[string]bool{RoleRoot: true, RoleChild: true, RoleReferrer: true, RoleCosignTag: true, RoleSourceIndex: true}
)

func parseEntry(d Descriptor) (Entry, error) {
	if err := CheckDescriptor(d); err != nil {
		return Entry{}, err
	}
	if !IsIndex(d.MediaType) && !IsManifest(d.MediaType) {
		return Entry{}, fmt.Errorf("media type %q is neither manifest nor index", d.MediaType)
	}
	if d.Size > archive.MaxManifest {
		return Entry{}, fmt.Errorf("size %d, at most %d allowed", d.Size, archive.MaxManifest)
	}
	e := Entry{Descriptor: d, Role: d.Annotations[AnnotationRole]}
	e.Item = Item{Kind: d.Annotations[AnnotationKind], Name: d.Annotations[AnnotationName], Ref: d.Annotations[AnnotationRef]}
	switch {
	case !knownKinds[e.Kind]:
		return Entry{}, fmt.Errorf("kind %q is not known to this version", e.Kind)
	case !knownRoles[e.Role]:
		return Entry{}, fmt.Errorf("role %q is not known to this version", e.Role)
	case !itemName.MatchString(e.Name):
		return Entry{}, fmt.Errorf("name %q is missing or malformed", e.Name)
	case e.Ref != "" && !itemName.MatchString(e.Ref):
		return Entry{}, fmt.Errorf("reference %q is malformed", e.Ref)
	case e.Role == RoleRoot && e.Ref == "":
		return Entry{}, errors.New("a root without reference")
	}
	e.Annotations = nil
	return e, nil
}

// checkEntries refuses descriptors that contradict each other: readers would
// disagree about what a digest is, or which manifest a reference names.
func checkEntries(entries []Entry) error {
	type key struct {
		digest digest.Digest
		ref    string
	}
	listed := map[key]bool{}
	types := map[digest.Digest]Descriptor{}
	roots := map[string]digest.Digest{}
	for _, e := range entries {
		k := key{e.Digest, e.Ref}
		if listed[k] {
			return fmt.Errorf("manifest %s is listed twice with reference %q", e.Digest, e.Ref)
		}
		listed[k] = true
		if d, ok := types[e.Digest]; ok && (d.MediaType != e.MediaType || d.Size != e.Size) {
			return fmt.Errorf("manifest %s is listed with two media types or sizes", e.Digest)
		}
		types[e.Digest] = e.Descriptor
		if e.Role != RoleRoot {
			continue
		}
		if d, ok := roots[e.Ref]; ok && d != e.Digest {
			return fmt.Errorf("reference %q names two manifests, %s and %s", e.Ref, d, e.Digest)
		}
		roots[e.Ref] = e.Digest
	}
	return nil
}

// Entries lists what pins carry, flat and in order. A manifest without a
// reference of its own that an earlier pin listed is not listed again.
func Entries(pins []Pin) []Entry {
	type key struct {
		d   digest.Digest
		ref string
	}
	listed := map[digest.Digest]bool{}
	seen := map[key]bool{}
	var out []Entry
	for _, p := range pins {
		for _, m := range p.Manifests {
			if seen[key{m.Digest, m.Ref}] || m.Ref == "" && listed[m.Digest] {
				continue
			}
			seen[key{m.Digest, m.Ref}], listed[m.Digest] = true, true
			d := m.Descriptor
			d.Annotations, d.Data, d.URLs = nil, nil, nil
			out = append(out, Entry{Descriptor: d, Item: Item{Kind: p.Kind, Name: p.Name, Ref: m.Ref}, Role: m.Role})
		}
	}
	return out
}
