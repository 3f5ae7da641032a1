package expr

import (
	"errors"
	"fmt"
	"strings"
)

// rewrite gives the variable in a name that CEL's grammar accepts. Whether in
// is the variable or the operator follows from what stands before it: an
// operator needs a left operand.
func rewrite(src string) (string, error) {
	var b strings.Builder
	operand, afterDot := false, false
	for i := 0; i < len(src); {
		n, class := token(src[i:])
		if n < 0 {
			return "", errors.New("a string is not closed")
		}
		tok := src[i : i+n]
		switch class {
		case tokIdent:
			switch {
			case tok == inAlias:
				return "", fmt.Errorf("the name %q is reserved", inAlias)
			case tok == "in" && !operand && !afterDot && nextByte(src[i+n:]) == '.':
				tok, operand = inAlias, true
			case tok == "in":
				operand = false
			default:
				operand = true
			}
		case tokValue:
			operand = true
		case tokPunct:
			operand = strings.ContainsAny(tok, ")]}")
		}
		if class != tokSpace {
			afterDot = tok == "."
		}
		b.WriteString(tok)
		i += n
	}
	return b.String(), nil
}

func nextByte(s string) byte {
	s = strings.TrimLeft(s, " \t\r\n")
	if s == "" {
		return 0
	}
	return s[0]
}

type tokenClass int

const (
	tokSpace tokenClass = iota // and comments
	tokIdent
	tokValue // a string or a number
	tokPunct
)

// token returns the length and class of the token that starts s, which is not
// empty. The length is -1 for a string that does not end.
func token(s string) (int, tokenClass) {
	c := s[0]
	switch {
	case strings.IndexByte(" \t\r\n\f", c) >= 0:
		return 1, tokSpace
	case strings.HasPrefix(s, "//"):
		if i := strings.IndexByte(s, '\n'); i >= 0 {
			return i, tokSpace
		}
		return len(s), tokSpace
	case c == '"' || c == '\'':
		return stringLen(s, false), tokValue
	case isLetter(c):
		n := span(s, func(c byte) bool { return isLetter(c) || isDigit(c) })
		if n < len(s) && (s[n] == '"' || s[n] == '\'') && strings.Trim(s[:n], "rRbB") == "" {
			m := stringLen(s[n:], strings.ContainsAny(s[:n], "rR"))
			if m < 0 {
				return -1, tokValue
			}
			return n + m, tokValue
		}
		return n, tokIdent
	case isDigit(c):
		return span(s, func(c byte) bool { return isLetter(c) || isDigit(c) || c == '.' }), tokValue
	default:
		return 1, tokPunct
	}
}

// stringLen returns the length of the CEL string literal that starts s (which
// starts with a quote), or -1.
func stringLen(s string, raw bool) int {
	quote := s[:1]
	if triple := strings.Repeat(quote, 3); strings.HasPrefix(s, triple) {
		quote = triple
	}
	for i := len(quote); i < len(s); {
		switch {
		case s[i] == '\\' && !raw:
			i += 2
		case strings.HasPrefix(s[i:], quote):
			return i + len(quote)
		default:
			i++
		}
	}
	return -1
}

func span(s string, ok func(byte) bool) int {
	n := 0
	for n < len(s) && ok(s[n]) {
		n++
	}
	return n
}

func isLetter(c byte) bool { return c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }
func isDigit(c byte) bool  { return '0' <= c && c <= '9' }

// split cuts a string at its ${…} parts. Even elements are text, odd ones
// expressions. $${ stands for a literal ${.
func split(s string) ([]string, error) {
	var parts []string
	var text strings.Builder
	for i := 0; i < len(s); {
		switch {
		case strings.HasPrefix(s[i:], "$${"):
			text.WriteString("${")
			i += 3
		case strings.HasPrefix(s[i:], "${"):
			n, err := closing(s[i+2:])
			if err != nil {
				return nil, fmt.Errorf("value %q: %w", s, err)
			}
			parts = append(parts, text.String(), s[i+2:i+2+n])
			text.Reset()
			i += 2 + n + 1
		default:
			text.WriteByte(s[i])
			i++
		}
	}
	return append(parts, text.String()), nil
}

// closing returns the index of the brace that ends an expression.
func closing(s string) (int, error) {
	depth := 0
	for i := 0; i < len(s); {
		n, class := token(s[i:])
		if n < 0 {
			return 0, errors.New("a string inside ${ is not closed")
		}
		if class == tokPunct {
			switch s[i] {
			case '{':
				depth++
			case '}':
				if depth == 0 {
					return i, nil
				}
				depth--
			}
		}
		i += n
	}
	return 0, errors.New("${ is not closed")
}
