package aws

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// netLook is a look at one VPC.
type netLook struct {
	*look
	api     *ec2.Client
	a       ec2Arguments
	region  string
	allowed []netip.Prefix
	cidrs   []any
}

func prefixes(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("allowed: %q is not a network such as 10.0.0.0/16", s)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// subnets looks at the subnets of every purpose.
func (n *netLook) subnets(ctx context.Context) error {
	if len(n.a.Subnets) == 0 {
		return nil
	}
	have := map[string]types.Subnet{}
	err := pages(func(token *string) (*string, error) {
		out, err := n.api.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: n.inVPC("vpc-id"), MaxResults: aws.Int32(pageSize), NextToken: token})
		if err != nil {
			return nil, err
		}
		for _, s := range out.Subnets {
			have[aws.ToString(s.SubnetId)] = s
		}
		return out.NextToken, nil
	})
	if err != nil {
		return n.look.api(ctx, err, "ec2:DescribeSubnets", n.a.VPC)
	}
	for _, purpose := range slices.Sorted(maps.Keys(n.a.Subnets)) {
		n.purpose(purpose, n.a.Subnets[purpose], have)
	}
	return nil
}

// purpose judges the subnets for one purpose.
func (n *netLook) purpose(purpose string, want subnetWant, have map[string]types.Subnet) {
	kind := purpose + " subnet"
	zones := map[string]bool{}
	for _, id := range want.IDs {
		s, ok := have[id]
		if !ok {
			n.missing(kind, id, "it is not in "+n.a.VPC)
			continue
		}
		zones[aws.ToString(s.AvailabilityZone)] = true
		tags := map[string]string{}
		for _, t := range s.Tags {
			tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
		}
		for _, tag := range slices.Sorted(maps.Keys(want.Tags)) {
			if value, ok := tags[tag]; !ok || value != want.Tags[tag] {
				n.fail(codeNetTag, fmt.Sprintf("%s %s: tag %s is %q, not %q", kind, id, tag, value, want.Tags[tag]),
					map[string]string{"kind": kind, "id": id, "tag": tag, "have": value, "want": want.Tags[tag]})
			}
		}
	}
	if len(zones) < want.Zones {
		in := strings.Join(slices.Sorted(maps.Keys(zones)), ", ")
		if in == "" {
			in = "no zone"
		}
		n.fail(codeNetZones, fmt.Sprintf("%ss are in %s, not in %d zones", kind, in, want.Zones), map[string]string{"kind": kind, "have": in, "want": strconv.Itoa(want.Zones)})
	}
}

// endpoints looks for the VPC's private ways to AWS services.
func (n *netLook) endpoints(ctx context.Context) error {
	if len(n.a.Endpoints) == 0 {
		return nil
	}
	state := map[string]string{}
	err := pages(func(token *string) (*string, error) {
		out, err := n.api.DescribeVpcEndpoints(ctx, &ec2.DescribeVpcEndpointsInput{Filters: n.inVPC("vpc-id"), MaxResults: aws.Int32(pageSize), NextToken: token})
		if err != nil {
			return nil, err
		}
		for _, e := range out.VpcEndpoints {
			// The name is com.amazonaws.REGION.SERVICE, with a prefix in some partitions.
			_, service, _ := strings.Cut(aws.ToString(e.ServiceName), "."+n.region+".")
			if is := strings.ToLower(string(e.State)); state[service] != "available" {
				state[service] = is
			}
		}
		return out.NextToken, nil
	})
	if err != nil {
		return n.look.api(ctx, err, "ec2:DescribeVpcEndpoints", n.a.VPC)
	}
	for _, service := range n.a.Endpoints {
		reason := ""
		switch is := state[service]; is {
		case "available":
			continue
		case "":
			reason = "there is none"
		default:
			reason = "it is " + is
		}
		n.fail(codeEndpoint, fmt.Sprintf("VPC endpoint for %s in %s: %s", service, n.a.VPC, reason), map[string]string{"service": service, "vpc": n.a.VPC, "reason": reason})
	}
	return nil
}

// groups looks for rules that are open to more than the site allows.
func (n *netLook) groups(ctx context.Context) error {
	if len(n.a.Groups) == 0 {
		return nil
	}
	out, err := n.api.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: n.a.Groups})
	if isOneOf(err, "InvalidGroup.NotFound", "InvalidGroupId.Malformed") {
		n.missing("security group", strings.Join(n.a.Groups, ", "), message(apiError(err)))
		return nil
	}
	if err != nil {
		return n.look.api(ctx, err, "ec2:DescribeSecurityGroups", strings.Join(n.a.Groups, ", "))
	}
	for _, g := range out.SecurityGroups {
		n.rules(aws.ToString(g.GroupId), "in", g.IpPermissions)
		n.rules(aws.ToString(g.GroupId), "out", g.IpPermissionsEgress)
	}
	return nil
}

// rules reports each rule that names a network outside the allowed ones.
func (n *netLook) rules(id, direction string, list []types.IpPermission) {
	for _, r := range list {
		var cidrs []string
		for _, c := range r.IpRanges {
			cidrs = append(cidrs, aws.ToString(c.CidrIp))
		}
		for _, c := range r.Ipv6Ranges {
			cidrs = append(cidrs, aws.ToString(c.CidrIpv6))
		}
		for _, c := range cidrs {
			if n.isAllowed(c) {
				continue
			}
			n.warn(codeGroupOpen, fmt.Sprintf("%s lets %s %s, ports %s", id, map[string]string{"in": "in from", "out": "out to"}[direction], c, ports(r)),
				map[string]string{"id": id, "direction": direction, "ports": ports(r), "cidr": c})
		}
	}
}

func (n *netLook) isAllowed(cidr string) bool {
	p, err := netip.ParsePrefix(cidr)
	return err == nil && (p.IsSingleIP() || slices.ContainsFunc(n.allowed, func(a netip.Prefix) bool {
		return a.Bits() <= p.Bits() && a.Contains(p.Addr())
	}))
}

// ports writes what a rule is about.
func ports(r types.IpPermission) string {
	from, to := aws.ToInt32(r.FromPort), aws.ToInt32(r.ToPort)
	switch protocol := aws.ToString(r.IpProtocol); {
	case protocol == "-1":
		return "all"
	case from == to:
		return fmt.Sprintf("%s/%d", protocol, from)
	default:
		return fmt.Sprintf("%s/%d-%d", protocol, from, to)
	}
}
