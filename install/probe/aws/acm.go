package aws

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/acm"
	"github.com/aws/aws-sdk-go-v2/service/acm/types"
)

// Codes of acm.certificate.
const (
	codeCertStatus = "ACM-01"
	codeCertName   = "ACM-02"
	codeCertDate   = "ACM-03"
	codeCertRegion = "ACM-04"
	codeCertAbsent = "ACM-05"
)

const defaultWarnDays = 30

// ACM is acm.certificate. Now is the clock; nil means time.Now.
type ACM struct {
	Now func() time.Time
}

// acmArguments are the step's with.
type acmArguments struct {
	common
	ARN      string   `json:"arn"`
	Hosts    []string `json:"hosts"` // names clients use
	WarnDays int      `json:"warn_days"`
}

// Codes implements install.Coder.
func (ACM) Codes() map[string][]string {
	return withCommon(map[string][]string{
		codeCertStatus: {"arn", "status", "reason"},
		codeCertName:   {"arn", "host", "names"},
		codeCertDate:   {"arn", "date", "reason"},
		codeCertRegion: {"arn", "have", "want"},
		codeCertAbsent: {"arn", "reason"},
	})
}

// Run describes a certificate and reports why a load balancer or its clients
// would refuse it. Its output is tls.not_after.
func (p ACM) Run(ctx context.Context, in install.Input) (install.Result, error) {
	a := acmArguments{WarnDays: defaultWarnDays}
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	l, err := a.start(p.Codes())
	if err != nil {
		return install.Result{}, err
	}
	parts, ok := split(a.ARN)
	if !ok || parts[2] != "acm" || !strings.HasPrefix(parts[5], "certificate/") {
		reason := "it is not an ARN such as arn:aws:acm:REGION:ACCOUNT:certificate/ID"
		l.fail(codeCertAbsent, fmt.Sprintf("%q: %s", bounds(a.ARN), reason), map[string]string{"arn": bounds(a.ARN), "reason": reason})
		return l.result(nil), nil
	}
	cfg, err := load(ctx, a.Region)
	if err != nil {
		return l.end(nil, l.api(ctx, err, "acm:DescribeCertificate", a.ARN))
	}
	if parts[3] != cfg.Region {
		// A load balancer takes no certificate of another region.
		l.fail(codeCertRegion, fmt.Sprintf("the certificate is in %s, the deployment in %s", parts[3], cfg.Region), map[string]string{"arn": a.ARN, "have": parts[3], "want": cfg.Region})
		return l.result(nil), nil
	}
	out, err := acm.NewFromConfig(cfg).DescribeCertificate(ctx, &acm.DescribeCertificateInput{CertificateArn: aws.String(a.ARN)})
	if isOneOf(err, "ResourceNotFoundException") {
		l.fail(codeCertAbsent, "there is no certificate "+a.ARN, map[string]string{"arn": a.ARN, "reason": "there is none"})
		return l.result(nil), nil
	}
	if err != nil {
		return l.end(nil, l.api(ctx, err, "acm:DescribeCertificate", a.ARN))
	}
	if out.Certificate == nil {
		return l.end(nil, errors.New("describe certificate: the answer holds none"))
	}
	now := time.Now()
	if p.Now != nil {
		now = p.Now()
	}
	return l.result(l.certificate(a, out.Certificate, now)), nil
}

// certificate judges what was described and returns the outputs.
func (l *look) certificate(a acmArguments, c *types.CertificateDetail, now time.Time) map[string]any {
	if c.Status != types.CertificateStatusIssued {
		reason := string(c.FailureReason)
		if reason == "" {
			reason = "no reason is given"
		}
		l.fail(codeCertStatus, fmt.Sprintf("%s is %s: %s", a.ARN, c.Status, reason), map[string]string{"arn": a.ARN, "status": string(c.Status), "reason": reason})
	}
	names := strings.Join(c.SubjectAlternativeNames, ", ")
	for _, host := range a.Hosts {
		if !covers(c.SubjectAlternativeNames, host) {
			l.fail(codeCertName, fmt.Sprintf("%s lacks the name %s, it has [%s]", a.ARN, host, names), map[string]string{"arn": a.ARN, "host": host, "names": names})
		}
	}
	if c.NotAfter == nil {
		return nil // not issued yet
	}
	date := c.NotAfter.UTC().Format(time.DateOnly)
	switch left := c.NotAfter.Sub(now); {
	case left <= 0:
		l.fail(codeCertDate, fmt.Sprintf("%s has expired (%s)", a.ARN, date), map[string]string{"arn": a.ARN, "date": date, "reason": "has expired"})
	case left < time.Duration(a.WarnDays)*24*time.Hour:
		reason := fmt.Sprintf("expires in %d days", int(left.Hours()/24))
		l.warn(codeCertDate, fmt.Sprintf("%s %s (%s)", a.ARN, reason, date), map[string]string{"arn": a.ARN, "date": date, "reason": reason})
	}
	return map[string]any{"tls.not_after": c.NotAfter.UTC().Format(time.RFC3339)}
}
