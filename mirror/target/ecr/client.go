package ecr

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/airlock-project/airlock/mirror/target"
	"github.com/airlock-project/airlock/mirror/target/sdk"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/smithy-go/logging"
)

// Limits on what the API and metadata services may cost us.
const (
	// renewBefore is how long before its end a login is replaced.
	renewBefore = 30 * time.Minute
	// identityTimeout bounds the search for AWS credentials. Outside AWS the
	// instance metadata address does not answer at all.
	identityTimeout = 30 * time.Second
	// maxAnswer bounds an answer of the API. A page of repositories is the
	// largest, with about 1 KiB for each of up to 1000.
	maxAnswer = 8 << 20
	// maxToken bounds a login. It is about 2.5 KiB long.
	maxToken = 64 << 10
)

// endpoint reads the API endpoint that the user names with the variables of the
// AWS command line.
func endpoint(env func(string) (string, bool)) (string, error) {
	if v, _ := env("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"); strings.EqualFold(v, "true") {
		return "", nil
	}
	for _, name := range []string{"AWS_ENDPOINT_URL_ECR", "AWS_ENDPOINT_URL"} {
		v, _ := env(name)
		if v == "" {
			continue
		}
		u, err := url.Parse(v)
		if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return "", fmt.Errorf("%s is not a URL like https://api.ecr.REGION.amazonaws.com", name)
		}
		// The answer to a login request is as good as a password.
		if u.Scheme != "https" && (u.Scheme != "http" || !local(u.Hostname())) {
			return "", fmt.Errorf("%s: %q has to be reached over https", name, u.Host)
		}
		return v, nil
	}
	return "", nil
}

// client returns the API client, with AWS credentials that were found to exist.
// t.mu is held.
func (t *Target) client(ctx context.Context) (*ecr.Client, error) {
	if t.api != nil {
		return t.api, nil
	}
	if v, _ := t.opts.LookupEnv("AWS_CA_BUNDLE"); v != "" {
		return nil, errors.New("AWS_CA_BUNDLE is set: unset it and give the file with --ca-file, which holds for registry and API alike")
	}
	ctx, cancel := context.WithTimeout(ctx, identityTimeout)
	defer cancel()
	cfg, err := config.LoadDefaultConfig(ctx, t.loadOptions()...)
	if err != nil {
		return nil, &identityError{presentable(err)}
	}
	c, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, &identityError{presentable(err)}
	}
	t.by = c.Source
	t.api = ecr.NewFromConfig(cfg, func(o *ecr.Options) {
		if t.endpoint != "" {
			// The SDK refuses these two beside an endpoint that is named.
			o.BaseEndpoint = aws.String(t.endpoint)
			o.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateDisabled
			o.EndpointOptions.UseDualStackEndpoint = aws.DualStackEndpointStateDisabled
		}
	})
	return t.api, nil
}

func (t *Target) loadOptions() []func(*config.LoadOptions) error {
	env := func(name string) string { v, _ := t.opts.LookupEnv(name); return v }
	list := []func(*config.LoadOptions) error{
		config.WithRegion(t.host.region),
		config.WithHTTPClient(&sdk.Doer{
			Client: sdk.WithoutRedirects(t.opts.HTTPClient), Metadata: t.metadata, Near: local, MaxAnswer: maxAnswer,
		}),
		config.WithAppID("airlock"),
		config.WithLogger(logging.Nop{}), // it would write to standard error
	}
	if t.host.fips {
		list = append(list, config.WithUseFIPSEndpoint(aws.FIPSEndpointStateEnabled))
	}
	if t.host.dualStack {
		list = append(list, config.WithUseDualStackEndpoint(aws.DualStackEndpointStateEnabled))
	}
	if id, key := env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY"); id != "" && key != "" {
		return append(list, config.WithCredentialsProvider(credentials.StaticCredentialsProvider{Value: aws.Credentials{
			AccessKeyID: id, SecretAccessKey: key, SessionToken: env("AWS_SESSION_TOKEN"), Source: "environment AWS_ACCESS_KEY_ID",
		}}))
	}
	if v := env("AWS_PROFILE"); v != "" {
		list = append(list, config.WithSharedConfigProfile(v))
	}
	if v := env("AWS_CONFIG_FILE"); v != "" {
		list = append(list, config.WithSharedConfigFiles([]string{v}))
	}
	if v := env("AWS_SHARED_CREDENTIALS_FILE"); v != "" {
		list = append(list, config.WithSharedCredentialsFiles([]string{v}))
	}
	return list
}

// regionError says that the API belongs to another region than the registry.
type regionError struct{ api, want string }

func (e *regionError) Error() string {
	return fmt.Sprintf("the API answers for region %q, the registry is in %q", e.api, e.want)
}

// authorize asks for a login. No error quotes anything of the answer.
// t.mu is held.
func (t *Target) authorize(ctx context.Context) (target.Credential, error) {
	api, err := t.client(ctx)
	if err != nil {
		return target.Credential{}, err
	}
	out, err := api.GetAuthorizationToken(ctx, &ecr.GetAuthorizationTokenInput{})
	if err != nil {
		return target.Credential{}, err
	}
	if len(out.AuthorizationData) == 0 {
		return target.Credential{}, errors.New("the API's answer holds no token")
	}
	d := out.AuthorizationData[0]
	if u, err := url.Parse(aws.ToString(d.ProxyEndpoint)); err == nil {
		// A token is good in one region, for every account that lets us in.
		if h, err := parseHost(bareHost(u.Host)); err == nil && h.region != t.host.region {
			return target.Credential{}, &regionError{api: h.region, want: t.host.region}
		}
	}
	if len(aws.ToString(d.AuthorizationToken)) > maxToken {
		return target.Credential{}, fmt.Errorf("the API's token has more than %d bytes", maxToken)
	}
	raw, err := base64.StdEncoding.DecodeString(aws.ToString(d.AuthorizationToken))
	if err != nil {
		return target.Credential{}, errors.New("the API's token is not base64")
	}
	user, password, ok := strings.Cut(string(raw), ":")
	if !ok || user != "AWS" || password == "" {
		return target.Credential{}, errors.New("the API's token is not of the form AWS:PASSWORD")
	}
	return target.Credential{
		Username: user, Password: password,
		Source:  "Amazon ECR token, by " + t.by,
		Expires: aws.ToTime(d.ExpiresAt),
	}, nil
}

// local reports whether a name is an address of this machine or its link, where
// the metadata services of EC2, ECS and EKS are.
func local(name string) bool {
	if sdk.Local(name) {
		return true
	}
	// The same services over IPv6.
	ip, err := netip.ParseAddr(name)
	return err == nil && netip.MustParsePrefix("fd00:ec2::/32").Contains(ip)
}
