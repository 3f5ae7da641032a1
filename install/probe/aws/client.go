// Package aws holds the probes about the APIs of AWS: kms.key, sqs.queue,
// acm.certificate, ec2.network, elb.listener and ecs.service. They only describe
// and try out; nothing they do lasts.
//
// Credentials, region and endpoints come from where AWS's own tools take them:
// the environment, the shared configuration, roles; AWS_ENDPOINT_URL_<SERVICE>
// names an endpoint inside the gap, AWS_CA_BUNDLE the authority that signed it.
package aws

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"
)

const (
	// maxAnswer bounds one answer of an API. The largest, a page of security
	// groups with all their rules, has some 100 KiB.
	maxAnswer = 8 << 20
	// callTimeout bounds one request, identityTimeout the search for
	// credentials: outside AWS the instance metadata address never answers.
	callTimeout     = 30 * time.Second
	identityTimeout = 20 * time.Second
)

// identityError says that requests cannot be signed.
type identityError struct{ reason string }

func (e *identityError) Error() string { return "find AWS credentials and region: " + e.reason }

// load returns the configuration for a region; "" is the environment's.
// Credentials were found to exist.
func load(ctx context.Context, region string) (aws.Config, error) {
	ctx, cancel := context.WithTimeout(ctx, identityTimeout)
	defer cancel()
	opts := []func(*config.LoadOptions) error{
		config.WithAppID("airlock"),
		config.WithLogger(logging.Nop{}), // it would write to standard error
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(callTimeout)),
	}
	if region != "" {
		opts = append(opts, config.WithRegion(region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, opts...)
	if err != nil {
		// What the SDK says can quote a line of the configuration.
		return cfg, &identityError{"the shared configuration or AWS_CA_BUNDLE cannot be read"}
	}
	if cfg.Region == "" {
		return cfg, &identityError{"no region is given: set aws.region"}
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return cfg, &identityError{"none in environment, shared configuration, web identity or instance role"}
	}
	cfg.HTTPClient = &doer{cfg.HTTPClient}
	return cfg, nil
}

// doer bounds answers and keeps signed requests off plain HTTP.
type doer struct{ next aws.HTTPClient }

// errPlain is why a request was not sent.
var errPlain = errors.New("the endpoint has to be reached over https")

func (d *doer) Do(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !isLocal(req.URL.Hostname()) {
		return nil, errPlain
	}
	resp, err := d.next.Do(req)
	if err != nil {
		return nil, err
	}
	resp.Body = &bounded{ReadCloser: resp.Body, left: maxAnswer}
	return resp, nil
}

// isLocal reports whether a host is this machine.
func isLocal(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback() || host == "localhost"
}

// bounded is a body that ends in an error where it grows too long.
type bounded struct {
	io.ReadCloser
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("the answer is larger than %d bytes", maxAnswer)
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	return n, err
}

// split cuts an ARN (AWS General Reference, "ARN format") into its six parts.
func split(arn string) (parts []string, ok bool) {
	parts = strings.SplitN(arn, ":", 6)
	return parts, len(parts) == 6 && parts[0] == "arn" && parts[2] != "" && parts[5] != ""
}
