// Package render is the action file.render: files made from templates that the
// checklist holds, such as a unit file for a host, into the render directory;
// files with secrets into the directory of secrets.
package render

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/place"
)

// Codes.
const (
	codeRender = "RND-01" // a template does not fit its data
	codeRead   = "RND-02" // a file that is to be part of it cannot be used
)

const (
	maxRead = 4 << 20 // a bundle of authorities has 250 kB
	maxFile = 8 << 20
)

// Action is file.render. Its zero value is ready and safe for concurrent use
// with different names.
type Action struct{}

// arguments are the step's with.
type arguments struct {
	Files []file            `json:"files"`
	Data  map[string]any    `json:"data"`
	Read  map[string]string `json:"read"` // name: path; its content is data too, without the last line end
}

// file is one file to make.
type file struct {
	Name     string `json:"name"`     // below the render directory, or the directory of secrets
	Template string `json:"template"` // text/template over data
	Mode     string `json:"mode"`     // octal, 0600 or more; default 0600
	Secret   bool   `json:"secret"`   // mode 0600, in the directory of secrets
	Encode   string `json:"encode"`   // base64: what is rendered, on one line
	Output   string `json:"output"`   // its path
}

// made is a file as it has to be.
type made struct {
	file
	dir  string
	mode fs.FileMode
	data []byte
}

// problem is a finding on its way.
type problem struct {
	code, subject, reason string
}

func (p *problem) Error() string { return p.subject + ": " + p.reason }

// Codes implements install.Coder.
func (Action) Codes() map[string][]string {
	return map[string][]string{codeRender: {"file", "reason"}, codeRead: {"file", "reason"}}
}

// Grounds implements install.Grounder: files in one directory say nothing of
// another.
func (Action) Grounds(in install.Input) any {
	dir, err := filepath.Abs(in.Render)
	if err != nil {
		dir = in.Render // no working directory: Apply says so
	}
	return map[string]any{"render": dir}
}

// Plan compares the files with what is there.
func (Action) Plan(_ context.Context, in install.Input) (install.Change, error) {
	files, err := prepare(in)
	if p, ok := errors.AsType[*problem](err); ok {
		return install.Change{Summary: "render files; not yet, " + p.Error()}, nil
	}
	if err != nil {
		return install.Change{}, err
	}
	c := install.Change{Nothing: true}
	for _, f := range files {
		if !place.Same(f.dir, f.Name, f.data, f.mode) {
			c.Nothing = false
			c.Details = append(c.Details, f.Name)
		}
	}
	c.Summary = fmt.Sprintf("render %d of %d files", len(c.Details), len(files))
	return c, nil
}

// Apply writes what differs.
func (Action) Apply(_ context.Context, in install.Input) (install.Result, error) {
	files, err := prepare(in)
	if p, ok := errors.AsType[*problem](err); ok {
		return install.Result{Findings: []install.Finding{{
			Code: p.code, Detail: p.Error(), Fields: map[string]string{"file": p.subject, "reason": p.reason},
		}}}, nil
	}
	if err != nil {
		return install.Result{}, err
	}
	res := install.Result{Outputs: make(map[string]any)}
	for _, f := range files {
		full, err := filepath.Abs(filepath.Join(f.dir, f.Name))
		if err != nil {
			return res, err
		}
		if !place.Same(f.dir, f.Name, f.data, f.mode) {
			if full, err = place.Set(f.dir, f.Name, f.data, f.mode); err != nil {
				return res, err
			}
			res.Changed = true
		}
		if f.Output != "" {
			res.Outputs[f.Output] = full
		}
		if !f.Secret {
			res.Findings = append(res.Findings, install.Finding{Severity: install.SeverityInfo, Detail: "written: " + full})
		}
	}
	return res, nil
}

// prepare renders every file in memory.
func prepare(in install.Input) ([]made, error) {
	var a arguments
	if err := in.Decode(&a); err != nil {
		return nil, err
	}
	if len(a.Files) == 0 {
		return nil, errors.New("want files")
	}
	open, all, err := a.gather(in)
	if err != nil {
		return nil, err
	}
	out := make([]made, 0, len(a.Files))
	for _, f := range a.Files {
		m := made{file: f, dir: in.Render, mode: 0o600}
		data := open
		if f.Secret {
			m.dir, data = in.Secrets, all
		}
		if err := m.check(); err != nil {
			return nil, err
		}
		if m.data, err = f.render(data); err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

func (m *made) check() error {
	if err := place.Path(m.Name); err != nil {
		return err
	}
	if m.Encode != "" && m.Encode != "base64" {
		return fmt.Errorf("file %s: encode %q is not base64", m.Name, m.Encode)
	}
	if m.Mode == "" {
		return nil
	}
	mode, err := strconv.ParseUint(m.Mode, 8, 16)
	if err != nil || mode&0o600 != 0o600 || mode&^uint64(0o755) != 0 {
		return fmt.Errorf("file %s: mode %q is not an octal mode from 0600 to 0755", m.Name, m.Mode)
	}
	m.mode = fs.FileMode(mode)
	if m.Secret && m.mode != 0o600 {
		return fmt.Errorf("file %s: a file with secrets has mode 0600, not %s", m.Name, m.Mode)
	}
	return nil
}

// gather reads the files that are data. What lies in the directory of secrets
// is data only of files that go there.
func (a *arguments) gather(in install.Input) (open, all map[string]any, err error) {
	open = maps.Clone(a.Data)
	if open == nil {
		open = make(map[string]any)
	}
	all = maps.Clone(open)
	for _, name := range slices.Sorted(maps.Keys(a.Read)) {
		text, err := readFile(a.Read[name])
		if err != nil {
			return nil, nil, &problem{codeRead, a.Read[name], err.Error()}
		}
		all[name] = text
		if !within(in.Secrets, a.Read[name]) {
			open[name] = text
		}
	}
	return open, all, nil
}

func within(dir, path string) bool {
	if dir == "" {
		return false
	}
	dir, errDir := filepath.EvalSymlinks(dir)
	path, errPath := filepath.EvalSymlinks(path)
	if errDir != nil || errPath != nil {
		return false
	}
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

func readFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		if pe, ok := errors.AsType[*os.PathError](err); ok {
			err = pe.Err // the name is a field of its own
		}
		return "", err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxRead+1))
	if err != nil {
		return "", err
	}
	if len(raw) > maxRead {
		return "", fmt.Errorf("it is larger than %d bytes", maxRead)
	}
	return strings.TrimRight(string(raw), "\r\n"), nil
}

// render executes the template. A private key is no part of an open file.
func (f file) render(data map[string]any) ([]byte, error) {
	t, err := template.New(f.Name).Option("missingkey=error").Funcs(functions()).Parse(f.Template)
	if err != nil {
		return nil, fmt.Errorf("file %s: its template cannot be read: %w", f.Name, err)
	}
	var b bytes.Buffer
	if err := t.Execute(&limited{&b}, data); err != nil {
		return nil, &problem{codeRender, f.Name, strings.TrimPrefix(reason(err), "template: ")}
	}
	if !f.Secret && bytes.Contains(b.Bytes(), []byte("PRIVATE KEY-----")) {
		return nil, &problem{codeRender, f.Name, "it would hold a private key and is not declared secret"}
	}
	if f.Encode == "base64" {
		return []byte(base64.StdEncoding.EncodeToString(b.Bytes())), nil
	}
	return b.Bytes(), nil
}

// reason is the cause of a template's error, if a function of ours gave it.
func reason(err error) string {
	if c, ok := errors.AsType[*certError](err); ok {
		return c.Error()
	}
	return err.Error()
}

// limited refuses a file that grows without end.
type limited struct{ b *bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if l.b.Len()+len(p) > maxFile {
		return 0, fmt.Errorf("larger than %d bytes", maxFile)
	}
	return l.b.Write(p)
}
