package registry

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/airlock-project/airlock/bundle"
	"github.com/opencontainers/go-digest"
)

// derive returns the bytes of the index that lists only the children of source
// that carried holds. Their descriptors are the source's bytes, in its order,
// so the result depends on nothing but source and the set.
func derive(source bundle.Manifest, carried func(digest.Digest) bool) ([]byte, error) {
	var doc struct {
		Manifests []json.RawMessage `json:"manifests"`
	}
	if err := json.Unmarshal(source.Raw, &doc); err != nil {
		return nil, fmt.Errorf("parse index %s: %w", source.Digest, err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"schemaVersion":2,"mediaType":%q,"manifests":[`, source.MediaType)
	n := 0
	for _, raw := range doc.Manifests {
		var child struct {
			Digest digest.Digest `json:"digest"`
		}
		if err := json.Unmarshal(raw, &child); err != nil {
			return nil, fmt.Errorf("parse index %s: %w", source.Digest, err)
		}
		if !carried(child.Digest) {
			continue
		}
		if n++; n > 1 {
			b.WriteByte(',')
		}
		b.Write(raw)
	}
	fmt.Fprintf(&b, `],"annotations":{%q:%q}}`, bundle.AnnotationDerivedFrom, source.Digest)
	return b.Bytes(), nil
}
