package manifests

import (
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// mapping returns the entries of a mapping, which the parser gives in two forms.
func mapping(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	}
	return nil, false
}

// find returns the value of the first entry named key, or nil.
func find(entries []*ast.MappingValueNode, key string) ast.Node {
	for _, e := range entries {
		if k, ok := e.Key.(*ast.StringNode); ok && k.Value == key {
			return e.Value
		}
	}
	return nil
}

// text returns the value of a string scalar in any of its styles.
func text(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	}
	return "", false
}

// shape names what kind of value n is.
func shape(n ast.Node) string {
	switch n.(type) {
	case *ast.StringNode, *ast.LiteralNode:
		return "a string"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.BoolNode:
		return "true or false"
	case *ast.NullNode, nil:
		return "nothing"
	case *ast.SequenceNode:
		return "a list"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	}
	return "something else"
}

// firstToken returns the token where a person sees n begin. A block mapping's
// own token is its first colon.
func firstToken(n ast.Node) *token.Token {
	switch n := n.(type) {
	case nil:
		return nil
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return firstToken(n.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return firstToken(n.Key)
	}
	return n.GetToken()
}

// locate returns the node at p, or the last one on the way that exists.
func locate(n ast.Node, p path) ast.Node {
	for _, step := range p {
		var next ast.Node
		switch step := step.(type) {
		case string:
			if entries, ok := mapping(n); ok {
				next = find(entries, step)
			}
		case int:
			if seq, ok := n.(*ast.SequenceNode); ok && step < len(seq.Values) {
				next = seq.Values[step]
			}
		}
		if next == nil {
			return n
		}
		n = next
	}
	return n
}

// nearest returns the name that key is most likely a misspelling of, or "".
func nearest(key string, names []string) string {
	const longest = 64 // no key is longer; bounds the work
	if len(key) > longest {
		return ""
	}
	best, distance := "", 1+max(1, len(key)/3)
	for _, name := range names {
		d := editDistance(strings.ToLower(key), strings.ToLower(name))
		if d < distance {
			best, distance = name, d
		}
	}
	return best
}

// editDistance is the Levenshtein distance in bytes with swaps of neighbours
// counted once.
func editDistance(a, b string) int {
	before, row, next := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row, next = row, next, before
	}
	return row[len(b)]
}
