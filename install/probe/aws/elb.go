package aws

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/airlock-project/airlock/install"
	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// Codes of elb.listener.
const (
	codeBalancer  = "ELB-01"
	codeScheme    = "ELB-02"
	codeListener  = "ELB-03"
	codeTarget    = "ELB-04"
	codeNoTarget  = "ELB-05"
	codeHealth    = "ELB-06"
	codeServerTLS = "ELB-07"
)

// ELB is elb.listener: a load balancer (version 2), one listener of it and the
// targets behind. Its zero value is ready and safe for concurrent use.
type ELB struct{}

// elbArguments are the step's with. What is left out is not looked at.
type elbArguments struct {
	common
	LoadBalancer string   `json:"load_balancer"` // ARN, name or DNS name
	Scheme       string   `json:"scheme"`        // internal or internet-facing
	Port         int32    `json:"port"`
	Protocols    []string `json:"protocols"` // one of them, such as HTTPS
	Certificate  string   `json:"certificate"`
	Policies     []string `json:"policies"` // one of these TLS policies
	HealthPath   string   `json:"health_path"`
	HealthPort   string   `json:"health_port"`
	Targets      bool     `json:"targets"` // some target of each group must be healthy
}

// Codes implements install.Coder.
func (ELB) Codes() map[string][]string {
	return withCommon(map[string][]string{
		codeBalancer:  {"name", "reason"},
		codeScheme:    {"name", "have", "want"},
		codeListener:  {"name", "port", "have", "want"},
		codeTarget:    {"name", "group", "target", "state", "reason"},
		codeNoTarget:  {"name", "group"},
		codeHealth:    {"name", "group", "what", "have", "want"},
		codeServerTLS: {"name", "port", "what", "have", "want"},
	})
}

// Run describes the load balancer. Its output is elb.dns_name.
func (p ELB) Run(ctx context.Context, in install.Input) (install.Result, error) {
	var a elbArguments
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	if a.Port < 1 || a.Port > 65535 {
		return install.Result{}, fmt.Errorf("port %d is not between 1 and 65535", a.Port)
	}
	l, err := a.start(p.Codes())
	if err != nil {
		return install.Result{}, err
	}
	if a.LoadBalancer == "" {
		l.fail(codeBalancer, "no load balancer is given", map[string]string{"name": "", "reason": "none is given"})
		return l.result(nil), nil
	}
	cfg, err := load(ctx, a.Region)
	if err != nil {
		return l.end(nil, l.api(ctx, err, "elasticloadbalancing:DescribeLoadBalancers", a.LoadBalancer))
	}
	b := &balancerLook{look: l, api: elb.NewFromConfig(cfg), a: a}
	lb, err := b.find(ctx)
	if err != nil || lb == nil {
		return l.result(nil), err
	}
	b.judge(lb)
	return l.end(map[string]any{"elb.dns_name": aws.ToString(lb.DNSName)}, b.listener(ctx, lb))
}

// balancerLook is a look at one load balancer.
type balancerLook struct {
	*look
	api *elb.Client
	a   elbArguments
}

func (b *balancerLook) gone(reason string) {
	b.fail(codeBalancer, fmt.Sprintf("load balancer %s: %s", b.a.LoadBalancer, reason), map[string]string{"name": b.a.LoadBalancer, "reason": reason})
}

// find returns the load balancer, nil if there is none.
func (b *balancerLook) find(ctx context.Context) (*types.LoadBalancer, error) {
	in := &elb.DescribeLoadBalancersInput{}
	byDNS := strings.Contains(b.a.LoadBalancer, ".")
	switch {
	case strings.HasPrefix(b.a.LoadBalancer, "arn:"):
		in.LoadBalancerArns, byDNS = []string{b.a.LoadBalancer}, false
	case !byDNS:
		in.Names = []string{b.a.LoadBalancer}
	}
	var found *types.LoadBalancer
	err := pages(func(token *string) (*string, error) {
		in.Marker = token
		out, err := b.api.DescribeLoadBalancers(ctx, in)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(out.LoadBalancers, func(lb types.LoadBalancer) bool {
			return !byDNS || strings.EqualFold(aws.ToString(lb.DNSName), strings.TrimPrefix(b.a.LoadBalancer, "dualstack."))
		})
		if i < 0 {
			return out.NextMarker, nil
		}
		found = &out.LoadBalancers[i]
		return nil, nil
	})
	switch {
	case isOneOf(err, "LoadBalancerNotFound", "LoadBalancerNotFoundException") || err == nil && found == nil:
		b.gone("there is none")
		return nil, nil
	case err != nil:
		return nil, b.look.api(ctx, err, "elasticloadbalancing:DescribeLoadBalancers", b.a.LoadBalancer)
	}
	return found, nil
}

func (b *balancerLook) judge(lb *types.LoadBalancer) {
	// An impaired one forwards, as far as it can.
	if s := lb.State; s != nil && s.Code != types.LoadBalancerStateEnumActive && s.Code != types.LoadBalancerStateEnumActiveImpaired {
		b.gone(strings.TrimSpace(fmt.Sprintf("it is %s %s", s.Code, bounds(aws.ToString(s.Reason)))))
	}
	if b.a.Scheme != "" && string(lb.Scheme) != b.a.Scheme {
		b.fail(codeScheme, fmt.Sprintf("load balancer %s is %s, not %s", b.a.LoadBalancer, lb.Scheme, b.a.Scheme),
			map[string]string{"name": b.a.LoadBalancer, "have": string(lb.Scheme), "want": b.a.Scheme})
	}
}

// listener looks at the listener of the port, and behind it.
func (b *balancerLook) listener(ctx context.Context, lb *types.LoadBalancer) error {
	var all []types.Listener
	err := pages(func(token *string) (*string, error) {
		out, err := b.api.DescribeListeners(ctx, &elb.DescribeListenersInput{LoadBalancerArn: lb.LoadBalancerArn, Marker: token})
		if err != nil {
			return nil, err
		}
		all = append(all, out.Listeners...)
		return out.NextMarker, nil
	})
	if err != nil {
		return b.look.api(ctx, err, "elasticloadbalancing:DescribeListeners", b.a.LoadBalancer)
	}
	want := strings.Join(append([]string{strconv.Itoa(int(b.a.Port))}, b.a.Protocols...), " ")
	have := []string{}
	for _, l := range all {
		if aws.ToInt32(l.Port) == b.a.Port && (len(b.a.Protocols) == 0 || slices.Contains(b.a.Protocols, string(l.Protocol))) {
			b.tls(l)
			return b.groups(ctx, lb)
		}
		have = append(have, fmt.Sprintf("%d %s", aws.ToInt32(l.Port), l.Protocol))
	}
	b.fail(codeListener, fmt.Sprintf("load balancer %s listens on [%s], not on %s", b.a.LoadBalancer, strings.Join(have, ", "), want),
		map[string]string{"name": b.a.LoadBalancer, "port": strconv.Itoa(int(b.a.Port)), "have": strings.Join(have, ", "), "want": want})
	return nil
}

// tls judges what a listener shows its clients.
func (b *balancerLook) tls(l types.Listener) {
	var arns []string
	for _, c := range l.Certificates {
		arns = append(arns, aws.ToString(c.CertificateArn))
	}
	add := func(severity install.Severity, what, have, want string) {
		b.add(codeServerTLS, severity, fmt.Sprintf("listener %d of %s: %s is %s, not %s", b.a.Port, b.a.LoadBalancer, what, have, want),
			map[string]string{"name": b.a.LoadBalancer, "port": strconv.Itoa(int(b.a.Port)), "what": what, "have": have, "want": want})
	}
	if b.a.Certificate != "" && !slices.Contains(arns, b.a.Certificate) {
		add(install.SeverityFail, "the certificate", strings.Join(arns, ", "), b.a.Certificate)
	}
	if policy := aws.ToString(l.SslPolicy); len(b.a.Policies) > 0 && !slices.Contains(b.a.Policies, policy) {
		add(install.SeverityWarn, "the TLS policy", policy, strings.Join(b.a.Policies, " or "))
	}
}
