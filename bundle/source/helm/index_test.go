package helm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// helmIndex is an index in the form in which Helm writes it.
func helmIndex(charts int) string {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nentries:\n")
	for i := range charts {
		fmt.Fprintf(&b, "  chart%d:\n", i)
		for v := range 3 {
			fmt.Fprintf(&b, "  - apiVersion: v2\n    description: |\n      text\n\n        chart%d:\n    name: chart%d\n    urls:\n    - chart%d-1.0.%d.tgz\n    version: 1.0.%d\n", i+1, i, i, v, v)
		}
	}
	b.WriteString("generated: \"2026-01-02T03:04:05Z\"\n")
	return b.String()
}

// TestCutEntry holds the short way through an index to the long one.
func TestCutEntry(t *testing.T) {
	raw := []byte(helmIndex(5))
	var all index
	if err := yaml.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	for name, want := range all.Entries {
		part := cutEntry(raw, name)
		if len(part) == 0 || len(part) > len(raw)/4 {
			t.Errorf("cut %d bytes of %d for %s", len(part), len(raw), name)
		}
		got, err := parseIndex(raw, name)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	if len(all.Entries) != 5 {
		t.Errorf("%d charts, want 5", len(all.Entries))
	}
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(helmIndex(2)))
	f.Add([]byte(`{"entries": {"chart0": [{"version": "1.0.0", "urls": ["a.tgz"]}, null]}}`))
	f.Add([]byte("entries: {chart0: [{version: 1.0.0}]}"))
	f.Add([]byte("entries:\n  chart0:\n  - ["))
	f.Fuzz(func(t *testing.T, raw []byte) {
		entries, err := parseIndex(raw, "chart0")
		if err != nil {
			return
		}
		var versions []string
		for _, e := range entries {
			if e != nil {
				versions = append(versions, e.Version)
			}
		}
		if i, err := choose("chart0", versions, ""); err == nil && (i < 0 || i >= len(versions)) {
			t.Errorf("chose %d of %d versions", i, len(versions))
		}
	})
}
