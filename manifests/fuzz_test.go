package manifests

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// seed adds every document of testdata: each parser must also survive the
// documents of the others.
func seed(f *testing.F) {
	f.Helper()
	files, err := filepath.Glob("testdata/*.*")
	if err != nil || len(files) < 10 {
		f.Fatalf("find seeds: %d files, %v", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, s := range []string{
		"", "a", "- a", "a: &x [*x]", "<<: {a: b}", "? a\n: b", "a: |\n b\n", "a: !!binary x", "--- a\n--- b\n", "%YAML 1.2\n---\na: b",
		"{a, b: [c, {d}]}", "a:\n- b\n-", "\"\\ud800\": x", "a: 'b\n\n c'", "a: >-\n  b\n c", "\t", "[[[[", "}", "? ", "- - - -", "a: b: c",
	} {
		f.Add([]byte(s))
	}
}

// fuzzParser checks what holds for every parser: it returns a value or
// findings, never both, never neither, and says the same twice.
func fuzzParser[T any](f *testing.F, parse func(string, []byte) (*T, error), more func(*testing.T, *T)) {
	seed(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 64<<10 {
			return
		}
		v, err := parse("doc", data)
		if err != nil {
			findings, ok := errors.AsType[Findings](err)
			if !ok || len(findings) == 0 || v != nil {
				t.Fatalf("got value %v and error %v", v, err)
			}
			for _, finding := range findings {
				if finding.Line < 0 || finding.Line > bytes.Count(data, []byte("\n"))+bytes.Count(data, []byte("\r"))+2 || finding.Message == "" {
					t.Errorf("finding %+v lies outside the document", finding)
				}
			}
			_, again := parse("doc", data)
			if again == nil || again.Error() != err.Error() {
				t.Errorf("second run says %v, first said %v", again, err)
			}
			return
		}
		if v == nil {
			t.Fatal("neither value nor error")
		}
		if more != nil {
			more(t, v)
		}
	})
}

func FuzzParseDefinition(f *testing.F) {
	fuzzParser(f, ParseDefinition, func(t *testing.T, def *Definition) {
		if len(def.Digest()) != len("sha256:")+64 {
			t.Errorf("digest is %q", def.Digest())
		}
	})
}

func FuzzParseSite(f *testing.F)      { fuzzParser(f, ParseSite, nil) }
func FuzzParsePolicy(f *testing.F)    { fuzzParser(f, ParsePolicy, nil) }
func FuzzParseChecklist(f *testing.F) { fuzzParser(f, ParseChecklist, nil) }

func FuzzParseLock(f *testing.F) {
	fuzzParser(f, ParseLock, func(t *testing.T, l *Lock) {
		raw, err := l.Encode()
		if err != nil {
			return // a text with control characters, which YAML can escape
		}
		back, err := ParseLock("again", raw)
		if err != nil {
			t.Fatalf("encoded lock is refused: %v\n%s", err, raw)
		}
		twice, err := back.Encode()
		if err != nil || !bytes.Equal(raw, twice) {
			t.Errorf("lock changes in a round trip: %v\n%s", err, cmp.Diff(string(raw), string(twice)))
		}
	})
}

func FuzzParseRelocationMap(f *testing.F) {
	fuzzParser(f, ParseRelocationMap, func(t *testing.T, m *RelocationMap) {
		raw, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseRelocationMap("again", raw); err != nil {
			t.Errorf("encoded map is refused: %v", err)
		}
	})
}
