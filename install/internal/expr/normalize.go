package expr

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
)

// maxNesting bounds how deep a value may nest.
const maxNesting = 32

// Normalize turns a decoded YAML or JSON value into the types expressions use:
// string, bool, int64, float64, nil, []any and map[string]any.
func Normalize(v any) (any, error) { return normalize(v, 0) }

func normalize(v any, depth int) (any, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("value nests deeper than %d", maxNesting)
	}
	switch t := v.(type) {
	case nil, string, bool, int64:
		return t, nil
	case json.Number:
		if n, err := t.Int64(); err == nil {
			return n, nil
		}
		return t.Float64()
	}
	r := reflect.ValueOf(v)
	switch r.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return r.Int(), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if r.Uint() > math.MaxInt64 {
			return nil, fmt.Errorf("number %d is too large", r.Uint())
		}
		return int64(r.Uint()), nil
	case reflect.Float32, reflect.Float64:
		if math.IsNaN(r.Float()) || math.IsInf(r.Float(), 0) {
			return nil, fmt.Errorf("number %v is not finite", r.Float())
		}
		return r.Float(), nil
	case reflect.String:
		return r.String(), nil
	case reflect.Bool:
		return r.Bool(), nil
	case reflect.Slice:
		return normalizeList(r, depth)
	case reflect.Map:
		return normalizeMap(r, depth)
	}
	return nil, fmt.Errorf("a value of type %T cannot be used here", v)
}

func normalizeList(r reflect.Value, depth int) (any, error) {
	out := make([]any, r.Len())
	for i := range out {
		e, err := normalize(r.Index(i).Interface(), depth+1)
		if err != nil {
			return nil, err
		}
		out[i] = e
	}
	return out, nil
}

func normalizeMap(r reflect.Value, depth int) (any, error) {
	out := make(map[string]any, r.Len())
	for it := r.MapRange(); it.Next(); {
		key, ok := it.Key().Interface().(string)
		if !ok {
			return nil, fmt.Errorf("map key %v is not a string", it.Key())
		}
		e, err := normalize(it.Value().Interface(), depth+1)
		if err != nil {
			return nil, err
		}
		out[key] = e
	}
	return out, nil
}
