package aws

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/install"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// Codes of ec2.network.
const (
	codeNetAbsent   = "EC2-01"
	codeNetZones    = "EC2-02"
	codeNetTag      = "EC2-03"
	codeGateAbsent  = "EC2-04"
	codeGatePresent = "EC2-05"
	codeGroupOpen   = "EC2-06"
	codeEndpoint    = "EC2-07"
)

const (
	// maxPages bounds how many pages of a listing are read.
	maxPages = 50
	pageSize = 200
)

// What a gateway has to be.
const (
	present = "present"
	absent  = "absent"
)

// EC2 is ec2.network. Its zero value is ready and safe for concurrent use.
type EC2 struct{}

// ec2Arguments are the step's with. What is left out is not looked at.
type ec2Arguments struct {
	common
	VPC             string                `json:"vpc"`
	Subnets         map[string]subnetWant `json:"subnets"` // what for: which
	InternetGateway string                `json:"internet_gateway"`
	NATGateway      string                `json:"nat_gateway"`
	Endpoints       []string              `json:"endpoints"` // services without com.amazonaws.REGION, such as ecr.api
	Groups          []string              `json:"security_groups"`
	Allowed         []string              `json:"allowed"` // networks that rules may name; any other that is wider than one address is reported
}

// subnetWant is how the subnets for one purpose should be.
type subnetWant struct {
	IDs   []string          `json:"ids"`
	Zones int               `json:"zones"` // at least so many availability zones
	Tags  map[string]string `json:"tags"`
}

// Codes implements install.Coder.
func (EC2) Codes() map[string][]string {
	return withCommon(map[string][]string{
		codeNetAbsent:   {"kind", "id", "reason"},
		codeNetZones:    {"kind", "have", "want"},
		codeNetTag:      {"kind", "id", "tag", "have", "want"},
		codeGateAbsent:  {"kind", "vpc", "reason"},
		codeGatePresent: {"kind", "vpc", "id"},
		codeGroupOpen:   {"id", "direction", "ports", "cidr"},
		codeEndpoint:    {"service", "vpc", "reason"},
	})
}

// Run describes the parts of a VPC that the step names. Its output is
// ec2.cidrs, the VPC's networks.
func (p EC2) Run(ctx context.Context, in install.Input) (install.Result, error) {
	var a ec2Arguments
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	for _, want := range []string{a.InternetGateway, a.NATGateway} {
		if want != "" && want != present && want != absent {
			return install.Result{}, fmt.Errorf("%q is neither present nor absent", want)
		}
	}
	allowed, err := prefixes(a.Allowed)
	if err != nil {
		return install.Result{}, err
	}
	l, err := a.start(p.Codes())
	if err != nil {
		return install.Result{}, err
	}
	if a.VPC == "" {
		l.missing("VPC", "", "no VPC is given")
		return l.result(nil), nil
	}
	cfg, err := load(ctx, a.Region)
	if err != nil {
		return l.end(nil, l.api(ctx, err, "ec2:DescribeVpcs", a.VPC))
	}
	n := &netLook{look: l, api: ec2.NewFromConfig(cfg), a: a, region: cfg.Region, allowed: allowed}
	found, err := n.vpc(ctx)
	if err != nil || !found {
		return l.result(nil), err
	}
	for _, part := range []func(context.Context) error{n.subnets, n.internet, n.nat, n.endpoints, n.groups} {
		if err := part(ctx); err != nil {
			return l.result(nil), err
		}
	}
	return l.result(map[string]any{"ec2.cidrs": n.cidrs}), nil
}

func (l *look) missing(kind, id, reason string) {
	l.fail(codeNetAbsent, fmt.Sprintf("%s %s: %s", kind, id, reason), map[string]string{"kind": kind, "id": id, "reason": reason})
}

func (n *netLook) vpc(ctx context.Context) (bool, error) {
	out, err := n.api.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{VpcIds: []string{n.a.VPC}})
	if isOneOf(err, "InvalidVpcID.NotFound", "InvalidVpcId.Malformed", "InvalidVpcID.Malformed") || err == nil && len(out.Vpcs) == 0 {
		n.missing("VPC", n.a.VPC, "there is none in "+n.region)
		return false, nil
	}
	if err != nil {
		return false, n.look.api(ctx, err, "ec2:DescribeVpcs", n.a.VPC)
	}
	n.cidrs = []any{}
	for _, c := range out.Vpcs[0].CidrBlockAssociationSet {
		if c.CidrBlockState != nil && c.CidrBlockState.State == types.VpcCidrBlockStateCodeAssociated {
			n.cidrs = append(n.cidrs, aws.ToString(c.CidrBlock))
		}
	}
	if len(n.cidrs) == 0 && out.Vpcs[0].CidrBlock != nil {
		n.cidrs = append(n.cidrs, *out.Vpcs[0].CidrBlock)
	}
	return true, nil
}

// inVPC is the filter that every listing has.
func (n *netLook) inVPC(name string) []types.Filter {
	return []types.Filter{{Name: aws.String(name), Values: []string{n.a.VPC}}}
}

// pages reads a listing page by page. fetch returns the token of the next one.
func pages(fetch func(token *string) (next *string, err error)) error {
	var token *string
	for range maxPages {
		next, err := fetch(token)
		if err != nil || aws.ToString(next) == "" {
			return err
		}
		token = next
	}
	return fmt.Errorf("the listing has more than %d pages", maxPages)
}

func (n *netLook) internet(ctx context.Context) error {
	if n.a.InternetGateway == "" {
		return nil
	}
	var id, state string
	err := pages(func(token *string) (*string, error) {
		out, err := n.api.DescribeInternetGateways(ctx, &ec2.DescribeInternetGatewaysInput{Filters: n.inVPC("attachment.vpc-id"), NextToken: token})
		if err != nil {
			return nil, err
		}
		for _, g := range out.InternetGateways {
			for _, at := range g.Attachments {
				if aws.ToString(at.VpcId) == n.a.VPC {
					id, state = aws.ToString(g.InternetGatewayId), string(at.State)
				}
			}
		}
		return out.NextToken, nil
	})
	if err != nil {
		return n.look.api(ctx, err, "ec2:DescribeInternetGateways", n.a.VPC)
	}
	// EC2 reports an attached gateway as available, other documentation as attached.
	reason := ""
	if id == "" {
		reason = "none is attached"
	} else if !slices.Contains([]string{"available", "attached"}, state) {
		reason = id + " is " + state
	}
	n.gateway("internet gateway", n.a.InternetGateway, id, reason)
	return nil
}

func (n *netLook) nat(ctx context.Context) error {
	if n.a.NATGateway == "" {
		return nil
	}
	var id, reason string
	err := pages(func(token *string) (*string, error) {
		out, err := n.api.DescribeNatGateways(ctx, &ec2.DescribeNatGatewaysInput{Filter: n.inVPC("vpc-id"), NextToken: token})
		if err != nil {
			return nil, err
		}
		for _, g := range out.NatGateways {
			switch g.State {
			case types.NatGatewayStateDeleted, types.NatGatewayStateDeleting:
			case types.NatGatewayStateAvailable:
				id, reason = aws.ToString(g.NatGatewayId), ""
			default:
				if id == "" {
					id = aws.ToString(g.NatGatewayId)
					reason = strings.TrimSpace(fmt.Sprintf("%s is %s %s", id, g.State, bounds(aws.ToString(g.FailureMessage))))
				}
			}
		}
		return out.NextToken, nil
	})
	if err != nil {
		return n.look.api(ctx, err, "ec2:DescribeNatGateways", n.a.VPC)
	}
	if id == "" {
		reason = "there is none"
	}
	n.gateway("NAT gateway", n.a.NATGateway, id, reason)
	return nil
}

// gateway judges a gateway: reason says why it would not work.
func (n *netLook) gateway(kind, want, id, reason string) {
	switch {
	case want == present && reason != "":
		n.fail(codeGateAbsent, fmt.Sprintf("%s of %s: %s", kind, n.a.VPC, reason), map[string]string{"kind": kind, "vpc": n.a.VPC, "reason": reason})
	case want == absent && id != "":
		n.fail(codeGatePresent, fmt.Sprintf("%s has the %s %s", n.a.VPC, kind, id), map[string]string{"kind": kind, "vpc": n.a.VPC, "id": id})
	}
}
