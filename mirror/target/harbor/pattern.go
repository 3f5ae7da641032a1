package harbor

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// maxPattern bounds a pattern of a rule; Harbor's form takes 255 characters.
const maxPattern = 1024

// compile turns a doublestar pattern into a regular expression, whose matching
// takes time linear in the name. '*' and '?' stay within a path segment, "**"
// as a whole segment crosses them and may be none, [a-z] and [^a-z] are classes,
// {a,b} are alternatives, '\' takes the next character as it is. An empty
// pattern matches everything, as in Harbor.
func compile(pattern string) (*regexp.Regexp, error) {
	if len(pattern) > maxPattern {
		return nil, fmt.Errorf("pattern has %d bytes, %d are read", len(pattern), maxPattern)
	}
	if !utf8.ValidString(pattern) {
		return nil, errors.New("pattern is not UTF-8")
	}
	if pattern == "" {
		pattern = "**"
	}
	g := globber{src: pattern}
	for g.i < len(g.src) {
		if err := g.next(); err != nil {
			return nil, fmt.Errorf("pattern %q: %w", pattern, err)
		}
	}
	if g.depth != 0 {
		return nil, fmt.Errorf("pattern %q: '{' without '}'", pattern)
	}
	return regexp.Compile(`^(?s:` + g.out.String() + `)$`)
}

// globber translates one pattern.
type globber struct {
	src   string
	i     int
	depth int // of braces
	out   strings.Builder
}

func (g *globber) next() error {
	rest := g.src[g.i:]
	switch c := rest[0]; {
	case strings.HasPrefix(rest, "/**") && g.ends(g.i+3):
		g.emit(3, `(?:/.*)?`)
	case strings.HasPrefix(rest, "**/") && g.begins():
		g.emit(3, `(?:.*/)?`)
	case strings.HasPrefix(rest, "**") && g.begins() && g.ends(g.i+2):
		g.emit(2, `.*`)
	case c == '*':
		g.emit(1, `[^/]*`)
	case c == '?':
		g.emit(1, `[^/]`)
	case c == '[':
		return g.class()
	case c == '{':
		g.depth++
		g.emit(1, `(?:`)
	case c == '}' && g.depth > 0:
		g.depth--
		g.emit(1, `)`)
	case c == ',' && g.depth > 0:
		g.emit(1, `|`)
	case c == '\\':
		if len(rest) == 1 {
			return errors.New(`'\' at the end`)
		}
		g.i++
		g.literal()
	default:
		g.literal()
	}
	return nil
}

func (g *globber) emit(n int, s string) {
	g.i += n
	g.out.WriteString(s)
}

func (g *globber) literal() {
	_, n := utf8.DecodeRuneInString(g.src[g.i:])
	g.emit(n, regexp.QuoteMeta(g.src[g.i:g.i+n]))
}

// begins and ends report whether a segment does, here and at i.
func (g *globber) begins() bool {
	return g.i == 0 || g.src[g.i-1] == '/' || g.depth > 0 && (g.src[g.i-1] == '{' || g.src[g.i-1] == ',')
}

func (g *globber) ends(i int) bool {
	return i == len(g.src) || g.depth > 0 && (g.src[i] == '}' || g.src[i] == ',')
}

// class reads [abc], [a-z], [^a-z] or [!a-z].
func (g *globber) class() error {
	g.i++
	set := `[`
	if strings.HasPrefix(g.src[g.i:], "^") || strings.HasPrefix(g.src[g.i:], "!") {
		set += `^/`
		g.i++
	}
	for n := 0; ; n++ {
		if g.i >= len(g.src) {
			return errors.New("'[' without ']'")
		}
		if g.src[g.i] == ']' {
			if n == 0 {
				return errors.New("empty class")
			}
			g.emit(1, set+`]`)
			return nil
		}
		lo, err := g.classRune()
		if err != nil {
			return err
		}
		hi := lo
		if strings.HasPrefix(g.src[g.i:], "-") && !strings.HasPrefix(g.src[g.i:], "-]") {
			g.i++
			if hi, err = g.classRune(); err != nil {
				return err
			}
		}
		if hi < lo {
			return errors.New("range backwards")
		}
		set += fmt.Sprintf(`\x{%x}-\x{%x}`, lo, hi)
	}
}

func (g *globber) classRune() (rune, error) {
	if strings.HasPrefix(g.src[g.i:], `\`) {
		g.i++
	}
	if g.i >= len(g.src) {
		return 0, errors.New("'[' without ']'")
	}
	r, n := utf8.DecodeRuneInString(g.src[g.i:])
	g.i += n
	return r, nil
}
