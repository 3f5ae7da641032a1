package relocate

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/goccy/go-yaml"
)

// maxValues bounds a chart's default values; the largest public ones are below
// 400 KiB.
const maxValues = 4 << 20

// maxValuesDepth bounds the nesting that is looked at.
const maxValuesDepth = 64

// helm writes an overlay for one chart, or without its values a map of all
// images for templates and people to look up.
func (w *writer) helm() error {
	if w.o.Values == nil {
		images := yaml.MapSlice{}
		for _, i := range w.images {
			if n := len(images); n > 0 && images[n-1].Key == i.entry.Source {
				continue
			}
			images = append(images, yaml.MapItem{Key: i.entry.Source, Value: i.pull()})
		}
		return w.yaml("values.yaml", yaml.MapSlice{{Key: "images", Value: images}})
	}
	if len(w.o.Values) > maxValues {
		return fmt.Errorf("values: larger than %d bytes", maxValues)
	}
	var values map[string]any
	if err := yaml.Unmarshal(w.o.Values, &values); err != nil {
		return fmt.Errorf("values: not a YAML map: %s", firstLine(err))
	}
	o := &overlay{writer: w, refs: map[string]image{}, names: map[string][]image{}}
	for _, i := range w.images {
		o.refs[i.source.String()] = i
		o.names[i.source.Name()] = append(o.names[i.source.Name()], i)
	}
	over, err := o.value(values, "", 0)
	if err != nil {
		return err
	}
	if over == nil {
		w.note("no value of the chart names an image of the bundle: its templates may name images by themselves")
		over = map[string]any{}
	}
	if o.joined {
		w.note("where values have no digest it follows the tag: a template that also writes the tag into a label needs a change")
	}
	return w.yaml("values.yaml", over)
}

// firstLine leaves out the excerpt that the decoder draws.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// overlay finds images in values and says what to put in their place.
type overlay struct {
	*writer
	refs   map[string]image   // by full source reference
	names  map[string][]image // by source name
	joined bool               // some tag carries a digest
}

// value returns what has to be laid over v, or nil.
func (o *overlay) value(v any, path string, depth int) (any, error) {
	if depth > maxValuesDepth {
		return nil, fmt.Errorf("values: %s: nested more than %d deep", path, maxValuesDepth)
	}
	switch v := v.(type) {
	case map[string]any:
		return o.object(v, path, depth)
	case []any:
		return o.list(v, path, depth)
	case string:
		if i, ok := o.exact(v); ok {
			return i.pull(), nil
		}
	}
	return nil, nil
}

func (o *overlay) object(v map[string]any, path string, depth int) (any, error) {
	out := map[string]any{}
	if repository, ok := v["repository"].(string); ok && repository != "" {
		maps.Copy(out, o.structured(v, "repository", path))
	} else if image, ok := v["image"].(string); ok && image != "" {
		if _, tagged := v["tag"]; tagged {
			maps.Copy(out, o.structured(v, "image", path))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(v)) {
		if _, done := out[key]; done {
			continue
		}
		over, err := o.value(v[key], strings.TrimPrefix(path+"."+key, "."), depth+1)
		if err != nil {
			return nil, err
		}
		if over != nil {
			out[key] = over
		}
	}
	if len(out) == 0 {
		return nil, nil
	}
	return out, nil
}

// list returns the whole list if something in it changes: Helm replaces lists.
func (o *overlay) list(v []any, path string, depth int) (any, error) {
	out := slices.Clone(v)
	changed := false
	for i, item := range v {
		over, err := o.value(item, fmt.Sprintf("%s[%d]", path, i), depth+1)
		if err != nil {
			return nil, err
		}
		if over != nil {
			out[i], changed = merge(item, over), true
		}
	}
	if !changed {
		return nil, nil
	}
	return out, nil
}

// merge lays over upon base as Helm does.
func merge(base, over any) any {
	b, ok := base.(map[string]any)
	o, also := over.(map[string]any)
	if !ok || !also {
		return over
	}
	out := maps.Clone(b)
	for k, v := range o {
		out[k] = merge(b[k], v)
	}
	return out
}

// exact finds the image that a whole string names, with tag or digest.
func (o *overlay) exact(s string) (image, bool) {
	if !strings.ContainsAny(s, ":@") {
		return image{}, false
	}
	r, err := remote.ParseReference(s)
	if err != nil {
		return image{}, false
	}
	i, ok := o.refs[r.String()]
	return i, ok
}

// structured finds the image that registry, repository, tag and digest name
// together, and says what each becomes.
func (o *overlay) structured(v map[string]any, key, path string) map[string]any {
	name, _ := v[key].(string)
	registry, _ := v["registry"].(string)
	if registry != "" {
		name = strings.TrimSuffix(registry, "/") + "/" + name
	}
	r, err := remote.ParseReference(name)
	if err != nil || len(o.names[r.Name()]) == 0 {
		return nil
	}
	i, err := choose(o.names[r.Name()], v["tag"], v["digest"])
	if err != nil {
		o.note("%s: %s: %v", strings.TrimPrefix(path+"."+key, "."), r.Name(), err)
		return nil
	}
	out := map[string]any{key: i.target.Name(), "tag": i.tag()}
	if _, ok := v["registry"]; ok {
		out["registry"], out[key] = i.target.Host, i.target.Repository
	}
	if _, ok := v["digest"]; ok {
		out["tag"], out["digest"] = i.target.Tag, i.target.Digest.String()
	} else {
		o.joined = true
	}
	return out
}

// choose picks the image that tag and digest mean. A tag left empty is the
// chart's version, which values do not say: then there must be one only.
func choose(list []image, tag, digest any) (image, error) {
	text := ""
	switch t := tag.(type) {
	case nil:
	case string:
		text = t
	case uint64, int64:
		text = fmt.Sprint(t)
	default:
		return image{}, errors.New("its tag is not text: put it into quotes")
	}
	text, pinned, _ := strings.Cut(text, "@")
	if d, ok := digest.(string); ok && d != "" {
		pinned = d
	}
	var found []image
	for _, i := range list {
		if (text == "" || text == i.source.Tag) && (pinned == "" || pinned == i.entry.SourceDigest || pinned == i.entry.Digest) {
			found = append(found, i)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return image{}, fmt.Errorf("the bundle has %d tags of it, and the values do not say which", len(found))
	case pinned != "":
		return image{}, fmt.Errorf("the bundle does not have tag %q with digest %q", text, pinned)
	}
	return image{}, fmt.Errorf("the bundle does not have tag %q", text)
}
