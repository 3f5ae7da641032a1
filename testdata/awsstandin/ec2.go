package awsstandin

import (
	"net/url"
	"slices"
)

// Network is what EC2 knows of one VPC.
type Network struct {
	VPC       string
	CIDRs     []string
	Subnets   []Subnet
	Internet  string // id of the attached gateway
	NAT       []NAT
	Endpoints map[string]string // service name: state
	Groups    []Group
}

// Subnet is a subnet.
type Subnet struct {
	ID, Zone string
	Tags     map[string]string
}

// NAT is a NAT gateway.
type NAT struct{ ID, State string }

// Group is a security group; the networks are those of rules about port 443.
type Group struct {
	ID      string
	In, Out []string
}

func (s *Server) ec2(action string, form url.Values) ([]element, *failure) {
	n := s.Network
	here := func(name string) bool { return filter(form, name) == n.VPC }
	var out []element
	switch action {
	case "DescribeVpcs":
		for _, id := range values(form, "VpcId") {
			if id != n.VPC {
				return nil, &failure{"InvalidVpcID.NotFound", "The vpc ID '" + id + "' does not exist"}
			}
		}
		var cidrs []element
		for _, c := range n.CIDRs {
			cidrs = append(cidrs, item(leaf("cidrBlock", c), tree("cidrBlockState", leaf("state", "associated"))))
		}
		return []element{tree("vpcSet", item(leaf("vpcId", n.VPC), leaf("state", "available"), listOf("cidrBlockAssociationSet", cidrs)))}, nil
	case "DescribeSubnets":
		for _, sub := range n.Subnets {
			var tags []element
			for k, v := range sub.Tags {
				tags = append(tags, item(leaf("key", k), leaf("value", v)))
			}
			if here("vpc-id") {
				out = append(out, item(leaf("subnetId", sub.ID), leaf("vpcId", n.VPC), leaf("availabilityZone", sub.Zone), leaf("state", "available"), listOf("tagSet", tags)))
			}
		}
		return []element{listOf("subnetSet", out)}, nil
	case "DescribeInternetGateways":
		if n.Internet != "" && here("attachment.vpc-id") {
			out = append(out, item(leaf("internetGatewayId", n.Internet), tree("attachmentSet", item(leaf("vpcId", n.VPC), leaf("state", "available")))))
		}
		return []element{listOf("internetGatewaySet", out)}, nil
	case "DescribeNatGateways":
		for _, g := range n.NAT {
			if here("vpc-id") {
				out = append(out, item(leaf("natGatewayId", g.ID), leaf("vpcId", n.VPC), leaf("state", g.State)))
			}
		}
		return []element{listOf("natGatewaySet", out)}, nil
	case "DescribeVpcEndpoints":
		for name, state := range n.Endpoints {
			if here("vpc-id") {
				out = append(out, item(leaf("vpcEndpointId", "vpce-1"), leaf("vpcId", n.VPC), leaf("serviceName", name), leaf("state", state)))
			}
		}
		return []element{listOf("vpcEndpointSet", out)}, nil
	case "DescribeSecurityGroups":
		return s.groups(values(form, "GroupId"))
	}
	return nil, unknown(action)
}

func (s *Server) groups(ids []string) ([]element, *failure) {
	var out []element
	for _, id := range ids {
		i := slices.IndexFunc(s.Network.Groups, func(g Group) bool { return g.ID == id })
		if i < 0 {
			return nil, &failure{"InvalidGroup.NotFound", "The security group '" + id + "' does not exist"}
		}
		g := s.Network.Groups[i]
		out = append(out, item(leaf("groupId", id), listOf("ipPermissions", rules(g.In)), listOf("ipPermissionsEgress", rules(g.Out))))
	}
	return []element{listOf("securityGroupInfo", out)}, nil
}

func rules(cidrs []string) []element {
	var out []element
	for _, c := range cidrs {
		out = append(out, item(leaf("ipProtocol", "tcp"), leaf("fromPort", 443), leaf("toPort", 443), tree("ipRanges", item(leaf("cidrIp", c)))))
	}
	return out
}
