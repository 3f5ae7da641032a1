package manifests

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxFindings bounds what is reported about one document: a hostile document
// has a mistake on every line, and nobody reads further.
const maxFindings = 500

// Finding is one mistake in a document. Line and Column count from 1, columns
// in characters; both are 0 for a mistake of the document as a whole. Path is
// the place in the document: images[1].ref, inputs["db.url"]; it is empty at
// the top. Message never quotes a value that may be a secret.
type Finding struct {
	Document string `json:"document"` // name given to the parser
	Line     int    `json:"line"`
	Column   int    `json:"column"`
	Path     string `json:"path,omitempty"`
	Message  string `json:"message"`
}

// String returns "document:line:column: path: message" without the parts that
// are unknown.
func (f Finding) String() string {
	var b strings.Builder
	b.WriteString(f.Document)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", f.Line, f.Column)
	}
	if f.Path != "" {
		b.WriteString(": " + f.Path)
	}
	b.WriteString(": " + f.Message)
	return b.String()
}

// Findings is every mistake found in a document, in the order of the document.
// It is the error that all Parse functions return for a document that was
// given whole but is not right; match it with errors.AsType[Findings].
type Findings []Finding

// Error returns one line for each finding.
func (f Findings) Error() string {
	lines := make([]string, len(f))
	for i, finding := range f {
		lines[i] = finding.String()
	}
	return strings.Join(lines, "\n")
}

// sorted returns the findings in document order, bounded.
func (f Findings) sorted(document string) Findings {
	slices.SortStableFunc(f, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	f = slices.Compact(f)
	if len(f) > maxFindings {
		rest := len(f) - maxFindings
		f = append(f[:maxFindings:maxFindings], Finding{
			Document: document, Line: f[maxFindings].Line, Column: f[maxFindings].Column,
			Message: fmt.Sprintf("and at least %d more findings", rest),
		})
	}
	return f
}

// path is a place in a document: string keys and int indexes. A path is never
// changed in place; with makes a longer one.
type path []any

func (p path) with(steps ...any) path {
	return append(slices.Clip(slices.Clone(p)), steps...)
}

// String formats the path as Finding.Path promises.
func (p path) String() string {
	var b strings.Builder
	for _, step := range p {
		switch step := step.(type) {
		case int:
			fmt.Fprintf(&b, "[%d]", step)
		case string:
			switch {
			case !plainKey(step):
				fmt.Fprintf(&b, "[%s]", quoted(step))
			case b.Len() == 0:
				b.WriteString(step)
			default:
				b.WriteString("." + step)
			}
		}
	}
	return b.String()
}

func plainKey(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r == '_' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	})
}

// quoted quotes outside input for a message, cut at 80 bytes.
func quoted(s string) string {
	if len(s) > 80 {
		return fmt.Sprintf("%q…", strings.ToValidUTF8(s[:80], ""))
	}
	return fmt.Sprintf("%q", s)
}
