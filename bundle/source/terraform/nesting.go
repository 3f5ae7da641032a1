package terraform

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Limits on the shape of a configuration file. HCL's parser recurses without a
// bound, and a Go program cannot survive the end of its stack.
const (
	maxNesting   = 200   // brackets, quotes and templates inside each other
	maxUnary     = 200   // operators in a row: !!!!x
	maxTernaries = 2_000 // conditionals of a file, which nest to the right
)

// shape follows the nesting of a file.
type shape struct {
	depth, unary, ternaries int
}

func (s *shape) open()  { s.depth++; s.unary = 0 }
func (s *shape) close() { s.depth = max(0, s.depth-1); s.unary = 0 }

func (s *shape) bad() bool {
	return s.depth > maxNesting || s.unary > maxUnary || s.ternaries > maxTernaries
}

// checkNesting refuses a file that is nested too deeply to be parsed.
func checkNesting(name string, data []byte) error {
	var line int
	if strings.HasSuffix(name, ".json") {
		line = deepJSON(data)
	} else {
		line = deepHCL(name, data)
	}
	if line > 0 {
		return &SourceError{Position{name, line}, fmt.Sprintf("configuration is nested deeper than %d", maxNesting)}
	}
	return nil
}

// deepHCL returns the line where native syntax becomes too deep, or 0.
func deepHCL(name string, data []byte) int {
	tokens, _ := hclsyntax.LexConfig(data, name, hcl.InitialPos) // what it complains of, the parser does too
	var s shape
	for _, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenOParen, hclsyntax.TokenOBrack, hclsyntax.TokenOBrace, hclsyntax.TokenOQuote,
			hclsyntax.TokenOHeredoc, hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
			s.open()
		case hclsyntax.TokenCParen, hclsyntax.TokenCBrack, hclsyntax.TokenCBrace, hclsyntax.TokenCQuote,
			hclsyntax.TokenCHeredoc, hclsyntax.TokenTemplateSeqEnd:
			s.close()
		case hclsyntax.TokenBang, hclsyntax.TokenMinus:
			s.unary++
		case hclsyntax.TokenQuestion:
			s.ternaries++
		case hclsyntax.TokenNewline, hclsyntax.TokenComment:
		default:
			s.unary = 0
		}
		if s.bad() {
			return t.Range.Start.Line
		}
	}
	return 0
}

// deepJSON returns the line where JSON syntax becomes too deep, or 0. Brackets
// in strings count too: a string is a template, parsed like native syntax.
func deepJSON(data []byte) int {
	var s shape
	for i, b := range data {
		switch b {
		case '(', '[', '{':
			s.open()
		case ')', ']', '}':
			s.close()
		case '!', '-':
			s.unary++
		case '?':
			s.ternaries++
		case ' ', '\t', '\n':
		default:
			s.unary = 0
		}
		if s.bad() {
			return 1 + bytes.Count(data[:i], []byte("\n"))
		}
	}
	return 0
}
