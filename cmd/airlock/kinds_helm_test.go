package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/google/go-cmp/cmp"
)

func TestValuesFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, odd, bad := write("good.yaml", "a: 1\n"), write("a=b.yaml", "b: 2\n"), write("bad.yaml", "a: [\n")
	got, err := valuesFiles([]string{good, "cert-manager=" + good, odd})
	want := []install.ValuesFile{
		{Name: good, Data: []byte("a: 1\n")}, {Chart: "cert-manager", Name: good, Data: []byte("a: 1\n")}, {Name: odd, Data: []byte("b: 2\n")},
	}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}
	for _, arg := range []string{bad, filepath.Join(dir, "none.yaml"), dir, "https://example.com/values.yaml"} {
		if _, err := valuesFiles([]string{arg}); err == nil || !strings.Contains(err.Error(), arg) {
			t.Errorf("%s: %v", arg, err)
		}
	}
	_, err = valuesFiles([]string{"https://example.com/values.yaml"})
	if _, usage := errors.AsType[*usageError](err); !usage {
		t.Errorf("a URL: %v", err)
	}
}
