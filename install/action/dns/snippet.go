package dns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/airlock-project/airlock/install"
)

// maxSnippet bounds what is read back of a file that is there.
const maxSnippet = 1 << 20

// Snippet is dns.snippet. Its zero value is ready and safe for concurrent use
// with different files.
type Snippet struct{}

// snippetArguments are the step's with.
type snippetArguments struct {
	Records []record `json:"records"`
	TTL     uint32   `json:"ttl"`
	To      string   `json:"to"` // file below the render directory
}

// Codes implements install.Coder.
func (Snippet) Codes() map[string][]string { return map[string][]string{codeNone: {}} }

// Grounds implements install.Grounder: a file in one render directory says
// nothing of another.
func (Snippet) Grounds(in install.Input) any { return map[string]any{"render": absolute(in.Render)} }

func absolute(dir string) string {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return dir // no working directory: Apply says so
	}
	return abs
}

// Plan says which records would be written.
func (Snippet) Plan(_ context.Context, in install.Input) (install.Change, error) {
	a, list, err := snippet(in)
	if err != nil {
		return install.Change{}, err
	}
	c := install.Change{Summary: fmt.Sprintf("write %d names into %s", len(list), a.To)}
	for _, e := range list {
		for _, rr := range e.rrs {
			c.Details = append(c.Details, text(rr))
		}
	}
	if in.Render != "" {
		old, err := read(filepath.Join(in.Render, a.To))
		c.Nothing = err == nil && bytes.Equal(old, zoneFile(list))
	}
	return c, nil
}

// Apply writes the file. Its outputs are dns.snippet (an absolute path) and
// dns.records (the lines in it).
func (Snippet) Apply(_ context.Context, in install.Input) (install.Result, error) {
	a, list, err := snippet(in)
	if err != nil {
		return install.Result{}, err
	}
	if in.Render == "" {
		return install.Result{}, errors.New("no render directory is given")
	}
	var res install.Result
	if len(list) == 0 {
		res.Findings = append(res.Findings, install.Finding{Code: codeNone, Detail: "no name has an address or a target"})
		return res, nil
	}
	if res.Changed, err = write(in.Render, a.To, zoneFile(list)); err != nil {
		return res, fmt.Errorf("write %s: %w", a.To, err)
	}
	lines := []any{}
	for _, e := range list {
		for _, rr := range e.rrs {
			lines = append(lines, text(rr))
		}
	}
	path := filepath.Join(absolute(in.Render), a.To)
	res.Outputs = map[string]any{"dns.snippet": path, "dns.records": lines}
	res.Findings = append(res.Findings, install.Finding{Severity: install.SeverityInfo, Detail: "the records for the zone are in " + path})
	return res, nil
}

func snippet(in install.Input) (snippetArguments, []entry, error) {
	a := snippetArguments{TTL: defaultTTL}
	if err := in.Decode(&a); err != nil {
		return a, nil, err
	}
	if a.To == "" || strings.HasPrefix(a.To, ".") || strings.Trim(a.To, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "" {
		return a, nil, fmt.Errorf("to %q is not one file name", a.To)
	}
	list, err := entries(a.Records, a.TTL)
	return a, list, err
}

func zoneFile(list []entry) []byte {
	var b bytes.Buffer
	for _, e := range list {
		for _, rr := range e.rrs {
			b.WriteString(text(rr) + "\n")
		}
	}
	return b.Bytes()
}

// read returns as much of a file as can be one of ours.
func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSnippet))
}

// write puts a whole file under its name, or leaves it if it is the same.
func write(dir, name string, data []byte) (changed bool, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return false, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return false, err
	}
	defer root.Close()
	old, err := root.ReadFile(name)
	if err == nil && bytes.Equal(old, data) {
		return false, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	partial := name + ".partial"
	f, err := root.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return false, err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return false, errors.Join(err, root.Remove(partial))
	}
	return true, root.Rename(partial, name)
}
