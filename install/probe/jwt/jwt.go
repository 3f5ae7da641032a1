// Package jwt is the probe jwt.claims: is a token whole and within its time. It
// reads the registered claims exp, nbf and iat (RFC 7519 section 4.1) and knows
// the names of the others, never their values. The signature is not verified:
// only its issuer could, and inside the gap nobody holds its key.
package jwt

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/airlock-project/airlock/install"
)

// Codes. The checklist may give each another one, with codes:.
const (
	codeMalformed = "JWT-01"
	codeExpired   = "JWT-02"
	codeEarly     = "JWT-03"
	codeAlgorithm = "JWT-04"
	codeExpiring  = "JWT-05"
	codeUnlimited = "JWT-06"
)

const (
	// maxToken bounds a token, in bytes. Real ones have a few KiB.
	maxToken = 64 << 10
	// maxNames bounds how many claim names are shown, maxName the bytes of one.
	maxNames, maxName = 40, 64
	// skew is how far clocks may differ.
	skew = 5 * time.Minute
	// maxTime bounds a NumericDate: the end of the year 9999.
	maxTime         = 253402300799
	defaultWarnDays = 30
)

// Probe is jwt.claims. Now is the clock; nil means time.Now. It is safe for
// concurrent use.
type Probe struct {
	Now func() time.Time
}

// arguments are the step's with.
type arguments struct {
	Token    string            `json:"token"`
	WarnDays int               `json:"warn_days"` // warn so many days before the end
	Codes    map[string]string `json:"codes"`     // a code of this kind: what to report instead
}

// Codes implements install.Coder.
func (Probe) Codes() map[string][]string {
	return map[string][]string{
		codeMalformed: {"parts", "reason"},
		codeExpired:   {"date", "clock"},
		codeEarly:     {"claim", "date", "clock"},
		codeAlgorithm: {"alg"},
		codeExpiring:  {"date", "days"},
		codeUnlimited: {"claims"},
	}
}

// check is one look at a token.
type check struct {
	arguments
	now   time.Time
	found []install.Finding
}

// Offline implements install.Offline.
func (Probe) Offline() {}

// Run looks at the token. Nothing of it but the names of its claims, its
// algorithm and its dates reaches a finding.
func (p Probe) Run(_ context.Context, in install.Input) (install.Result, error) {
	c := &check{arguments: arguments{WarnDays: defaultWarnDays}, now: time.Now()}
	if p.Now != nil {
		c.now = p.Now()
	}
	if err := in.Decode(&c.arguments); err != nil {
		return install.Result{}, err
	}
	for code := range c.arguments.Codes {
		if _, ok := p.Codes()[code]; !ok {
			return install.Result{}, fmt.Errorf("codes: this kind reports no %q", code)
		}
	}
	if c.WarnDays < 0 || c.WarnDays > 3650 {
		return install.Result{}, fmt.Errorf("warn_days %d is not between 0 and 3650", c.WarnDays)
	}
	header, claims, err := split(c.Token)
	if err != nil {
		parts := "0"
		if c.Token != "" {
			parts = strconv.Itoa(strings.Count(c.Token, ".") + 1)
		}
		c.add(codeMalformed, install.SeverityFail, "the token is not a JWT: "+err.Error(), map[string]string{"parts": parts, "reason": err.Error()})
		return install.Result{Findings: c.found}, nil
	}
	c.algorithm(header)
	c.dates(claims)
	c.add("", install.SeverityInfo, "the token has the claims "+names(claims), nil)
	return install.Result{Findings: c.found}, nil
}

func (c *check) add(code string, severity install.Severity, detail string, fields map[string]string) {
	if own, ok := c.arguments.Codes[code]; ok {
		code = own
	}
	c.found = append(c.found, install.Finding{Code: code, Severity: severity, Detail: detail, Fields: fields})
}

// split takes a JWT in compact form (RFC 7515 section 7.1) apart.
func split(token string) (header, claims map[string]json.RawMessage, err error) {
	switch {
	case token == "":
		return nil, nil, errors.New("it is not given")
	case len(token) > maxToken:
		return nil, nil, fmt.Errorf("it is larger than %d bytes", maxToken)
	case strings.ContainsAny(token, "\"' \t\r\n"):
		return nil, nil, errors.New("it holds quotes, spaces or line breaks")
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, nil, fmt.Errorf("it has %d parts between dots, not 3", len(parts))
	}
	if header, err = object(parts[0]); err != nil {
		return nil, nil, fmt.Errorf("header: %w", err)
	}
	if claims, err = object(parts[1]); err != nil {
		return nil, nil, fmt.Errorf("payload: %w", err)
	}
	if sig, err := base64.RawURLEncoding.Strict().DecodeString(parts[2]); err != nil || len(sig) == 0 && !isNone(header) {
		return nil, nil, errors.New("signature: it is empty or not base64url")
	}
	return header, claims, nil
}

func isNone(header map[string]json.RawMessage) bool {
	alg, ok := algorithm(header)
	return ok && strings.EqualFold(alg, "none")
}

func algorithm(header map[string]json.RawMessage) (string, bool) {
	var alg string
	err := json.Unmarshal(header["alg"], &alg)
	return alg, err == nil
}

// object decodes a part. Errors quote nothing of it.
func object(part string) (map[string]json.RawMessage, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return nil, errors.New("it is not base64url")
	}
	var out map[string]json.RawMessage
	if err := json.Unmarshal(raw, &out); err != nil || out == nil {
		return nil, errors.New("it is not a JSON object")
	}
	return out, nil
}

func (c *check) algorithm(header map[string]json.RawMessage) {
	alg, ok := algorithm(header)
	switch {
	case !ok || alg == "":
		c.add(codeAlgorithm, install.SeverityFail, "the token's header names no algorithm", map[string]string{"alg": "missing"})
	case isNone(header):
		c.add(codeAlgorithm, install.SeverityFail, "the token is not signed: its algorithm is none", map[string]string{"alg": "none"})
	}
}

// dates holds exp, nbf and iat against the clock.
func (c *check) dates(claims map[string]json.RawMessage) {
	clock := c.now.UTC().Format(time.RFC3339)
	for _, name := range []string{"nbf", "iat"} {
		at, ok, err := date(claims, name)
		switch {
		case err != nil:
			c.malformed(err)
		case ok && at.After(c.now.Add(skew)):
			when := at.Format(time.RFC3339)
			c.add(codeEarly, install.SeverityFail, fmt.Sprintf("%s is %s, this machine's clock says %s", name, when, clock), map[string]string{"claim": name, "date": when, "clock": clock})
		}
	}
	end, ok, err := date(claims, "exp")
	left := end.Sub(c.now)
	days := strconv.Itoa(int(left.Hours() / 24))
	when := end.Format(time.RFC3339)
	switch {
	case err != nil:
		c.malformed(err)
	case !ok:
		c.add(codeUnlimited, install.SeverityWarn, "the token has no claim exp", map[string]string{"claims": names(claims)})
	case left <= 0:
		c.add(codeExpired, install.SeverityFail, fmt.Sprintf("exp is %s, this machine's clock says %s", when, clock), map[string]string{"date": when, "clock": clock})
	case left < time.Duration(c.WarnDays)*24*time.Hour:
		c.add(codeExpiring, install.SeverityWarn, fmt.Sprintf("exp is %s, in %s days", when, days), map[string]string{"date": when, "days": days})
	}
}

func (c *check) malformed(err error) {
	c.add(codeMalformed, install.SeverityFail, "the token is not a JWT: "+err.Error(), map[string]string{"parts": "3", "reason": err.Error()})
}

// date reads a NumericDate (RFC 7519 section 2).
func date(claims map[string]json.RawMessage, name string) (time.Time, bool, error) {
	raw, ok := claims[name]
	if !ok {
		return time.Time{}, false, nil
	}
	var n json.Number
	if err := json.Unmarshal(bytes.TrimSpace(raw), &n); err != nil || raw[0] == '"' {
		return time.Time{}, false, fmt.Errorf("claim %s is not a number", name)
	}
	seconds, err := n.Float64()
	if err != nil || seconds < 0 || seconds > maxTime {
		return time.Time{}, false, fmt.Errorf("claim %s is not a date", name)
	}
	return time.Unix(int64(seconds), 0).UTC(), true, nil
}

// names lists claim names, in quotes: an outsider chose them.
func names(claims map[string]json.RawMessage) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		if len(out) == maxNames {
			out = append(out, fmt.Sprintf("and %d more", len(claims)-maxNames))
			break
		}
		if len(name) > maxName {
			name = name[:maxName] + "…"
		}
		out = append(out, strconv.QuoteToASCII(name))
	}
	return strings.Join(out, ", ")
}
