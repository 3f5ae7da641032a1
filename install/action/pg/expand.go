package pg

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/install/internal/postgres"
)

// expand puts variables into a statement: :"name" as an identifier, :'name' as
// a literal. A cast, as in x::text, is none. What a variable holds is never read
// again.
func expand(s string, variables map[string]string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != ':' || i+1 == len(s) || s[i+1] != '"' && s[i+1] != '\'' || i > 0 && s[i-1] == ':' {
			b.WriteByte(s[i])
			continue
		}
		mark := s[i+1]
		end := strings.IndexByte(s[i+2:], mark)
		if end < 0 {
			return "", fmt.Errorf("%q: a variable is written as :\"name\" or :'name'", s)
		}
		name := s[i+2 : i+2+end]
		value, ok := variables[name]
		switch {
		case !ok:
			return "", fmt.Errorf("%q: there is no variable %q, but %s", s, name, strings.Join(slices.Sorted(maps.Keys(variables)), ", "))
		case value == "" || strings.ContainsRune(value, 0):
			return "", fmt.Errorf("%q: the variable %q is empty or holds a zero byte", s, name)
		case mark == '"':
			b.WriteString(postgres.Identifier(value))
		default:
			b.WriteString(postgres.Literal(value))
		}
		i += 1 + end + 1
	}
	return b.String(), nil
}
