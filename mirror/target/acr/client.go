package acr

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"oras.land/oras-go/v2/registry/remote/errcode"
)

const (
	// refreshUser is the user name that goes with a refresh token as password
	// (Azure/acr, docs/AAD-OAuth.md).
	refreshUser = "00000000-0000-0000-0000-000000000000"
	// renewBefore is how long before its end a login is replaced. It lasts 3 hours.
	renewBefore = 10 * time.Minute
	maxAnswer   = 1 << 20
	maxToken    = 64 << 10
	maxMessage  = 300
)

// exchange turns an access token of Entra ID into a refresh token of the
// registry (Azure/acr, docs/AAD-OAuth.md, "Calling POST /oauth2/exchange").
func (t *Target) exchange(ctx context.Context, access, tenant string) (string, error) {
	form := url.Values{"grant_type": {"access_token"}, "service": {t.host.name}, "access_token": {access}}
	if tenant != "" {
		form.Set("tenant", tenant)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.base+"/oauth2/exchange", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var out struct {
		RefreshToken string `json:"refresh_token"`
	}
	if err := t.ask(req, &out, access); err != nil {
		return "", err
	}
	if out.RefreshToken == "" || len(out.RefreshToken) > maxToken {
		return "", errors.New("the registry's answer holds no token")
	}
	return out.RefreshToken, nil
}

// ask sends a request and reads a JSON answer. Any answer but 200 is an
// *errcode.ErrorResponse, without the query and without the secrets given.
func (t *Target) ask(req *http.Request, out any, secrets ...string) error {
	resp, err := t.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return err
	}
	if len(raw) > maxAnswer {
		return fmt.Errorf("the answer of %s has more than %d bytes", t.host.name, maxAnswer)
	}
	if resp.StatusCode == http.StatusOK {
		if json.Unmarshal(raw, out) != nil {
			// The decoder's words may quote the answer, which may be a token.
			return fmt.Errorf("the answer of %s is not the JSON that it should be", t.host.name)
		}
		return nil
	}
	e := &errcode.ErrorResponse{
		Method: req.Method, StatusCode: resp.StatusCode,
		URL: &url.URL{Scheme: req.URL.Scheme, Host: req.URL.Host, Path: req.URL.Path},
	}
	var body struct {
		Errors errcode.Errors `json:"errors"`
	}
	if json.Unmarshal(raw, &body) == nil {
		e.Errors = body.Errors
	}
	for i := range e.Errors {
		e.Errors[i].Detail = nil
		for _, s := range secrets {
			e.Errors[i].Code = strings.ReplaceAll(e.Errors[i].Code, s, "…")
			e.Errors[i].Message = strings.ReplaceAll(e.Errors[i].Message, s, "…")
		}
		if m := e.Errors[i].Message; len(m) > maxMessage {
			e.Errors[i].Message = strings.ToValidUTF8(m[:maxMessage], "") + "…"
		}
	}
	return e
}

// claims are what we read of a token, unverified: they decide when to renew and
// whom a hint names, nothing else.
type claims struct {
	Exp   json.Number `json:"exp"`
	AppID string      `json:"appid"`
	OID   string      `json:"oid"`
}

func readClaims(token string) claims {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || len(token) > maxToken {
		return claims{}
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return claims{}
	}
	var c claims
	if json.Unmarshal(raw, &c) != nil {
		return claims{}
	}
	return c
}

// expires is zero where the token does not say.
func (c claims) expires() time.Time {
	n, err := c.Exp.Int64()
	// 2100 is beyond any token; a larger number is no time.
	if err != nil || n <= 0 || n > 4102444800 {
		return time.Time{}
	}
	return time.Unix(n, 0)
}

var uuid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// principal names whom a token is for, or nobody where it is not to be told.
func (c claims) principal() string {
	for _, id := range []string{c.AppID, c.OID} {
		if uuid.MatchString(id) {
			return id
		}
	}
	return ""
}
