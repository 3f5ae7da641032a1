package acr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/mirror/target"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// maxSkew is how far a clock may be off before Entra ID refuses what it signs
// (5 minutes; an answer's Date is read late).
const maxSkew = 4 * time.Minute

// identityError says that there is no token of Entra ID. It never quotes an
// answer: a proxy may echo what was sent.
type identityError struct {
	source string
	status int       // of the answer; 0: none
	code   string    // OAuth 2 error code
	aadsts int       // Entra ID's own code; 0: none
	date   time.Time // of the answer
	err    error
}

func (e *identityError) Error() string {
	switch {
	case e.aadsts != 0:
		return fmt.Sprintf("get a token for %s: Entra ID answered %d, AADSTS%d", e.source, e.status, e.aadsts)
	case e.status != 0:
		return fmt.Sprintf("get a token for %s: the identity service answered %d %s", e.source, e.status, e.code)
	}
	return fmt.Sprintf("get a token for %s: %v", e.source, e.err)
}

func (e *identityError) Unwrap() error { return e.err }

var oauthCode = regexp.MustCompile(`^[a-z_]{1,40}$`)

// read takes codes out of an answer of the identity service.
func (e *identityError) read(resp *http.Response) {
	e.status = resp.StatusCode
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		e.date = date
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return // the status says enough
	}
	var body struct {
		Error string `json:"error"`
		Codes []int  `json:"error_codes"`
	}
	if json.Unmarshal(raw, &body) != nil {
		return
	}
	if oauthCode.MatchString(body.Error) {
		e.code = body.Error
	}
	if len(body.Codes) > 0 {
		e.aadsts = body.Codes[0]
	}
}

// Explain adds cause and remedy to an answer of the registry or of Entra ID, or
// to the lack of an identity, and returns any other error unchanged.
func (t *Target) Explain(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	if _, ok := errors.AsType[*target.Problem](err); ok {
		return err
	}
	if resp, ok := errors.AsType[*errcode.ErrorResponse](err); ok {
		return t.problem(err)(t.answer(resp))
	}
	if e, ok := errors.AsType[*identityError](err); ok {
		return t.problem(err)(t.identityProblem(e))
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound && t.host.suffix != "" {
		return t.problem(remote.Explain(err, t.host.name))(target.Unreachable, fmt.Sprintf(
			"check the name, and if the registry has a private endpoint link the private DNS zone privatelink.%s to this network, or give its address with --resolve", t.host.suffix))
	}
	return err
}

// own explains an error of this package's own requests, for which nobody else
// takes URLs out.
func (t *Target) own(err error) error {
	err = t.Explain(err)
	if _, ok := errors.AsType[*target.Problem](err); ok {
		return err
	}
	return remote.Explain(err, t.host.name)
}

// problem wraps err. A refused login also becomes a *remote.AuthError, which
// ends a run: no other item can fare better.
func (t *Target) problem(err error) func(target.Code, string) error {
	return func(code target.Code, remedy string) error {
		switch code {
		case "":
			return err
		case target.LoginRefused, target.LoginExpired, target.NoCredentials, target.ClockSkew, target.Firewall:
			err = &remote.AuthError{Host: t.host.name, Err: err}
		}
		return &target.Problem{Code: code, Remedy: remedy, Err: err}
	}
}

// answer reads an answer of the registry.
func (t *Target) answer(resp *errcode.ErrorResponse) (target.Code, string) {
	ip, blocked := blockedAddress(resp)
	switch {
	case blocked:
		return target.Firewall, fmt.Sprintf("add %s to the registry's firewall rules, or reach it by its private endpoint: this machine's address is not admitted", ip)
	case resp.StatusCode == http.StatusForbidden && says(resp, "quota"):
		return target.QuotaExceeded, fmt.Sprintf("delete what is not needed or move to a larger tier: see az acr show-usage --name %s", t.host.registry())
	case resp.StatusCode == http.StatusForbidden, resp.StatusCode == http.StatusUnauthorized:
		return t.refused(resp)
	case resp.StatusCode == http.StatusMethodNotAllowed:
		return target.Locked, "have the owner unlock the repository or tag (az acr repository update --write-enabled true), or push under another tag; quarantine and similar policies answer the same"
	case resp.StatusCode == http.StatusRequestEntityTooLarge, has(resp, "CONTENT_LENGTH_INVALID"), has(resp, errcode.ErrorCodeSizeInvalid):
		return target.TooLarge, "check proxies on the way, which may limit or re-chunk bodies: Azure takes layers of up to 200 GiB and manifests of up to 4 MiB, each with its Content-Length"
	case resp.StatusCode == http.StatusTooManyRequests:
		return target.Throttled, "run again later, with fewer workers, or move to a larger tier (Basic takes about 100 writes a minute, Premium 2,000): what was sent is not sent again"
	}
	return "", ""
}

// refused explains an answer that login or rights do not do.
func (t *Target) refused(resp *errcode.ErrorResponse) (target.Code, string) {
	t.mu.Lock()
	login, principal := t.login, t.principal
	t.mu.Unlock()
	role := fmt.Sprintf("give %s the role AcrPush on registry %s, or Container Registry Repository Writer where it is in ABAC mode, which does not honour AcrPush", orThis(principal), t.host.registry())
	exchanging := resp.URL != nil && resp.URL.Path == "/oauth2/exchange"
	switch {
	case exchanging, resp.StatusCode == http.StatusForbidden:
		return target.Denied, role
	case t.opts.Login.Password != "":
		return target.LoginRefused, "check user name and password: the admin user may be switched off, a repository token disabled or expired, or without content/write"
	case login.Password == "":
		return target.NoCredentials, "log in: nobody may push anonymously; give --username, a login in the docker config, or an identity of Entra ID"
	case !login.Expires.IsZero() && !t.opts.Now().Before(login.Expires):
		return target.LoginExpired, "run again: the login to the registry has expired, and is renewed from Entra ID"
	}
	// The registry gives a token for what an identity may do, which may be
	// nothing, and answers 401 to its use.
	return target.Denied, role
}

func orThis(principal string) string {
	if principal == "" {
		return "this identity"
	}
	return "principal " + principal
}

// identityProblem explains why there is no token. The numbers are Entra ID's
// (Microsoft identity platform, "Authentication and authorization error codes").
func (t *Target) identityProblem(e *identityError) (target.Code, string) {
	switch e.aadsts {
	case 7000215:
		return target.LoginRefused, "check AZURE_CLIENT_SECRET: it has to be a secret's value, not its ID"
	case 7000222:
		return target.LoginExpired, "make a new client secret for the service principal: this one has expired"
	case 700016, 90002:
		return target.LoginRefused, fmt.Sprintf("check AZURE_CLIENT_ID and AZURE_TENANT_ID: %s does not know them; another cloud is named with AZURE_AUTHORITY_HOST", t.authority)
	case 700027, 700024, 700021, 70021:
		if skew := e.date.Sub(t.opts.Now()).Round(time.Second); !e.date.IsZero() && skew.Abs() >= maxSkew {
			return target.ClockSkew, fmt.Sprintf("set this machine's clock: it is off by %v, and Entra ID allows 5 minutes", skew.Abs())
		}
		return target.LoginRefused, "check the certificate or federated credential that is registered for the identity: issuer, subject and audience have to match"
	case 500011:
		return target.APIDisabled, "enable Azure Container Registry in the tenant: Entra ID does not know the resource containerregistry.azure.net there"
	}
	if _, ok := errors.AsType[*remote.UnreachableError](e.err); ok {
		return target.Unreachable, fmt.Sprintf("let this machine reach %s, or use what needs no Entra ID: a repository token or the admin user, with --username", t.authority)
	}
	if e.status != 0 {
		return target.LoginRefused, fmt.Sprintf("check the identity that is set up (%s)", e.source)
	}
	return target.NoCredentials, "set up an identity: AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, a workload identity or a managed identity; or give --username"
}

var clientAddress = regexp.MustCompile(`client with IP '([0-9a-fA-F.:]{2,45})' is not allowed access`)

// blockedAddress reads which address the firewall refuses. Only the message
// tells this DENIED from others.
func blockedAddress(resp *errcode.ErrorResponse) (string, bool) {
	for _, e := range resp.Errors {
		if m := clientAddress.FindStringSubmatch(e.Message); m != nil {
			if ip, err := netip.ParseAddr(m[1]); err == nil {
				return ip.String(), true
			}
		}
	}
	return "", false
}

func has(resp *errcode.ErrorResponse, code string) bool {
	return slices.ContainsFunc(resp.Errors, func(e errcode.Error) bool { return e.Code == code })
}

// says looks into the messages of an answer, where one code has several causes;
// where the words change, the answer is still explained by its status.
func says(resp *errcode.ErrorResponse, phrase string) bool {
	return slices.ContainsFunc(resp.Errors, func(e errcode.Error) bool {
		return strings.Contains(strings.ToLower(e.Message), phrase)
	})
}
