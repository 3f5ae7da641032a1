package install

import (
	"encoding/base64"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// codeOpen is the code of what looks like a secret in an object for Git. Its
// fields are object, field and what.
const codeOpen = "GO-03"

// TreeFinding is something to look at before a tree is committed.
type TreeFinding struct {
	Item string `json:"item"`
	FindingReport
}

// maxOpen bounds the fields that are told of one object, and maxTreeFindings the
// findings about a tree.
const (
	maxOpen         = 10
	maxTreeFindings = 100
)

// openField is a field with what looks like a secret in clear. Nothing of the
// value is part of it.
type openField struct{ field, what string }

// finding is the finding about an open field.
func (f openField) finding(o Object) Finding {
	fields := map[string]string{"object": o.String(), "field": f.field, "what": f.what}
	return Finding{Code: codeOpen, Severity: SeverityWarn, Fields: fields, Detail: fmt.Sprintf("%s: %s has %s", o, f.field, f.what)}
}

// lookOpen adds to the report what looks like a secret in objects that are for Git.
func (g *growing) lookOpen() {
	m := ownMessages[codeOpen]
	for _, b := range g.items {
		for _, l := range b.leaves {
			for _, open := range openFields(l.Manifest) {
				if len(g.report.Findings) == maxTreeFindings {
					return
				}
				f := open.finding(l.Object())
				for k, v := range f.Fields {
					f.Fields[k] = printable(g.redact.text(v))
				}
				g.report.Findings = append(g.report.Findings, TreeFinding{l.item, FindingReport{
					Code: f.Code, Severity: f.Severity, Cause: m.cause.render(f.Fields), Fix: m.fix.render(f.Fields),
				}})
			}
		}
	}
}

// sealing are groups of objects whose fields are called like secrets and hold
// their names, or hold them encrypted.
var sealing = map[string]bool{
	"bitnami.com": true, "external-secrets.io": true, "secrets-store.csi.x-k8s.io": true, "generators.external-secrets.io": true,
	"secrets.hashicorp.com": true,
}

// openFields returns the fields of an object for Git that look like a secret in
// clear: a value under a name that says so, a URL with a password, a private key.
// It is a guess; what refers to a secret, by name, path or variable, is left out.
func openFields(m Manifest) []openField {
	o := m.Object()
	group, _, _ := strings.Cut(o.APIVersion, "/")
	if m.Secret() || m.Patch || sealing[group] {
		return nil
	}
	l := opener{names: o.Kind != "CustomResourceDefinition", files: o.Kind == "ConfigMap" && o.APIVersion == "v1"}
	for _, key := range slices.Sorted(maps.Keys(m.Tree)) {
		if key != "metadata" && key != "kind" && key != "apiVersion" {
			l.walk(key, key, m.Tree[key])
		}
	}
	if notes := mapAt(m.Tree, "metadata", "annotations"); notes != nil {
		l.names = false // names of secrets, mostly
		l.walk("metadata.annotations", "", notes)
	}
	return l.found
}

// opener looks through an object.
type opener struct {
	names bool // what is called like a secret counts
	files bool // values may be files of settings
	found []openField
}

// add tells of a field once, and of those beyond maxOpen in one.
func (l *opener) add(field, what string) {
	switch f := (openField{field, what}); {
	case len(l.found) > maxOpen, slices.Contains(l.found, f):
	case len(l.found) == maxOpen:
		l.found = append(l.found, openField{"other fields", "more like these"})
	default:
		l.found = append(l.found, f)
	}
}

// walk looks at what is at a path, under a name.
func (l *opener) walk(path, name string, v any) {
	switch t := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(t)) {
			l.walk(path+dotted(k), k, t[k])
		}
	case []any:
		for i, e := range t {
			at := path + "[" + strconv.Itoa(i) + "]"
			m, _ := e.(map[string]any)
			called, _ := m["name"].(string)
			if called != "" {
				at = path + "[" + called + "]"
			}
			if value, ok := m["value"].(string); ok && called != "" {
				l.value(at, called, value)
				continue
			}
			if text, ok := e.(string); ok {
				l.argument(at, text, t[i+1:])
				continue
			}
			l.walk(at, "", e)
		}
	case string:
		l.value(path, name, t)
	}
}

// dotted writes a name that holds dots, such as a file's, in brackets.
func dotted(name string) string {
	if strings.ContainsAny(name, ".[]/ ") {
		return "[" + name + "]"
	}
	return "." + name
}

// argument looks at an argument of a program, and at the one after a flag.
func (l *opener) argument(path, text string, next []any) {
	flag, value, given := strings.Cut(text, "=")
	name := strings.TrimLeft(flag, "-")
	switch {
	case name == flag || strings.ContainsAny(name, " \n"):
		name, value = "", text
	case !given && len(next) > 0:
		value, _ = next[0].(string)
		if strings.HasPrefix(value, "-") {
			value = ""
		}
	}
	l.value(path, name, value)
	if value != text {
		l.value(path, "", text)
	}
}

var (
	privateKey = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?:\\[nr]|\s|[A-Za-z-]+: [^\n]*\n)*[A-Za-z0-9+/]{16}`)
	inURL      = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s/@:"'<>]*:([^\s/@"'<>]+)@`)
	setting    = regexp.MustCompile(`^\s*(?:export\s+|-\s+)?["']?([A-Za-z][\w.-]{0,100})["']?\s*[:=]\s*(.*?)[\s,;]*$`)
	settings   = regexp.MustCompile(`\.(ya?ml|json|toml|ini|conf|cfg|config|properties|env)$`)
)

// value looks at one value under its name.
func (l *opener) value(path, name, value string) {
	if hasPrivateKey(value) {
		l.add(path, "a private key")
		return
	}
	for _, m := range inURL.FindAllStringSubmatch(value, 20) {
		if literal(m[1]) {
			l.add(path, "a URL with a password in it")
			return
		}
	}
	if what := spoken(name, value); what != "" {
		l.add(path, what)
		return
	}
	if !l.names {
		return
	}
	if start := strings.TrimSpace(value); strings.HasPrefix(start, "{") || strings.HasPrefix(start, "[") {
		l.pairs(path, value)
	}
	if strings.Contains(value, "\n") {
		if l.files && settings.MatchString(name) {
			l.file(path, value)
		}
		return
	}
	if saysSecret(name) && literal(value) && !named(name, value) {
		l.add(path, "a value in clear, and is called a secret")
	}
}

var (
	keywords = regexp.MustCompile(`(?i)(?:^|[;\s"'])(?:password|pwd)\s*=\s*["']?([^;\s"']+)`) // of libpq, ODBC, ADO
	server   = regexp.MustCompile(`(?i)(?:^|[;\s"'])(?:host|server|data source|addr|dbname|database|user|user id|uid)\s*=`)
	mysql    = regexp.MustCompile(`[^\s:/@"']+:([^\s@/"']+)@(?:tcp|unix)\(`)
	header   = regexp.MustCompile(`(?i)\bauthorization["']?\s*[:=]?\s*["']?(?:basic|bearer|token)\s+([\w+/=.~$(){}-]{8,})`)
	scheme   = regexp.MustCompile(`(?i)^(?:basic|bearer|token)\s+(\S{8,})$`)
	issued   = regexp.MustCompile(`\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{22}|glpat-[\w-]{20}|xox[abprs]-[\w-]{10}|sk_live_\w{16}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{16})`)
	pair     = regexp.MustCompile(`"([A-Za-z][\w.-]{0,100})"\s*:\s*"((?:[^"\\]|\\.)*)"`)
)

// spoken says what a value is that shows by its form that it holds a secret, "" if
// it does not.
func spoken(name, value string) string {
	open := func(re *regexp.Regexp) bool {
		return slices.ContainsFunc(re.FindAllStringSubmatch(value, 20), func(m []string) bool { return literal(m[1]) })
	}
	switch {
	case issued.MatchString(value):
		return "a token"
	case open(header), strings.EqualFold(name, "authorization") && open(scheme):
		return "an Authorization header"
	case server.MatchString(value) && open(keywords), open(mysql):
		return "a connection string with a password in it"
	}
	return ""
}

// pairs looks at the names and texts of JSON.
func (l *opener) pairs(path, text string) {
	for _, m := range pair.FindAllStringSubmatch(text, 10_000) {
		if saysSecret(m[1]) && literal(m[2]) && !named(m[1], m[2]) {
			l.add(path+", "+m[1], "a value in clear, and is called a secret")
		}
	}
}

// file looks at settings, one a line.
func (l *opener) file(path, text string) {
	for line := range strings.Lines(text) {
		m := setting.FindStringSubmatch(strings.TrimRight(line, "\r\n"))
		if m == nil {
			continue
		}
		name, value := m[1], strings.Trim(m[2], `"'`)
		if saysSecret(name) && literal(value) && !named(name, value) {
			l.add(path+", "+name, "a value in clear, and is called a secret")
		}
	}
}

func hasPrivateKey(value string) bool {
	if privateKey.MatchString(value) {
		return true
	}
	compact := strings.Join(strings.Fields(value), "")
	if !strings.HasPrefix(compact, "LS0tLS1CRUdJTi") { // -----BEGIN
		return false
	}
	plain, err := base64.StdEncoding.DecodeString(compact)
	return err == nil && privateKey.Match(plain)
}

// words takes a name apart: dbPassword, DB_PASSWORD and db-password are the same.
func words(name string) []string {
	var out []string
	var last rune
	at := -1
	for i, r := range name {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			at, last = -1, r
			continue
		}
		upper := unicode.IsUpper(r)
		if at < 0 || upper && !unicode.IsUpper(last) {
			at = i
			out = append(out, "")
		}
		out[len(out)-1] += string(unicode.ToLower(r))
		last = r
	}
	return out
}

// secretWords are what a secret's name ends in, alone or with the word before.
var (
	secretWords = []string{"password", "passwd", "passphrase", "pwd", "token", "secret", "apikey", "privatekey", "secretkey", "accesskey", "credentials", "credential"}
	secretPairs = []string{
		"private key", "secret key", "access key", "api key", "encryption key", "signing key", "master key", "shared key", "account key",
		"auth key", "license key",
	}
	// refers are words before "secret" of which it is the name, not the content.
	refers = []string{"existing", "tls", "pull", "ca", "cert", "certificate", "ssl", "password", "passwd", "token", "key", "credentials", "credential", "auth", "env"}
)

// saysSecret reports whether a name says that its value is a secret.
func saysSecret(name string) bool {
	w := words(name)
	if len(w) == 0 {
		return false
	}
	last := w[len(w)-1]
	before := ""
	if len(w) > 1 {
		before = w[len(w)-2]
	}
	switch {
	case last == "secret" && slices.Contains(refers, before):
		return false
	case before != "" && (last == "pass" || last == "pw" || slices.Contains(secretPairs, before+" "+last)):
		return true
	}
	return slices.ContainsFunc(secretWords, func(s string) bool { return strings.HasSuffix(last, s) })
}

var (
	objectName = regexp.MustCompile(`^[a-z0-9]+([-./][a-z0-9]+)+$`)
	uuid       = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
)

// named reports whether what is under "secret" is the name of one.
func named(name, value string) bool {
	w := words(name)
	return w[len(w)-1] == "secret" && objectName.MatchString(value) && !uuid.MatchString(value)
}

var (
	variable = regexp.MustCompile(`\$[({A-Za-z_0-9]|\{\{|%\(|^<.*>$|^ENC\[`)
	elsewhat = regexp.MustCompile(`^(true|false|yes|no|on|off|none|null|nil|~|[\[{].*|\||>|[|>]-|\*+|[xX]+|\d{1,5}(ms|s|m|h|d)?|(file|env|vault|secret|arn|op|ref\+?[a-z]*):.*|~?\.{0,2}/[\w./-]*|[A-Za-z][A-Za-z0-9+.-]*://.*|projects/.*/secrets/.*|(\S*/)*[\w.-]+\.(pem|key|crt|txt|json|ya?ml))$`)
)

// literal reports whether a value stands for itself: not a variable, a path, a
// reference, a switch or a time.
func literal(value string) bool {
	v := strings.TrimSpace(value)
	return v != "" && !variable.MatchString(v) && !elsewhat.MatchString(v)
}

// asScalar finds a short secret where it is a whole value, or the password in a
// URL: its letters alone are those of every text. It returns the field, "" if it
// is nowhere.
func asScalar(tree map[string]any, secret string) string {
	encoded := base64.StdEncoding.EncodeToString([]byte(secret))
	var find func(path string, v any) string
	find = func(path string, v any) string {
		switch t := v.(type) {
		case map[string]any:
			for _, k := range slices.Sorted(maps.Keys(t)) {
				if at := find(path+dotted(k), t[k]); at != "" {
					return at
				}
			}
		case []any:
			for i, e := range t {
				if at := find(path+"["+strconv.Itoa(i)+"]", e); at != "" {
					return at
				}
			}
		case string:
			_, value, _ := strings.Cut(t, "=") // --password=, export PASSWORD=
			if s := strings.TrimSpace(t); s == secret || s == encoded || strings.TrimSpace(value) == secret || slices.Contains(passwords(t), secret) {
				return path
			}
		}
		return ""
	}
	return strings.TrimPrefix(find("", tree), ".")
}
