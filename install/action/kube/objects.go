package kube

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/install/action/internal/charts"
	cluster "github.com/airlock-project/airlock/install/internal/kube"
	"github.com/airlock-project/airlock/manifests"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

const (
	// maxFile bounds a file of objects: the types of a large operator have 1 MB.
	maxFile = 8 << 20
	// maxObjects bounds what one step applies.
	maxObjects = 500
)

// paths is one path, or a list of them.
type paths []string

// UnmarshalJSON implements json.Unmarshaler.
func (p *paths) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		if one != "" {
			*p = paths{one}
		}
		return nil
	}
	var list []string
	if json.Unmarshal(data, &list) != nil {
		return errors.New("file is a path or a list of paths")
	}
	*p = list
	return nil
}

// gather reads the objects of a step, in the order in which they are applied.
func gather(a applyArguments, site string) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	for i, raw := range a.Objects {
		list, err := decode(raw)
		if err != nil {
			return nil, fmt.Errorf("objects[%d]: %w", i, err)
		}
		out = append(out, list...)
	}
	for _, path := range a.File {
		list, err := readObjects(path, site)
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	switch {
	case len(out) == 0:
		return nil, errors.New("want objects, or a file of them")
	case len(out) > maxObjects:
		return nil, fmt.Errorf("%d objects are more than the %d that one step applies", len(out), maxObjects)
	}
	if err := embed(out, a.Embed, site); err != nil {
		return nil, err
	}
	if a.Images != nil {
		if err := relocate(out, a.Images, a.Ignore); err != nil {
			return nil, err
		}
	}
	// What others live in, or are of, goes first.
	slices.SortStableFunc(out, func(x, y *unstructured.Unstructured) int { return weight(x) - weight(y) })
	return out, nil
}

// embed puts the content of files into objects.
func embed(objects []*unstructured.Unstructured, list []embedding, site string) error {
	for _, e := range list {
		if e.File == "" {
			continue
		}
		i := slices.IndexFunc(objects, func(o *unstructured.Unstructured) bool { return o.GetKind()+"/"+o.GetName() == e.Object })
		if i < 0 || e.Path == "" {
			return fmt.Errorf("embed a file into %q: there is no such object or no path", e.Object)
		}
		data, err := cluster.File(site, e.File, maxValue)
		if err != nil {
			return fmt.Errorf("embed a file into %s: %w", e.Object, err)
		}
		if err := unstructured.SetNestedField(objects[i].Object, base64Of(data), strings.Split(e.Path, ".")...); err != nil {
			return fmt.Errorf("embed a file into %s: %s leads through what is no map", e.Object, e.Path)
		}
	}
	return nil
}

func weight(o *unstructured.Unstructured) int {
	switch {
	case o.GetKind() == "Namespace" && o.GetAPIVersion() == "v1":
		return 0
	case isCRD(o):
		return 1
	}
	return 2
}

func isCRD(o *unstructured.Unstructured) bool {
	return o.GetKind() == "CustomResourceDefinition" && o.GroupVersionKind().Group == "apiextensions.k8s.io"
}

// readObjects reads a file of YAML documents, strictly: a key that is there twice
// is an error. Errors name the document and quote nothing of it.
func readObjects(path, site string) ([]*unstructured.Unstructured, error) {
	data, err := cluster.File(site, path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("read objects: %w", err)
	}
	var out []*unstructured.Unstructured
	docs := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for n := 1; ; n++ {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read objects of %s: document %d: %w", path, n, err)
		}
		raw, err := yaml.YAMLToJSONStrict(doc)
		if err != nil {
			return nil, fmt.Errorf("read objects of %s: document %d is not YAML, or has a key twice", path, n)
		}
		if string(bytes.TrimSpace(raw)) == "null" {
			continue // comments only
		}
		list, err := decode(raw)
		if err != nil {
			return nil, fmt.Errorf("read objects of %s: document %d: %w", path, n, err)
		}
		if out = append(out, list...); len(out) > maxObjects {
			return nil, fmt.Errorf("read objects of %s: it holds more than %d", path, maxObjects)
		}
	}
}

// decode reads one object, or those of a List.
func decode(raw []byte) ([]*unstructured.Unstructured, error) {
	v, _, err := unstructured.UnstructuredJSONScheme.Decode(raw, nil, nil)
	if err != nil {
		return nil, errors.New("it is no object with apiVersion and kind")
	}
	var out []*unstructured.Unstructured
	switch t := v.(type) {
	case *unstructured.Unstructured:
		out = []*unstructured.Unstructured{t}
	case *unstructured.UnstructuredList:
		for i := range t.Items {
			out = append(out, &t.Items[i])
		}
	}
	for _, o := range out {
		if o.GetAPIVersion() == "" || o.GetKind() == "" || o.GetName() == "" {
			return nil, errors.New("it is no object with apiVersion, kind and metadata.name")
		}
		unstructured.RemoveNestedField(o.Object, "status")
	}
	return out, nil
}

// relocate points the images of objects at the enclave's registry.
func relocate(objects []*unstructured.Unstructured, m *manifests.RelocationMap, ignore []string) error {
	in := make([]chart.Object, len(objects))
	for i, o := range objects {
		in[i] = chart.Object{Source: "objects", Tree: o.Object}
	}
	out, err := charts.Relocate(in, m, ignore)
	if err != nil {
		return err
	}
	for i := range out {
		// The copies hold what JSON has, json.Number among it.
		raw, err := json.Marshal(out[i].Tree)
		if err != nil {
			return fmt.Errorf("relocate images: %w", err)
		}
		if err := objects[i].UnmarshalJSON(raw); err != nil {
			return fmt.Errorf("relocate images: %w", err)
		}
	}
	return nil
}
