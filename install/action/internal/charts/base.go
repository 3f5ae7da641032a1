package charts

import (
	"encoding/json"
	"fmt"

	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/bundle/regular"
)

// Base is a values file that another tool made, such as an output of Terraform.
// The values of the checklist go over it. Its zero value is none.
type Base struct {
	File string     `json:"file"` // "" is none
	Drop [][]string `json:"drop"` // paths in it that are left out; those that it lacks do not matter
}

// maxBase bounds the file, in bytes.
const maxBase = 1 << 20

// ValuesError says that values cannot be read.
type ValuesError struct{ err error }

func (e *ValuesError) Error() string { return e.err.Error() }
func (e *ValuesError) Unwrap() error { return e.err }

// values reads the file and leaves out what is to be dropped.
func (b Base) values() ([]chart.ValuesFile, error) {
	if b.File == "" {
		return nil, nil
	}
	data, err := regular.Read(b.File, maxBase)
	if err != nil {
		return nil, &ValuesError{fmt.Errorf("read values: %w", err)}
	}
	tree, err := chart.MergeValues([]chart.ValuesFile{{Name: b.File, Data: data}})
	if err != nil {
		return nil, &ValuesError{err}
	}
	for _, path := range b.Drop {
		drop(tree, path)
	}
	if data, err = json.Marshal(tree); err != nil { // JSON is YAML
		return nil, &ValuesError{fmt.Errorf("values file %q: %w", b.File, err)}
	}
	return []chart.ValuesFile{{Name: b.File, Data: data}}, nil
}

// drop removes what is at a path.
func drop(tree map[string]any, path []string) {
	for i, name := range path {
		if i == len(path)-1 {
			delete(tree, name)
			return
		}
		below, ok := tree[name].(map[string]any)
		if !ok {
			return
		}
		tree = below
	}
}
