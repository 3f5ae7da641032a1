package harbor

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/mirror/target"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// Harbor answers 403 DENIED, 401 and 412 for several causes each; only its
// words, as Harbor 2.16 writes them, tell them apart. Where they are others the
// more general cause is given.
const (
	phraseQuota     = "will exceed the configured upper limit"
	phraseReadOnly  = "system is in read only mode"
	phraseProxy     = "to a proxy project"
	phraseImmutable = "configured as immutable"
	phraseNoProject = "not found"

	remedyReadOnly = "wait for the upgrade or clean-up that made Harbor read-only, or let an administrator switch it off"
)

// Explain wraps a registry's answer in a *target.Problem where its cause is
// known, and returns every other error unchanged. Whether a 401 is about the
// password or about rights it knows from Inspect, which tried the login.
func (t *Target) Explain(err error) error {
	resp, ok := errors.AsType[*errcode.ErrorResponse](err)
	if !ok {
		return err
	}
	if _, ok := errors.AsType[*target.Problem](err); ok {
		return err
	}
	code, remedy := t.answer(resp)
	if code == "" {
		return err
	}
	err = withoutQuery(err, resp)
	if code == target.LoginRefused {
		err = &remote.AuthError{Host: t.opts.Host, Err: err}
	}
	return &target.Problem{Code: code, Remedy: remedy, Err: err}
}

// withoutQuery keeps the state of an upload, which is in the query of its URL,
// out of the error's text.
func withoutQuery(err error, resp *errcode.ErrorResponse) error {
	if resp.URL == nil || resp.URL.RawQuery == "" {
		return err
	}
	c := *resp
	c.URL = &url.URL{Scheme: resp.URL.Scheme, Host: resp.URL.Host, Path: resp.URL.Path}
	return &c
}

func (t *Target) answer(resp *errcode.ErrorResponse) (target.Code, string) {
	project := projectOf(resp)
	// Older releases refuse for quota with 412 or 507: the phrase stayed.
	if mentions(resp, phraseQuota) {
		return target.QuotaExceeded, fmt.Sprintf("raise the storage quota of %s, or delete what is not needed and run Harbor's garbage collection; blobs of a refused push count for a while", project)
	}
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		return t.unauthorized(resp, project)
	case http.StatusForbidden:
		return t.forbidden(resp, project)
	case http.StatusNotFound:
		if has(resp, errcode.ErrorCodeNameUnknown) || mentions(resp, "project ") && mentions(resp, phraseNoProject) {
			return target.RepositoryMissing, "create " + project + " or let a user or system robot that may create projects run this"
		}
	case http.StatusPreconditionFailed:
		switch {
		case mentions(resp, phraseImmutable):
			return target.TagImmutable, "mirror under another tag: an immutable tag rule of " + project + " keeps this one, and nothing was changed"
		case has(resp, "PROJECTPOLICYVIOLATION"):
			return target.Denied, "wait for the scan or the signature that " + project + " asks for before anyone may pull"
		}
	case http.StatusRequestEntityTooLarge:
		if len(resp.Errors) > 0 {
			return target.TooLarge, "leave the manifest out: Harbor takes none of more than 4 MiB"
		}
		return target.TooLarge, "raise the body size limit of the proxy in front of Harbor (nginx: client_max_body_size 0)"
	case http.StatusTooManyRequests:
		return target.Throttled, "run again later or with fewer workers: what was sent is not sent again"
	case http.StatusInternalServerError:
		return target.ServerFault, "look into the log of Harbor's core: it alone says why"
	}
	return "", ""
}

func (t *Target) unauthorized(resp *errcode.ErrorResponse, project string) (target.Code, string) {
	if mentions(resp, "project ") && mentions(resp, phraseNoProject) {
		return target.RepositoryMissing, "create " + project + " or let a user or system robot that may create projects run this"
	}
	if t.loginState() == loginAccepted {
		return target.Denied, fmt.Sprintf("give %s the rights repository:push and repository:pull on %s; if it worked before, check that it is not disabled or expired since", t.account(), project)
	}
	return target.LoginRefused, t.loginRemedy()
}

func (t *Target) forbidden(resp *errcode.ErrorResponse, project string) (target.Code, string) {
	switch {
	case mentions(resp, phraseReadOnly):
		return target.ReadOnly, remedyReadOnly
	case mentions(resp, phraseProxy):
		return target.NotPushable, "name another project: " + project + " is a proxy cache of another registry"
	case mentions(resp, "CSRF"):
		return target.Denied, "take the proxy that adds cookies out of the way to Harbor"
	}
	return target.Denied, fmt.Sprintf("give %s the rights repository:push and repository:pull on %s", t.account(), project)
}

// projectOf names the project that an answer is about.
func projectOf(resp *errcode.ErrorResponse) string {
	if resp.URL != nil {
		if rest, ok := strings.CutPrefix(resp.URL.Path, "/v2/"); ok {
			if name, _, found := strings.Cut(rest, "/"); found && nameComponent.MatchString(name) {
				return "project " + name
			}
		}
	}
	return "the project"
}

func has(resp *errcode.ErrorResponse, code string) bool {
	return slices.ContainsFunc(resp.Errors, func(e errcode.Error) bool { return e.Code == code })
}

func mentions(resp *errcode.ErrorResponse, phrase string) bool {
	return slices.ContainsFunc(resp.Errors, func(e errcode.Error) bool { return strings.Contains(e.Message, phrase) })
}
