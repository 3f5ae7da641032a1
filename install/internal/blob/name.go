package blob

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

var bucketName = map[string]*regexp.Regexp{
	TypeMinio: regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`),
	TypeAWS:   regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`),
	TypeGCP:   regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$`),
	TypeAzure: regexp.MustCompile(`^[a-z0-9](-?[a-z0-9]){2,62}$`),
}

// CheckName checks a bucket's name by the rules of a type of service. No probe
// on the wire can do it: a server may answer for "name/" as for "name", and an
// application then builds paths that are refused.
func CheckName(typ, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("it is empty")
	case strings.ContainsAny(name, `/\`):
		return fmt.Errorf("it has a slash: give the name only, without a path or a URL")
	case strings.TrimSpace(name) != name:
		return fmt.Errorf("it begins or ends with a space")
	case strings.ContainsFunc(name, unicode.IsSpace):
		return fmt.Errorf("it has a space")
	}
	rule := bucketName[typ]
	switch {
	case rule == nil:
		return nil
	case typ == TypeAzure && len(name) > 63, !rule.MatchString(name), strings.Contains(name, ".."):
		return fmt.Errorf("a bucket's name is 3 to 63 lower-case letters, digits and inner hyphens")
	}
	return nil
}
