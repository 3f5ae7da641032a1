package install

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/airlock-project/airlock/manifests"
)

// Codes of what is wrong with a secret. They are the engine's own, the same in
// every checklist, which may explain them in words of its own.
const (
	codeSecretUnread = "IN-01"
	codeSecretEmpty  = "IN-02"
	codeSecretForm   = "IN-03"
	codeSecretOpen   = "IN-04" // a warning
	codeSecretShort  = "IN-05"
)

// minSecret is the length in bytes below which a secret is refused: it protects
// nothing, and to take it out of every text would leave no text to read.
const minSecret = 4

// SecretError says what is wrong with the secret, or other material by
// reference, of an input. Nothing of its value is part of it.
type SecretError struct {
	Code   string
	Input  string
	Ref    string // env:NAME or file:PATH
	Reason string
}

func (e *SecretError) Error() string {
	return fmt.Sprintf("input %s: %s: %s", e.Input, e.Ref, e.Reason)
}

func (e *SecretError) fields() map[string]string {
	return map[string]string{"name": e.Input, "ref": e.Ref, "reason": e.Reason}
}

// ownMessages explain the engine's own codes.
var ownMessages = map[string]message{
	codeSecretUnread: own("{{.name}} cannot be read from {{.ref}}: {{.reason}}", "put it there, readable by the user that runs this, or correct {{.name}} in the site file"),
	codeSecretEmpty:  own("{{.ref}}, which {{.name}} names, is empty", "write the value into it, or take {{.name}} out of the site file where it is not needed"),
	codeSecretForm:   own("{{.ref}} does not hold what {{.name}} wants: {{.reason}}", "write the value into it as text, and nothing else"),
	codeSecretOpen:   own("{{.ref}}, which {{.name}} names, can be read by every user of this machine: {{.reason}}", "take the right from others (chmod o-r), and where others use this machine, change the secret"),
	codeSecretShort:  own("{{.name}} is too short to be a secret: {{.reason}}", "set a longer one where it is used, and here"),
	codeHeld:         own("the cluster does not hold yet what is in {{.dir}}: {{.objects}}", "commit {{.dir}}, let Argo CD or Flux apply it, and run the same command again{{.secrets}}"),
	codeOpen:         own("{{.object}}, which goes into Git, has {{.what}}: {{.field}}", "before the commit, have it come from a Secret that is named there (existingSecret, secretKeyRef), and change it if it was committed"),
	CodeUntried:      own("not tried, because only the GitOps controller may change the cluster: {{.reason}}", "look at it by hand, or run this item without --render-to as somebody who may"),
}

func own(cause, fix string) message {
	m, err := compileMessage(manifests.Message{Cause: cause, Fix: fix})
	if err != nil {
		panic(err) // it is written above
	}
	return m
}

// message explains a code that a step of n reported, or the engine.
func (n *node) message(code string) (message, bool) {
	if m, ok := n.messages[code]; ok {
		return m, true
	}
	if m, ok := ownMessages[code]; ok {
		return m, true
	}
	m, ok := clusterMessages[code]
	return m, ok
}

// vetSecret says what is wrong with material that an input has by reference.
func (p *plan) vetSecret(name, ref string, raw []byte, err error) *SecretError {
	def := p.checklist.Inputs[name]
	wrong := func(code, reason string) *SecretError {
		return &SecretError{Code: code, Input: name, Ref: ref, Reason: reason}
	}
	s := string(raw)
	switch {
	case err != nil:
		return wrong(codeSecretUnread, cause(err))
	case s == "":
		return wrong(codeSecretEmpty, "it is empty")
	case !utf8.ValidString(s) || strings.ContainsRune(s, 0):
		return wrong(codeSecretForm, "it is no text")
	case checkValue(def, s, p.patterns[name]) != nil: // whose error would show it
		return wrong(codeSecretForm, "it is not a "+def.Type+" as the checklist wants it")
	case held(def) && tooShort(s):
		return wrong(codeSecretShort, fmt.Sprintf("it, or the password in it, has fewer than %d bytes", minSecret))
	}
	return nil
}

// tooShort tells a secret, or a URL whose password is one. What is no proper URL
// is left to the step that explains it.
func tooShort(s string) bool {
	if len(s) < minSecret {
		return true
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return false
	}
	pass, given := u.User.Password()
	return given && pass != "" && len(pass) < minSecret
}

// cause is the last part of an error about a file: the reference names it.
func cause(err error) string {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err.Error()
	}
	if errors.Is(err, errUnset) {
		return errUnset.Error()
	}
	return err.Error()
}

// open says whether a reference names a file that everybody may read.
func openToAll(dir, name, ref string) *SecretError {
	path, isFile := strings.CutPrefix(ref, "file:")
	if !isFile {
		return nil
	}
	fi, err := os.Stat(sitePath(dir, path))
	if err != nil {
		return nil //nolint:nilerr // what cannot be read is told where it is read
	}
	if !fi.Mode().IsRegular() || fi.Mode().Perm()&0o004 == 0 {
		return nil
	}
	return &SecretError{Code: codeSecretOpen, Input: name, Ref: ref, Reason: fmt.Sprintf("its mode is %04o", fi.Mode().Perm())}
}

// secretFindings are the findings of an error of secretsOf, one for each secret.
func (e *Engine) secretFindings(err error) []findingRecord {
	var out []findingRecord
	for _, err := range flat(err) {
		rec := findingRecord{Severity: SeverityFail, Detail: e.redact.text(err.Error())}
		if s, ok := errors.AsType[*SecretError](err); ok {
			rec.Code, rec.Fields = s.Code, s.fields()
		}
		out = append(out, rec)
	}
	return out
}

// flat are the errors joined in err.
func flat(err error) []error {
	multi, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var out []error
	for _, e := range multi.Unwrap() {
		out = append(out, flat(e)...)
	}
	return out
}
