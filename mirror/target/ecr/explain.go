package ecr

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/mirror/target"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// maxSkew is how far a clock may be off before AWS refuses what it signs
// (the service allows 5 minutes; an answer's Date is read late).
const maxSkew = 4 * time.Minute

// pushActions is the least a push needs on its repositories (Amazon ECR User
// Guide, "IAM permissions for pushing an image").
const pushActions = "ecr:BatchCheckLayerAvailability, InitiateLayerUpload, UploadLayerPart, CompleteLayerUpload, PutImage and BatchGetImage"

// identityError says that there are no AWS credentials to sign requests with.
type identityError struct{ err error }

func (e *identityError) Error() string { return fmt.Sprintf("find AWS credentials: %v", e.err) }
func (e *identityError) Unwrap() error { return e.err }

// presentable takes out of the SDK's error what may be a secret: the output of
// a credential process, and the paths of URLs that stand for a container.
func presentable(err error) error {
	if _, ok := errors.AsType[*processcreds.ProviderError](err); ok {
		return errors.New("the credential_process of the AWS configuration gave no credentials")
	}
	if _, ok := errors.AsType[*remote.PlainHTTPError](err); ok {
		return remote.Explain(err, "the credentials service")
	}
	if _, ok := errors.AsType[smithy.APIError](err); ok {
		return err
	}
	return remote.Explain(err, "the credentials service")
}

// Explain adds cause and remedy to an answer of the registry, an error of the
// API or the lack of AWS credentials, and returns any other error unchanged.
// It takes t.mu.
func (t *Target) Explain(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	if _, ok := errors.AsType[*target.Problem](err); ok {
		return err
	}
	if resp, ok := errors.AsType[*errcode.ErrorResponse](err); ok {
		return problem(err, t.host.name)(t.answer(resp))
	}
	if e, ok := errors.AsType[*regionError](err); ok {
		return problem(err, "")(target.WrongLocation, fmt.Sprintf("let AWS_ENDPOINT_URL_ECR name the API of region %s, or push to a registry in %s", e.want, e.api))
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return problem(err, t.host.name)(t.apiError(e, err))
	}
	if _, ok := errors.AsType[*identityError](err); ok {
		return problem(err, t.host.name)(target.NoCredentials, fmt.Sprintf(
			"give credentials of partition %s, with AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a web identity (which needs an STS endpoint in %s) or an instance or container role", t.host.partition, t.host.region))
	}
	if _, ok := errors.AsType[*smithy.OperationError](err); ok {
		cause := remote.Explain(err, t.apiHost())
		if _, ok := errors.AsType[*remote.UnreachableError](cause); ok {
			return problem(cause, "")(target.Unreachable, fmt.Sprintf(
				"check the region in the registry's name, and network and DNS to %s; an isolated VPC needs interface endpoints com.amazonaws.%s.ecr.api and .ecr.dkr and a gateway endpoint for S3", t.apiHost(), t.host.region))
		}
		return cause
	}
	return err
}

// problem wraps err. A refused login also becomes a *remote.AuthError for host,
// which ends a run: no other item can fare better.
func problem(err error, host string) func(target.Code, string) error {
	return func(code target.Code, remedy string) error {
		switch code {
		case "":
			return err
		case target.LoginRefused, target.LoginExpired, target.NoCredentials, target.ClockSkew:
			err = &remote.AuthError{Host: host, Err: err}
		}
		return &target.Problem{Code: code, Remedy: remedy, Err: err}
	}
}

func (t *Target) apiHost() string {
	if t.endpoint != "" {
		_, host, _ := strings.Cut(t.endpoint, "://")
		host, _, _ = strings.Cut(host, "/")
		return host
	}
	return "the Amazon ECR API in " + t.host.region
}

// answer reads an answer of the registry itself.
func (t *Target) answer(resp *errcode.ErrorResponse) (target.Code, string) {
	repo := repositoryOf(resp)
	switch {
	case has(resp, errcode.ErrorCodeNameUnknown):
		return target.RepositoryMissing, fmt.Sprintf(
			"let Airlock create repository %q in account %s, region %s (needs ecr:CreateRepository), create it, or add a repository creation template applied for CREATE_ON_PUSH", repo, t.account(), t.host.region)
	case has(resp, "TAG_INVALID"):
		return target.TagImmutable, fmt.Sprintf(
			"push under another tag, or let an exclusion filter of %q cover the tag: it exists and is immutable; nothing was changed", repo)
	case resp.StatusCode == http.StatusUnauthorized, says(resp, "token has expired"):
		return t.refused()
	case says(resp, "LimitExceeded"):
		return target.QuotaExceeded, t.quota()
	case resp.StatusCode == http.StatusForbidden && len(resp.Errors) == 0:
		// An answer to HEAD has no words: a login that ended and rights that lack
		// look the same.
		return target.Denied, "log in again if the login shown is a stored one (an Amazon ECR login lasts 12 hours), or " + t.allow("", repo)
	case resp.StatusCode == http.StatusForbidden:
		return target.Denied, t.allow(deniedAction(resp), repo)
	case resp.StatusCode == http.StatusMethodNotAllowed:
		return target.Unsupported, "leave out artifacts of this kind: Amazon ECR does not take the manifest's shape or media type"
	case resp.StatusCode == http.StatusRequestEntityTooLarge, has(resp, errcode.ErrorCodeSizeInvalid):
		return target.TooLarge, "split the layer, or check proxies on the way: Amazon ECR takes layers of up to 52,000 MiB and manifests of up to 4 MiB"
	case resp.StatusCode == http.StatusTooManyRequests:
		return target.Throttled, "run again later or with fewer workers: what was sent is not sent again; PutImage is allowed 10 times a second for account and region"
	}
	return "", ""
}

// refused explains a login that the registry does not take.
func (t *Target) refused() (target.Code, string) {
	t.mu.Lock()
	login := t.login
	t.mu.Unlock()
	const renew = "log in again: an Amazon ECR login lasts 12 hours; without one of your own (docker config, --username) Airlock makes and renews it from AWS credentials"
	if login.Password == "" || !login.Expires.IsZero() && !t.opts.Now().Before(login.Expires) {
		return target.LoginExpired, renew
	}
	return target.LoginRefused, fmt.Sprintf(
		"check that the AWS credentials belong to partition %s, that account %s admits them, and that nothing else answers for %s", t.host.partition, t.account(), t.host.name)
}

func (t *Target) quota() string {
	return fmt.Sprintf("ask for a higher quota in Service Quotas, Amazon ECR, region %s (repositories in the registry, or images in a repository), or delete what is not needed", t.host.region)
}

// allow names the right that is missing and where.
func (t *Target) allow(action, repo string) string {
	if action == "" {
		action = pushActions
	}
	if repo == "" {
		return fmt.Sprintf("allow %s to these AWS credentials", action)
	}
	account := t.host.account
	if account == "" {
		account = "*"
	}
	return fmt.Sprintf("allow %s on arn:%s:ecr:%s:%s:repository/%s (a push needs %s there and ecr:GetAuthorizationToken on *)",
		action, t.host.partition, t.host.region, account, repo, pushActions)
}

// apiError reads an error of the API.
func (t *Target) apiError(e smithy.APIError, err error) (target.Code, string) {
	skew, measured := t.skew(err)
	switch e.ErrorCode() {
	case "AccessDeniedException", "AccessDenied", "UnauthorizedOperation":
		action := ""
		if op, ok := errors.AsType[*smithy.OperationError](err); ok {
			action = strings.ToLower(op.Service()) + ":" + op.Operation()
		}
		return target.Denied, t.allow(action, "")
	case "BlockedByOrganizationPolicyException":
		return target.Denied, "have the organization's policy allow it: a service control policy refuses this call"
	case "KmsException":
		return target.Denied, "allow kms:CreateGrant and kms:DescribeKey on the key that encrypts the repository, and check that it is enabled and in " + t.host.region
	case "RepositoryNotFoundException":
		return target.RepositoryMissing, "create the repository, or let Airlock create repositories"
	case "LimitExceededException", "ServiceQuotaExceededException", "TooManyTagsException":
		return target.QuotaExceeded, t.quota()
	case "ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded":
		return target.Throttled, "run again later: the API takes no more requests from this account and region now"
	case "ExpiredTokenException", "ExpiredToken":
		return target.LoginExpired, "renew the AWS credentials (aws sso login, a new session token): they have expired"
	case "RequestTimeTooSkewed", "RequestInTheFuture", "RequestExpired":
		return target.ClockSkew, setClock(skew, measured)
	case "InvalidSignatureException", "SignatureDoesNotMatch", "AuthFailure":
		switch {
		case measured && skew.Abs() >= maxSkew:
			return target.ClockSkew, setClock(skew, measured)
		case t.endpoint != "":
			return target.WrongLocation, fmt.Sprintf("let AWS_ENDPOINT_URL_ECR name the API of region %s, and check the secret access key", t.host.region)
		}
		return target.LoginRefused, "check the secret access key: the signature made with it is not valid"
	case "UnrecognizedClientException", "InvalidClientTokenId", "MissingAuthenticationTokenException", "IncompleteSignatureException":
		return target.LoginRefused, fmt.Sprintf("give credentials of partition %s: those used (%s) are not known there", t.host.partition, t.source())
	}
	return "", ""
}

func (t *Target) source() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.by
}

// skew measures how far this machine's clock is behind the API's (ahead:
// negative), by the date of the answer.
func (t *Target) skew(err error) (time.Duration, bool) {
	re, ok := errors.AsType[*smithyhttp.ResponseError](err)
	if !ok || re.Response == nil {
		return 0, false
	}
	date, err := http.ParseTime(re.Response.Header.Get("Date"))
	if err != nil {
		return 0, false
	}
	return date.Sub(t.opts.Now()).Round(time.Second), true
}

func setClock(skew time.Duration, measured bool) string {
	switch {
	case !measured:
		return "set this machine's clock: AWS refuses what is signed more than 5 minutes off its own time"
	case skew < 0:
		return fmt.Sprintf("set this machine's clock back: it is %v ahead of the API's, and AWS allows 5 minutes", -skew)
	}
	return fmt.Sprintf("set this machine's clock forward: it is %v behind the API's, and AWS allows 5 minutes", skew)
}

func isMissing(err error) bool {
	_, ok := errors.AsType[*types.RepositoryNotFoundException](err)
	return ok
}

func isDenied(err error) bool {
	return apiCode(err, "AccessDeniedException", "AccessDenied", "UnauthorizedOperation")
}

// isUnsupported reports whether an API does not know what it is asked for, as
// in a partition that gets features late.
func isUnsupported(err error) bool {
	return apiCode(err, "UnknownOperationException", "UnsupportedOperationException", "InvalidParameterException", "ValidationException")
}

func apiCode(err error, codes ...string) bool {
	e, ok := errors.AsType[smithy.APIError](err)
	return ok && slices.Contains(codes, e.ErrorCode())
}

func has(resp *errcode.ErrorResponse, code string) bool {
	return slices.ContainsFunc(resp.Errors, func(e errcode.Error) bool { return e.Code == code })
}

// says looks into the messages of an answer. ECR has one code, DENIED, for
// several causes, and only its words tell them apart; where they change, the
// answer is still explained, by its status.
func says(resp *errcode.ErrorResponse, phrase string) bool {
	return slices.ContainsFunc(resp.Errors, func(e errcode.Error) bool {
		return strings.Contains(strings.ToLower(e.Message), strings.ToLower(phrase))
	})
}

var (
	iamAction      = regexp.MustCompile(`not authorized to perform: (ecr:[A-Za-z]{1,64})\b`)
	repositoryPath = regexp.MustCompile(`^/v2/(.+)/(?:blobs|manifests|referrers|tags)/`)
)

func deniedAction(resp *errcode.ErrorResponse) string {
	for _, e := range resp.Errors {
		if m := iamAction.FindStringSubmatch(e.Message); m != nil {
			return m[1]
		}
	}
	return ""
}

// repositoryOf reads the repository out of the request's URL.
func repositoryOf(resp *errcode.ErrorResponse) string {
	if resp.URL == nil {
		return ""
	}
	if m := repositoryPath.FindStringSubmatch(resp.URL.Path); m != nil && checkRepository(m[1]) == nil {
		return m[1]
	}
	return ""
}
