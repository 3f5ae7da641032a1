package aws

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/install"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Codes that every kind of this package reports. The checklist may give each
// code another, with codes:.
const (
	codeIdentity    = "AWS-01"
	codeDenied      = "AWS-02"
	codeUnreachable = "AWS-03"
	codeRefused     = "AWS-04"
)

// maxMessage bounds what an API says, in bytes.
const maxMessage = 400

// withCommon adds the codes of every kind to those of one.
func withCommon(own map[string][]string) map[string][]string {
	out := map[string][]string{
		codeIdentity:    {"reason"},
		codeDenied:      {"action", "object", "reason"},
		codeUnreachable: {"action", "endpoint", "reason"},
		codeRefused:     {"action", "object", "reason"},
	}
	maps.Copy(out, own)
	return out
}

// common are arguments of every kind.
type common struct {
	Region string            `json:"region"` // "" is the environment's
	Codes  map[string]string `json:"codes"`  // a code of the kind: what to report instead
}

// look is one run of a probe.
type look struct {
	codes map[string]string
	found []install.Finding
}

// start checks the checklist's own codes.
func (c common) start(known map[string][]string) (*look, error) {
	for _, code := range slices.Sorted(maps.Keys(c.Codes)) {
		if _, ok := known[code]; !ok {
			return nil, fmt.Errorf("codes: this kind reports no %q", code)
		}
	}
	return &look{codes: c.Codes}, nil
}

func (l *look) add(code string, severity install.Severity, detail string, fields map[string]string) {
	if own, ok := l.codes[code]; ok {
		code = own
	}
	l.found = append(l.found, install.Finding{Code: code, Severity: severity, Detail: detail, Fields: fields})
}

func (l *look) fail(code, detail string, fields map[string]string) {
	l.add(code, install.SeverityFail, detail, fields)
}

func (l *look) warn(code, detail string, fields map[string]string) {
	l.add(code, install.SeverityWarn, detail, fields)
}

func (l *look) info(format string, args ...any) {
	l.add("", install.SeverityInfo, fmt.Sprintf(format, args...), nil)
}

func (l *look) result(outputs map[string]any) install.Result {
	return install.Result{Findings: l.found, Outputs: outputs}
}

// end is the result after what err came from. A call of its own: what is found
// meanwhile is in it.
func (l *look) end(outputs map[string]any, err error) (install.Result, error) {
	return l.result(outputs), err
}

// api reports why a call did not work. action is "kms:Encrypt", object what it
// was about. It returns the error where the run as a whole has to end: the
// probe's time is over.
func (l *look) api(ctx context.Context, err error, action, object string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if e, ok := errors.AsType[*identityError](err); ok {
		l.fail(codeIdentity, e.Error(), map[string]string{"reason": e.reason})
		return nil
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		reason := message(e)
		code := codeRefused
		if isDenied(e.ErrorCode()) {
			code = codeDenied
		}
		l.fail(code, fmt.Sprintf("%s %s: %s", action, object, reason), map[string]string{"action": action, "object": object, "reason": reason})
		return nil
	}
	endpoint, reason := cause(err)
	l.fail(codeUnreachable, fmt.Sprintf("%s at %s: %s", action, endpoint, reason), map[string]string{"action": action, "endpoint": endpoint, "reason": reason})
	return nil
}

// isDenied reports whether a code is one of those with which the services refuse
// a signature or an action.
func isDenied(code string) bool {
	return slices.Contains([]string{
		"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthFailure", "NotAuthorized", "KMS.AccessDeniedException",
		"InvalidClientTokenId", "UnrecognizedClientException", "InvalidSignatureException", "SignatureDoesNotMatch", "ExpiredToken",
		"ExpiredTokenException", "RequestExpired", "MissingAuthenticationToken", "OptInRequired",
	}, code)
}

// message is what an API says, short and on one line.
func message(e smithy.APIError) string {
	text := strings.Join(strings.Fields(e.ErrorMessage()), " ")
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	if text == "" {
		return e.ErrorCode()
	}
	return e.ErrorCode() + ": " + text
}

// code is the API's code of an error, "" if it is none of an API.
func code(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	return ""
}

// isOneOf reports whether an error is one of an API with one of these codes.
func isOneOf(err error, codes ...string) bool {
	have := code(err)
	// Some services put the exception's namespace before its name.
	have = have[strings.LastIndexAny(have, "#")+1:]
	return have != "" && slices.Contains(codes, have)
}

// cause takes the endpoint out of an error of the transport, and says why in few
// words. Addresses may hold nothing secret: the host is all that is shown.
func cause(err error) (endpoint, reason string) {
	endpoint = "its endpoint"
	if e, ok := errors.AsType[*url.Error](err); ok {
		if u, parseErr := url.Parse(e.URL); parseErr == nil && u.Host != "" {
			endpoint = u.Host
		}
	}
	if errors.Is(err, errPlain) {
		return endpoint, errPlain.Error()
	}
	// The SDK wraps a request that was not answered in an answer with status 0.
	if e, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && e.HTTPStatusCode() > 0 {
		return endpoint, fmt.Sprintf("something answers with HTTP status %d, and not as this API", e.HTTPStatusCode())
	}
	if _, ok := errors.AsType[*smithy.DeserializationError](err); ok {
		return endpoint, "something answers, and not as this API"
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		return endpoint, remote.Explain(e, endpoint).Error()
	}
	return endpoint, "no answer that can be understood"
}

// apiError is what of an error an API said; the error is one that isOneOf knows.
func apiError(err error) smithy.APIError {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e
	}
	return &smithy.GenericAPIError{Code: "Unknown"}
}
