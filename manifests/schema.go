package manifests

import (
	"embed"
	"fmt"
	"slices"
	"strings"
)

//go:generate go test -run TestSchemas -update .

//go:embed schema/*.schema.json
var schemas embed.FS

// SchemaKinds are the kinds that have a JSON Schema, in the order of DESIGN's
// list of documents.
func SchemaKinds() []string {
	return []string{KindBundle, KindLock, KindSite, KindPolicy, KindChecklist}
}

// Schema returns the JSON Schema (draft 2020-12) of a kind of document, for
// editors. kind is one of SchemaKinds in any case. The schema holds what can be
// said of each value by itself; Parse functions also check how values fit
// together.
func Schema(kind string) ([]byte, error) {
	i := slices.IndexFunc(SchemaKinds(), func(k string) bool { return strings.EqualFold(k, kind) })
	if i < 0 {
		return nil, fmt.Errorf("find schema of %q: want one of %s", kind, strings.Join(SchemaKinds(), ", "))
	}
	data, err := schemas.ReadFile("schema/" + SchemaFile(SchemaKinds()[i]))
	if err != nil {
		return nil, fmt.Errorf("read schema of %s: %w", kind, err)
	}
	return data, nil
}

// SchemaFile is the file name of the schema of a kind.
func SchemaFile(kind string) string { return strings.ToLower(kind) + ".schema.json" }
