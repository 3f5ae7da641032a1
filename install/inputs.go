package install

import (
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/install/internal/expr"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/verify"
)

// Types of input.
const (
	typeString   = "string"
	typeInt      = "int"
	typeBool     = "bool"
	typeEnum     = "enum"
	typeHostname = "hostname"
	typeURL      = "url"
	typePgURL    = "pgurl"
	typeCIDR     = "cidr"
	typePath     = "path"
	typePEM      = "pem"
	typeSecret   = "secret"
	typeList     = "list"
	typeMap      = "map"
)

var types = []string{typeString, typeInt, typeBool, typeEnum, typeHostname, typeURL, typePgURL, typeCIDR, typePath, typePEM, typeSecret, typeList, typeMap}

// builtin lists the inputs that every checklist has without declaring them.
// Relative paths of the site are relative to dir.
func builtin(site *manifests.Site, dir string, info verify.Info) map[string]any {
	in := map[string]any{
		"platform":       site.Platform,
		"airgap":         site.Airgap,
		"site.name":      site.Name,
		"bundle.product": info.Product,
		"bundle.version": info.Version,
		"bundle.release": info.Release,
		"bundle.digest":  info.Digest.String(),
	}
	if site.Registry != nil {
		in["site.registry"] = strings.TrimSuffix(site.Registry.To, "/")
	}
	if k := site.Kubernetes; k != nil {
		for name, value := range map[string]string{"namespace": k.Namespace, "context": k.Context} {
			if value != "" {
				in["site."+name] = value
			}
		}
		if k.Kubeconfig != "" {
			in["site.kubeconfig"] = sitePath(dir, strings.TrimPrefix(k.Kubeconfig, "file:"))
		}
	}
	return in
}

// builtinTypes are the types of builtin's names.
func builtinTypes() map[string]string {
	t := map[string]string{"bundle.release": typeInt}
	for _, name := range []string{"platform", "airgap", "site.name", "site.registry", "site.namespace", "site.kubeconfig", "site.context", "bundle.product", "bundle.version", "bundle.digest"} {
		t[name] = typeString
	}
	return t
}

// answers are the site's inputs after checking.
type answers struct {
	plain map[string]any    // values that may be shown
	refs  map[string]string // secrets and PEM material that is read at use: the reference
}

// held reports whether an input's value is never shown.
func held(in manifests.Input) bool { return in.Secret || in.Type == typeSecret }

// answer checks the site's inputs against the checklist and fills in defaults.
// All problems come back together.
func (p *plan) answer(site *manifests.Site, dir string, info verify.Info) (*answers, error) {
	a := &answers{plain: builtin(site, dir, info), refs: make(map[string]string)}
	var problems []Problem
	complain := func(name, format string, args ...any) {
		problems = append(problems, Problem{Where: "inputs." + name, Text: fmt.Sprintf(format, args...)})
	}
	for _, name := range slices.Sorted(maps.Keys(site.Inputs)) {
		if _, ok := p.checklist.Inputs[name]; !ok {
			complain(name, "the checklist has no such input%s", nearest(name, p.checklist.Inputs))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.checklist.Inputs)) {
		def := p.checklist.Inputs[name]
		raw, given := site.Inputs[name]
		if !given || raw == nil {
			raw = def.DefaultFor(info.Version)
		}
		if raw == nil {
			continue
		}
		if err := a.set(name, def, raw, dir, p.patterns[name]); err != nil {
			complain(name, "%s", err)
		}
	}
	wrong := func(m Problem) bool {
		return slices.ContainsFunc(problems, func(o Problem) bool { return o.Where == m.Where }) // it is there, and told already
	}
	problems = append(problems, slices.DeleteFunc(p.required(a), wrong)...)
	if len(problems) > 0 {
		return nil, &InputError{Site: site.Name, Problems: problems}
	}
	return a, nil
}

// set checks one answer and keeps it.
func (a *answers) set(name string, def manifests.Input, raw any, dir string, pattern *regexp.Regexp) error {
	val, err := expr.Normalize(raw)
	if err != nil {
		return err
	}
	if held(def) {
		s, ok := val.(string)
		if !ok || !isReference(s) {
			return errors.New("a secret is given by reference: env:NAME or file:PATH")
		}
		a.refs[name] = s
		return nil
	}
	if s, ok := val.(string); ok && def.Type == typePEM && isReference(s) {
		a.refs[name] = s
		return nil
	}
	if s, ok := val.(string); ok && def.Type == typePath {
		val = sitePath(dir, strings.TrimPrefix(s, "file:"))
	}
	if err := checkValue(def, val, pattern); err != nil {
		return err
	}
	a.plain[name] = val
	return nil
}

// required evaluates requiredWhen for everything that is not set.
func (p *plan) required(a *answers) []Problem {
	var out []Problem
	vars := a.vars(nil, nil)
	for _, name := range slices.Sorted(maps.Keys(p.requiredWhen)) {
		if a.has(name) {
			continue
		}
		x := p.requiredWhen[name]
		need, err := x.Bool(vars)
		switch {
		case err != nil:
			out = append(out, Problem{Where: "inputs." + name, Text: err.Error()})
		case need && x.Source() == "true":
			out = append(out, Problem{Where: "inputs." + name, Text: "required" + titled(p.checklist.Inputs[name])})
		case need:
			out = append(out, Problem{Where: "inputs." + name, Text: "required when " + x.Source() + titled(p.checklist.Inputs[name])})
		}
	}
	return out
}

func titled(in manifests.Input) string {
	if in.Title == "" {
		return ""
	}
	return ": " + in.Title
}

func (a *answers) has(name string) bool {
	_, plain := a.plain[name]
	_, ref := a.refs[name]
	return plain || ref
}

// vars returns what an expression sees: plain inputs, the given secrets
// (resolved by the caller) and outputs. For other secrets only has() is true.
func (a *answers) vars(secrets, outputs map[string]any) expr.Vars {
	in := maps.Clone(a.plain)
	maps.Copy(in, secrets)
	v := expr.NewVars(in, outputs)
	for name := range a.refs {
		v.Mark("in." + name)
	}
	return v
}

// checkValue checks a value against its declaration. The error quotes the
// value, so that of a secret must not be shown.
func checkValue(def manifests.Input, val any, pattern *regexp.Regexp) error {
	switch def.Type {
	case typeInt:
		return want[int64](val, "a whole number")
	case typeBool:
		return want[bool](val, "true or false")
	case typeList:
		return want[[]any](val, "a list")
	case typeMap:
		return want[map[string]any](val, "a map")
	}
	s, ok := val.(string)
	if !ok {
		return fmt.Errorf("want text, got %s; put it in quotes", describe(val))
	}
	if err := checkText(def, s); err != nil {
		return err
	}
	if pattern != nil && !pattern.MatchString(s) {
		return fmt.Errorf("%q does not match %s", s, def.Pattern)
	}
	return nil
}

func want[T any](val any, what string) error {
	if _, ok := val.(T); !ok {
		return fmt.Errorf("want %s, got %s", what, describe(val))
	}
	return nil
}

func describe(val any) string {
	switch val.(type) {
	case string:
		return "text"
	case bool:
		return "a bool"
	case int64, float64:
		return "a number"
	case []any:
		return "a list"
	case map[string]any:
		return "a map"
	}
	return "nothing"
}

func checkText(def manifests.Input, s string) error {
	switch def.Type {
	case typeEnum:
		if !slices.Contains(def.Enum, s) {
			return fmt.Errorf("%q is not one of %s", s, strings.Join(def.Enum, ", "))
		}
	case typeHostname:
		return CheckHostname(s)
	case typeURL:
		if u, err := url.Parse(s); err != nil || u.Scheme == "" || u.Host == "" {
			return fmt.Errorf("%q is not a URL such as https://host/path", s)
		}
	case typePgURL:
		if u, err := url.Parse(s); err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Host == "" {
			return fmt.Errorf("%q is not a URL such as postgres://user:password@host:5432/name (percent-encode reserved characters)", s)
		}
	case typeCIDR:
		if p, err := netip.ParsePrefix(s); err != nil || p.Masked() != p {
			return fmt.Errorf("%q is not a network such as 10.0.0.0/16", s)
		}
	case typePath:
		if s == "" || strings.ContainsRune(s, 0) {
			return fmt.Errorf("%q is not a path", s)
		}
	case typePEM:
		if b, _ := pem.Decode([]byte(s)); b == nil {
			return errors.New("not PEM; give the text, or file:PATH")
		}
	}
	return nil
}

// CheckHostname checks a fully or partly qualified DNS name (RFC 1123): lower
// case labels of letters, digits and inner hyphens, at most 253 bytes, no
// scheme, port, path, final dot or IP address.
func CheckHostname(s string) error {
	if scheme, _, ok := strings.Cut(s, "://"); ok {
		return fmt.Errorf("%q has a scheme; drop %s://", s, scheme)
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return fmt.Errorf("%q is an IP address, not a host name", s)
	}
	switch {
	case s == "":
		return errors.New("the host name is empty")
	case len(s) > 253:
		return fmt.Errorf("%.40q… has %d bytes; a host name has at most 253", s, len(s))
	case strings.Contains(s, "/"):
		return fmt.Errorf("%q has a path; give the host name only", s)
	case strings.Contains(s, ":"):
		return fmt.Errorf("%q has a port; give the host name only", s)
	case strings.HasSuffix(s, "."):
		return fmt.Errorf("%q ends in a dot", s)
	case s != strings.ToLower(s):
		return fmt.Errorf("%q has upper-case letters", s)
	}
	for label := range strings.SplitSeq(s, ".") {
		if !isLabel(label) {
			return fmt.Errorf("%q is not a host name: label %q is not 1 to 63 letters, digits and inner hyphens", s, label)
		}
	}
	return nil
}

func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// nearest suggests a declared name that differs from name by little.
func nearest(name string, inputs map[string]manifests.Input) string {
	best := closest(name, slices.Sorted(maps.Keys(inputs)))
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// closest is the first of the names that differ least from name, "" where all
// differ by more than a slip of the hand. name may also be a part of one.
func closest(name string, names []string) string {
	best, dist := "", 3
	for _, have := range names {
		if d := distance(name, have); d < dist {
			best, dist = have, d
		}
	}
	if best == "" && len(name) > 2 {
		for _, have := range names {
			if strings.Contains(have, name) {
				return have
			}
		}
	}
	return best
}

// distance is the Levenshtein distance.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diag
			if a[i] != b[j] {
				cost++
			}
			diag = row[j+1]
			row[j+1] = min(cost, row[j]+1, diag+1)
		}
	}
	return row[len(b)]
}
