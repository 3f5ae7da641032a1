package jwt

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
)

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// token makes a JWT in compact form. The signature is not verified, so any will do.
func token(header, claims string) string {
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(header)) + "." + enc([]byte(claims)) + "." + enc([]byte("signature"))
}

func claims(days int, more string) string {
	return fmt.Sprintf(`{"exp":%d,"iat":%d,"nbf":%d,"customer":"hidden-value"%s}`, now.AddDate(0, 0, days).Unix(), now.Unix()-60, now.Unix()-60, more)
}

const header = `{"alg":"RS256","typ":"JWT"}`

func TestClaims(t *testing.T) {
	good := token(header, claims(100, ""))
	for name, c := range map[string]struct {
		token    string
		code     string // "" if nothing but information is found
		severity install.Severity
		says     string
	}{
		"good":             {good, "", "", ""},
		"clocks differ":    {token(header, fmt.Sprintf(`{"exp":%d,"nbf":%d}`, now.AddDate(0, 0, 90).Unix(), now.Unix()+200)), "", "", ""},
		"fraction":         {token(header, fmt.Sprintf(`{"exp":%d.75}`, now.AddDate(0, 0, 90).Unix())), "", "", ""},
		"not given":        {"", "JWT-01", install.SeverityFail, "not given"},
		"cut":              {good[:strings.LastIndex(good, ".")], "JWT-01", install.SeverityFail, "2 parts"},
		"quotes":           {`"` + good + `"`, "JWT-01", install.SeverityFail, "quotes"},
		"line break":       {good[:20] + "\n" + good[20:], "JWT-01", install.SeverityFail, "line breaks"},
		"not base64url":    {"ä" + good, "JWT-01", install.SeverityFail, "header"},
		"no object":        {token(header, `[1]`), "JWT-01", install.SeverityFail, "payload"},
		"null":             {token(header, `null`), "JWT-01", install.SeverityFail, "payload"},
		"trailing":         {token(header, `{} {}`), "JWT-01", install.SeverityFail, "payload"},
		"no signature":     {good[:strings.LastIndex(good, ".")+1], "JWT-01", install.SeverityFail, "signature"},
		"too large":        {strings.Repeat("a", maxToken+1), "JWT-01", install.SeverityFail, "larger"},
		"exp is text":      {token(header, `{"exp":"1900000000"}`), "JWT-01", install.SeverityFail, "claim exp"},
		"exp is huge":      {token(header, `{"exp":1e300}`), "JWT-01", install.SeverityFail, "claim exp"},
		"nbf is an object": {token(header, `{"exp":1900000000,"nbf":{}}`), "JWT-01", install.SeverityFail, "claim nbf"},
		"expired":          {token(header, claims(-1, "")), "JWT-02", install.SeverityFail, "2026-05-31"},
		"future":           {token(header, fmt.Sprintf(`{"exp":%d,"nbf":%d}`, now.AddDate(0, 0, 90).Unix(), now.Unix()+400)), "JWT-03", install.SeverityFail, "nbf"},
		"none":             {token(`{"alg":"nOnE"}`, claims(90, "")), "JWT-04", install.SeverityFail, "none"},
		"none unsigned":    {strings.TrimSuffix(token(`{"alg":"none"}`, claims(90, "")), base64.RawURLEncoding.EncodeToString([]byte("signature"))), "JWT-04", install.SeverityFail, "none"},
		"no algorithm":     {token(`{}`, claims(90, "")), "JWT-04", install.SeverityFail, "no algorithm"},
		"soon":             {token(header, claims(10, "")), "JWT-05", install.SeverityWarn, "10 days"},
		"no end":           {token(header, `{"sub":"x"}`), "JWT-06", install.SeverityWarn, "no claim exp"},
	} {
		res, err := Probe{Now: func() time.Time { return now }}.Run(t.Context(), install.Input{With: map[string]any{"token": c.token}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		found := slices.DeleteFunc(res.Findings, func(f install.Finding) bool { return f.Severity == install.SeverityInfo })
		if c.code == "" {
			if len(found) != 0 {
				t.Errorf("%s: %+v", name, found)
			}
			continue
		}
		if len(found) != 1 || found[0].Code != c.code || found[0].Severity != c.severity || !strings.Contains(found[0].Detail, c.says) {
			t.Errorf("%s: %+v, want %s %q", name, found, c.code, c.says)
		}
	}
}

// TestNothingLeaks holds that names of claims are shown and values are not.
func TestNothingLeaks(t *testing.T) {
	res, err := Probe{Now: func() time.Time { return now }}.Run(t.Context(), install.Input{With: map[string]any{
		"token": token(header, claims(10, `,"\u001b[31m":1`)), "codes": map[string]any{"JWT-05": "LIC-05"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("%+v", res)
	for _, want := range []string{`"customer"`, "LIC-05", `"\x1b[31m"`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s lacks %s", text, want)
		}
	}
	if strings.Contains(text, "hidden-value") || strings.Contains(text, "\x1b") {
		t.Errorf("a value shows: %s", text)
	}
	many := make([]string, 100)
	for i := range many {
		many[i] = fmt.Sprintf(`"c%03d%s":1`, i, strings.Repeat("x", 200))
	}
	res, err = Probe{}.Run(t.Context(), install.Input{With: map[string]any{"token": token(header, "{"+strings.Join(many, ",")+"}")}})
	if err != nil || !strings.Contains(res.Findings[len(res.Findings)-1].Detail, "60 more") || len(res.Findings[len(res.Findings)-1].Detail) > 5000 {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestArguments(t *testing.T) {
	for _, with := range []map[string]any{
		{"tokn": "x"}, {"token": "x", "codes": map[string]any{"LIC-01": "JWT-01"}}, {"token": "x", "warn_days": -1}, {"token": int64(1)},
	} {
		if _, err := (Probe{}).Run(t.Context(), install.Input{With: with}); err == nil {
			t.Errorf("%v is accepted", with)
		}
	}
}
