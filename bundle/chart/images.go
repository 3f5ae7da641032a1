package chart

import (
	"cmp"
	"fmt"
	"slices"
)

// Reference is an image that an object names.
type Reference struct {
	Image string // as written; parts written apart are joined
	Where string // "Deployment/web spec.template.spec.containers[0].image"
}

// Images lists every image the objects name, sorted, each image and place once.
//
// What counts, in any field of any kind:
//   - whatever a container has as its image, be it a reference or not;
//   - every reference in a field named image, short names included, and in an
//     image volume;
//   - in fields, environment variables and flags whose name ends in image, a
//     reference with a tag or a digest;
//   - references written in parts, such as repository and tag;
//   - anywhere else (arguments, annotations, config map and secret values, also
//     inside longer text), a reference with a registry that has a dot or a port,
//     a path, and a tag or a digest. What follows a scheme (https://…) does not
//     count.
//
// Of a CustomResourceDefinition only default values are read.
func Images(objects []Object) []Reference {
	var refs []Reference
	for _, o := range objects {
		w := walker{visit: func(field, image string) (string, bool) {
			refs = append(refs, Reference{Image: image, Where: o.where(field)})
			return "", false
		}}
		// The walk writes only what a visit replaces, but a copy makes that a
		// fact for objects shared between goroutines.
		w.object(o.clone())
	}
	return sortReferences(refs)
}

// Relocate returns copies of the objects with every reference that [Images]
// lists rewritten by relocate, which returns the new reference and whether it
// knows the image. The references it does not know stay as they are and are
// returned, sorted. An error of relocate, or a new reference that is none, ends
// the work.
func Relocate(objects []Object, relocate func(image string) (string, bool, error)) ([]Object, []Reference, error) {
	out := make([]Object, len(objects))
	var unknown []Reference
	for i, o := range objects {
		out[i] = o.clone()
		var failed error
		w := walker{visit: func(field, image string) (string, bool) {
			if failed != nil {
				return "", false
			}
			to, ok, err := relocate(image)
			if err == nil && ok {
				if _, valid := parseRef(to); !valid {
					err = fmt.Errorf("%q is not an image reference", to)
				}
			}
			if err != nil {
				failed = fmt.Errorf("relocate %q in %s: %w", image, o.where(field), err)
				return "", false
			}
			if !ok {
				unknown = append(unknown, Reference{Image: image, Where: o.where(field)})
			}
			return to, ok
		}}
		w.object(out[i])
		if failed != nil {
			return nil, nil, failed
		}
	}
	return out, sortReferences(unknown), nil
}

func (o Object) where(field string) string {
	return fmt.Sprintf("%s/%s %s", o.Kind(), o.Name(), field)
}

func (o Object) clone() Object {
	o.Tree, _ = cloneValue(o.Tree).(map[string]any)
	return o
}

func cloneValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, e := range v {
			m[k] = cloneValue(e)
		}
		return m
	case []any:
		l := make([]any, len(v))
		for i, e := range v {
			l[i] = cloneValue(e)
		}
		return l
	}
	return v
}

func sortReferences(refs []Reference) []Reference {
	slices.SortFunc(refs, func(a, b Reference) int {
		return cmp.Or(cmp.Compare(a.Image, b.Image), cmp.Compare(a.Where, b.Where))
	})
	return slices.Compact(refs)
}
