package blob

import (
	"errors"
	"fmt"
	"time"

	"github.com/airlock-project/airlock/install"
)

// Codes that the steps about object storage report.
const (
	CodeMissing    = "OBJ-01"
	CodeDenied     = "OBJ-02"
	CodeUnderscore = "OBJ-03"
	CodeSignedHost = "OBJ-04"
	CodeCORS       = "OBJ-05"
	CodeExpires    = "OBJ-06"
	CodeUploadsURL = "OBJ-07"
	CodeScheme     = "OBJ-08"
	CodeTrust      = "OBJ-09"
	CodeName       = "OBJ-10"
	CodeFailed     = "OBJ-11"
	CodeVersioning = "OBJ-12"
	CodeRetention  = "OBJ-13"
	CodeAnonymous  = "OBJ-14"
	CodeClock      = "OBJ-15"
	CodeTampered   = "OBJ-16"
	CodeAnyOrigin  = "OBJ-17"
	CodeAnswer     = "OBJ-18"
	CodeUnread     = "OBJ-19"
	CodeConfig     = "OBJ-20"
	CodeInsecure   = "OBJ-21"
)

var fields = map[string][]string{
	CodeMissing:    {"bucket", "purpose", "env", "reason"},
	CodeDenied:     {"bucket", "purpose", "op", "permission", "reason"},
	CodeUnderscore: {"bucket", "host", "reason"},
	CodeSignedHost: {"bucket", "host", "reason"},
	CodeCORS:       {"bucket", "host", "origin", "method", "reason"},
	CodeExpires:    {"bucket", "purpose", "days", "rule", "reason"},
	CodeUploadsURL: {"url", "want"},
	CodeScheme:     {"endpoint"},
	CodeTrust:      {"host", "reason"},
	CodeName:       {"bucket", "purpose", "env", "reason"},
	CodeFailed:     {"bucket", "purpose", "op", "reason"},
	CodeVersioning: {"bucket", "purpose", "want"},
	CodeRetention:  {"bucket", "purpose", "days", "least", "rule"},
	CodeAnonymous:  {"bucket", "purpose", "host", "reason"},
	CodeClock:      {"host", "skew"},
	CodeTampered:   {"bucket", "host", "reason"},
	CodeAnyOrigin:  {"bucket", "host", "origin"},
	CodeAnswer:     {"host", "reason"},
	CodeUnread:     {"bucket", "purpose", "what", "reason"},
	CodeConfig:     {"field", "value", "reason"},
	CodeInsecure:   {"host"},
}

// Codes maps codes to their fields, for install.Coder.
func Codes(codes ...string) map[string][]string {
	out := make(map[string][]string)
	for _, c := range codes {
		out[c] = fields[c]
	}
	return out
}

// General are the codes that any step may report that opens a service.
var General = []string{CodeScheme, CodeTrust, CodeClock, CodeAnswer, CodeConfig, CodeInsecure}

// OpenFinding turns a mistake in the configuration into a finding; other errors
// are handed back.
func OpenFinding(err error) (install.Finding, error) {
	c, ok := errors.AsType[*ConfigError](err)
	switch {
	case !ok:
		return install.Finding{}, err
	case HasScheme(err):
		return install.Finding{Code: CodeScheme, Detail: err.Error(), Fields: map[string]string{"endpoint": c.Value}}, nil
	}
	return install.Finding{Code: CodeConfig, Detail: err.Error(), Fields: map[string]string{"field": c.Field, "value": c.Value, "reason": c.Text}}, nil
}

// Finding explains an error of a service about a bucket. whole is true if it is
// about the service, so that asking on would only repeat it.
func (s *Service) Finding(err error, op, bucket, purpose, env string) (f install.Finding, whole bool) {
	if e, ok := errors.AsType[*Error](err); ok {
		op = e.Op
	}
	f = install.Finding{Detail: err.Error()}
	switch reason := textOf(err); ReasonOf(err) {
	case Missing, Elsewhere:
		if op != OpLook && op != OpCreate {
			break
		}
		f.Code, f.Fields = CodeMissing, map[string]string{"bucket": bucket, "purpose": purpose, "env": env, "reason": reason}
		return f, false
	case Denied, Unknown, Signature:
		f.Code = CodeDenied
		f.Fields = map[string]string{"bucket": bucket, "purpose": purpose, "op": op, "permission": s.Permission(op), "reason": reason}
		return f, ReasonOf(err) != Denied
	case Skew:
		return s.skewed(), true
	case Trust:
		f.Code, f.Fields = CodeTrust, map[string]string{"host": s.Host, "reason": reason}
		return f, true
	case Unreachable:
		f.Code, f.Fields = CodeAnswer, map[string]string{"host": s.Host, "reason": reason}
		return f, true
	}
	f.Code, f.Fields = CodeFailed, map[string]string{"bucket": bucket, "purpose": purpose, "op": op, "reason": textOf(err)}
	return f, false
}

const (
	// maxSkew is what SigV4 tolerates; a third of it is worth a word.
	maxSkew  = 15 * time.Minute
	warnSkew = 5 * time.Minute
)

// ClockFinding compares the clocks; nil if they agree or nobody told.
func (s *Service) ClockFinding() *install.Finding {
	skew, ok := s.Clock.Skew()
	if !ok || skew.Abs() < warnSkew {
		return nil
	}
	f := s.skewed()
	if skew.Abs() < maxSkew {
		f.Severity = install.SeverityWarn
	}
	return &f
}

func (s *Service) skewed() install.Finding {
	skew, _ := s.Clock.Skew()
	text := fmt.Sprintf("%s ahead of this machine", skew)
	if skew < 0 {
		text = fmt.Sprintf("%s behind this machine", -skew)
	}
	return install.Finding{Code: CodeClock, Detail: "the clock of " + s.Host + " is " + text, Fields: map[string]string{"host": s.Host, "skew": text}}
}

// RiskFinding records that certificates are not checked; nil if they are.
func (s *Service) RiskFinding(c Config) *install.Finding {
	if !c.AllowInsecure || !c.UseSSL || c.Type != TypeMinio {
		return nil
	}
	return &install.Finding{
		Code: CodeInsecure, Severity: install.SeverityWarn, Detail: "the certificate of " + s.Host + " is not checked",
		Fields: map[string]string{"host": s.Host},
	}
}

// Rename reports findings under the codes that a checklist chose instead.
func Rename(findings []install.Finding, codes map[string]string) []install.Finding {
	for i, f := range findings {
		if own := codes[f.Code]; own != "" {
			findings[i].Code = own
		}
	}
	return findings
}
