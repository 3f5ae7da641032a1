package helm

import (
	"bytes"
	"encoding/json"

	"sigs.k8s.io/yaml"
)

// maxIndex bounds a repository's index.yaml; the largest public one has 25 MB.
const maxIndex = 64 << 20

// index is what we need of index.yaml (Helm's "The Chart Repository Guide").
type index struct {
	Entries map[string][]*indexEntry `json:"entries"`
}

type indexEntry struct {
	Version string   `json:"version"`
	URLs    []string `json:"urls"`
	Digest  string   `json:"digest"` // sha256, hex; absent in some repositories
}

// parseIndex returns the versions of one chart in an index.yaml.
func parseIndex(raw []byte, chart string) ([]*indexEntry, error) {
	var ix index
	// Large indexes are often JSON, which reads many times faster.
	if json.Valid(raw) {
		err := json.Unmarshal(raw, &ix)
		return ix.Entries[chart], err
	}
	if part := cutEntry(raw, chart); part != nil && yaml.Unmarshal(part, &ix) == nil && len(ix.Entries[chart]) > 0 {
		return ix.Entries[chart], nil
	}
	ix = index{}
	err := yaml.Unmarshal(raw, &ix)
	return ix.Entries[chart], err
}

// cutEntry cuts one chart out of an index as Helm writes it: entries at the
// left margin, charts indented by two, their versions below. A YAML parser needs
// some twenty times the size of what it reads, and an index may have megabytes
// of which one chart matters. It returns nil where the index looks different.
func cutEntry(raw []byte, chart string) []byte {
	at := []byte("\nentries:\n")
	start := bytes.Index(append([]byte("\n"), raw[:min(len(raw), len(at))]...), at)
	if start != 0 {
		if start = bytes.Index(raw, at); start < 0 {
			return nil
		}
		start++
	}
	rest := raw[start:]
	head := []byte("\n  " + chart + ":\n")
	i := bytes.Index(rest, head)
	if i < 0 {
		return nil
	}
	end := i + len(head)
	for end < len(rest) {
		line, _, _ := bytes.Cut(rest[end:], []byte("\n"))
		if !bytes.HasPrefix(line, []byte("  - ")) && !bytes.HasPrefix(line, []byte("   ")) && len(line) > 0 {
			break
		}
		end += len(line) + 1
	}
	return append([]byte("entries:"), rest[i:min(end, len(rest))]...)
}
