package manifests

import (
	"bytes"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits on a document's shape, checked before the YAML parser sees it: the
// parser recurses for every level and for every key of a block mapping, and a
// Go stack that overflows cannot be recovered from.
const (
	// MaxWritten bounds the documents people write (all but the lock), in
	// bytes. A definition of 5,000 images has half of it.
	MaxWritten = 1 << 20
	// maxNesting bounds the levels of a document. The deepest real one, a
	// checklist's probe arguments, has eight.
	maxNesting = 32
	// maxKeyWork bounds the sum over all collections of the squared number of
	// their entries. The parser's time for a mapping grows with that square;
	// 2^26 takes about half a second and allows a mapping of 8,192 keys.
	maxKeyWork = 1 << 26
	// maxMarks bounds the characters that may end a token, since a token takes
	// some 300 bytes of memory. A lock of MaxDocument bytes has 1.4 million.
	maxMarks = 3 << 19
)

// document is one document on its way from bytes to a checked value.
type document struct {
	name     string
	root     ast.Node
	findings Findings
	types    map[reflect.Type]*structType
	patterns map[string]*regexp.Regexp
	wrong    map[string]bool // paths whose shape is wrong; see at
}

// parse decodes data strictly into v, a pointer to a struct that embeds
// Header, and runs check if the shape is right. It returns nil or Findings.
func parse(name string, data []byte, limit int, kind string, v any, check func(*document)) error {
	d := &document{name: name, types: map[reflect.Type]*structType{}, patterns: map[string]*regexp.Regexp{}}
	if d.read(data, limit) {
		if d.header(kind) {
			d.decode(d.root, reflect.ValueOf(v).Elem(), nil)
			d.wrong = map[string]bool{}
			for _, f := range d.findings {
				d.wrong[f.Path] = true
			}
			check(d)
		}
	}
	if len(d.findings) == 0 {
		return nil
	}
	return d.findings.sorted(name)
}

// read turns data into d.root. It reports whether there is one.
func (d *document) read(data []byte, limit int) bool {
	if len(data) > limit {
		d.whole("document has %d bytes, at most %d are allowed", len(data), limit)
		return false
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if !d.readable(data) {
		return false
	}
	marks := 0
	for _, b := range data {
		if strings.IndexByte("\n\r,:#[]{}", b) >= 0 {
			marks++
		}
	}
	if marks > maxMarks {
		d.whole("document has more lines, keys and list items than any real one")
		return false
	}
	tokens := lexer.Tokenize(string(data))
	if !d.bounded(tokens) {
		return false
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		d.syntax(err)
		return false
	}
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if d.root != nil {
			d.add(doc.Body, nil, oneDocument)
			break
		}
		d.root = doc.Body
	}
	if d.root == nil {
		d.whole("document is empty")
		return false
	}
	return true
}

// readable refuses what is not text.
func (d *document) readable(data []byte) bool {
	line, column := 1, 1
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		switch {
		case r == utf8.RuneError && n == 1:
			d.addAt(line, column, nil, "document is not UTF-8 text")
			return false
		case r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0x7f:
			d.addAt(line, column, nil, "control character %q is not allowed", r)
			return false
		case r == '\n':
			line, column = line+1, 0
		}
		column++
		data = data[n:]
	}
	return true
}

const oneDocument = "a file holds one document: remove everything from here on"

// bounded checks depth, work and the number of documents on the token stream.
func (d *document) bounded(tokens token.Tokens) bool {
	var n nesting
	content, ended := false, false
	for _, t := range tokens {
		switch t.Type {
		case token.InvalidType:
			// The parser reports it with its reason.
			return true
		case token.CommentType:
		case token.DocumentEndType:
			content, ended = true, true
		default:
			// A first "---" counts as content: a second one is refused even
			// where nothing stands between them.
			if ended || content && t.Type == token.DocumentHeaderType {
				d.addToken(t, nil, oneDocument)
				return false
			}
			content = content || t.Type != token.DirectiveType
		}
		n.token(t)
		if n.depth() > maxNesting {
			d.addToken(t, nil, "document nests deeper than %d levels", maxNesting)
			return false
		}
		if n.work() > maxKeyWork {
			d.addToken(t, nil, "too many entries in one list or mapping")
			return false
		}
	}
	return true
}

// nesting follows collections through a token stream.
type nesting struct {
	open []collection
	done int64 // work of collections that ended
}

// collection is one open list or mapping. column is 0 in flow style.
type collection struct {
	column  int
	mapping bool
	entries int64
}

func (n *nesting) depth() int { return len(n.open) }

func (n *nesting) work() int64 {
	if len(n.open) == 0 {
		return n.done
	}
	e := n.open[len(n.open)-1].entries
	return n.done + e*e
}

func (n *nesting) token(t *token.Token) {
	switch t.Type {
	case token.MappingStartType, token.SequenceStartType:
		n.open = append(n.open, collection{})
	case token.MappingEndType, token.SequenceEndType:
		n.closeFlow()
	case token.CollectEntryType:
		if i := len(n.open) - 1; i >= 0 {
			n.open[i].entries++
		}
	case token.SequenceEntryType:
		n.block(t.Position.Column, false)
	case token.MappingKeyType:
		n.block(t.Position.Column, true)
	case token.MappingValueType:
		key := t
		if t.Prev != nil {
			key = t.Prev
		}
		n.block(key.Position.Column, true)
	}
}

// block counts an entry of a block collection at column. Inside a flow
// collection nothing opens but by brackets, so it only counts there.
func (n *nesting) block(column int, mapping bool) {
	for i := len(n.open) - 1; i >= 0; i-- {
		top := &n.open[i]
		switch {
		case top.column == 0:
			top.entries++
			return
		case top.column == column && top.mapping == mapping:
			if mapping {
				top.entries++
			}
			return
		case top.column < column, top.column == column && top.mapping && !mapping:
			n.open = append(n.open, collection{column: column, mapping: mapping, entries: 1})
			return
		}
		n.done += top.entries * top.entries
		n.open = n.open[:i]
	}
	n.open = append(n.open, collection{column: column, mapping: mapping, entries: 1})
}

func (n *nesting) closeFlow() {
	for i := len(n.open) - 1; i >= 0; i-- {
		top := n.open[i]
		n.done += top.entries * top.entries
		n.open = n.open[:i]
		if top.column == 0 {
			return
		}
	}
}

// header checks apiVersion and kind before anything else: a document of another
// kind would only give a page of unknown keys.
func (d *document) header(kind string) bool {
	entries, ok := mapping(d.root)
	if !ok {
		d.add(d.root, nil, "expected a mapping that begins with apiVersion: %s and kind: %s", APIVersion, kind)
		return false
	}
	for key, want := range map[string]string{"apiVersion": APIVersion, "kind": kind} {
		node := find(entries, key)
		if node == nil {
			continue
		}
		if s, ok := text(node); ok && s != want {
			d.add(node, path{key}, "got %s, want %s", quoted(s), want)
		}
	}
	return len(d.findings) == 0
}

// add reports a finding at a node.
func (d *document) add(n ast.Node, p path, format string, args ...any) {
	d.addToken(firstToken(n), p, format, args...)
}

func (d *document) addToken(t *token.Token, p path, format string, args ...any) {
	if t == nil || t.Position == nil {
		d.addAt(0, 0, p, format, args...)
		return
	}
	d.addAt(t.Position.Line, t.Position.Column, p, format, args...)
}

// whole reports a finding about the document as a whole.
func (d *document) whole(format string, args ...any) { d.addAt(0, 0, nil, format, args...) }

func (d *document) addAt(line, column int, p path, format string, args ...any) {
	// Twice the bound is kept so that sorting still shows the first ones.
	if len(d.findings) > 2*maxFindings {
		return
	}
	d.findings = append(d.findings, Finding{
		Document: d.name, Line: line, Column: column, Path: p.String(), Message: fmt.Sprintf(format, args...),
	})
}

// at reports a finding of a check at a path: at its value, or at the nearest
// thing around it that is written. What lies at or under a place of wrong shape
// was not decoded; a finding about it would only repeat that.
func (d *document) at(p path, format string, args ...any) {
	for i := 1; i <= len(p); i++ {
		if d.wrong[p[:i].String()] {
			return
		}
	}
	d.add(locate(d.root, p), p, format, args...)
}

// syntax reports the parser's error without the source lines it quotes, which
// may hold secrets.
func (d *document) syntax(err error) {
	e, ok := err.(yaml.Error) //nolint:errorlint // the parser returns it unwrapped
	if !ok {
		d.whole("not YAML")
		return
	}
	d.addToken(e.GetToken(), nil, "not YAML: %s", strings.TrimSpace(e.GetMessage()))
}
