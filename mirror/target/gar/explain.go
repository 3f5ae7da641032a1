package gar

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/mirror/target"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// Explain wraps a registry's answer in a *target.Problem where its cause is
// known, and returns every other error unchanged.
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
		err = &remote.AuthError{Host: t.service.host, Err: err}
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

// answer reads a refusal. Status decides; where one status stands for several
// causes the registry's own words, which are all there is, tell them apart, and
// words that are not known leave the more general cause.
func (t *Target) answer(resp *errcode.ErrorResponse) (target.Code, string) {
	where, r := t.repositoryOf(resp)
	if t.tagRefused(resp) {
		return target.TagImmutable, "mirror under another tag: tags in " + where + " are immutable and nothing was changed"
	}
	switch resp.StatusCode {
	case http.StatusBadRequest:
		if has(resp, errcode.ErrorCodeNameInvalid) {
			return target.NameInvalid, "name the target " + t.service.form()
		}
	case http.StatusUnauthorized:
		return target.LoginRefused, t.loginRemedy()
	case http.StatusForbidden:
		return t.forbidden(resp, where, r.project)
	case http.StatusNotFound:
		if has(resp, errcode.ErrorCodeNameUnknown) {
			return target.RepositoryMissing, fmt.Sprintf("create %s in location %s (needs artifactregistry.repositories.create), or name the location that it is in", where, t.service.location)
		}
	case http.StatusRequestEntityTooLarge:
		return target.TooLarge, "raise the upload size limit of the proxy in front of " + t.service.host
	case http.StatusTooManyRequests:
		return target.Throttled, "run again later or with fewer workers: a project has 60,000 requests and 18,000 writes a minute and region; what was sent is not sent again"
	}
	return "", ""
}

func (t *Target) forbidden(resp *errcode.ErrorResponse, where, project string) (target.Code, string) {
	switch {
	case mentions(resp, "SERVICE_DISABLED") || mentions(resp, "has not been used in project"):
		return target.APIDisabled, "run: gcloud services enable artifactregistry.googleapis.com --project " + project
	case mentions(resp, "prohibited by organization's policy"):
		return target.Denied, "let this machine into the VPC Service Controls perimeter of project " + project + ": an access level or an ingress rule"
	case mentions(resp, "downloadArtifacts") && !t.hasCredential():
		return target.NoCredentials, "give a Google credential: the registry was asked as nobody"
	}
	return target.Denied, fmt.Sprintf("give the principal of %s the role %s on %s, and check that it exists: the registry answers the same where it does not", t.source(), roleWriter, where)
}

var manifestPath = regexp.MustCompile(`^/v2/(.+)/manifests/([^/]+)$`)

// tagRefused reports whether a tag was refused in a repository that Inspect
// saw to have immutable tags. How the registry says so is not known for sure,
// so its words do not count.
func (t *Target) tagRefused(resp *errcode.ErrorResponse) bool {
	if resp.Method != http.MethodPut || resp.URL == nil {
		return false
	}
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusConflict, http.StatusPreconditionFailed:
	case http.StatusForbidden:
		if mentions(resp, "Permission") {
			return false
		}
	default:
		return false
	}
	m := manifestPath.FindStringSubmatch(resp.URL.Path)
	if m == nil || strings.Contains(m[2], ":") {
		return false
	}
	r, _, err := t.service.split(m[1])
	t.mu.Lock()
	defer t.mu.Unlock()
	return err == nil && t.immutable[r.path]
}

// repositoryOf names the repository that an answer is about.
func (t *Target) repositoryOf(resp *errcode.ErrorResponse) (string, repository) {
	if resp.URL != nil {
		if rest, ok := strings.CutPrefix(resp.URL.Path, "/v2/"); ok {
			for _, part := range []string{"/manifests/", "/blobs/", "/referrers/", "/tags/"} {
				name, _, found := strings.Cut(rest, part)
				if r, _, err := t.service.split(name); found && err == nil {
					return "repository " + r.resource(), r
				}
			}
		}
	}
	return "the repository", repository{project: "PROJECT"}
}

// loginRemedy says what to do about a credential that the registry refuses.
func (t *Target) loginRemedy() string {
	t.credMu.Lock()
	cred := t.cred
	t.credMu.Unlock()
	switch {
	case cred.Password == "":
		return "give a Google credential, or renew the one given: access tokens live one hour"
	case !cred.Expires.IsZero() && !t.opts.Now().Before(cred.Expires):
		return "run again: the access token of " + cred.Source + " expired and a new one is fetched"
	}
	return "check " + cred.Source + ": disabled or deleted meanwhile, or this machine's clock is wrong"
}

func (t *Target) hasCredential() bool {
	t.credMu.Lock()
	defer t.credMu.Unlock()
	return t.cred.Password != ""
}

func has(resp *errcode.ErrorResponse, code string) bool {
	return slices.ContainsFunc(resp.Errors, func(e errcode.Error) bool { return e.Code == code })
}

func mentions(resp *errcode.ErrorResponse, phrase string) bool {
	return slices.ContainsFunc(resp.Errors, func(e errcode.Error) bool {
		return strings.Contains(e.Message, phrase) || strings.Contains(e.Code, phrase)
	})
}
