package awsstandin

import (
	"net/url"
	"slices"
)

// Balancer is a load balancer of Elastic Load Balancing, version 2, with one
// target group behind all its listeners.
type Balancer struct {
	Name, Scheme, State string
	DNS                 string
	Listeners           []Listener
	HealthPath          string
	HealthPort          string
	Targets             map[string]string // address: state
}

// Listener is a listener.
type Listener struct {
	Port        int
	Protocol    string
	Certificate string
	Policy      string
}

// ARN is the load balancer's.
func (b Balancer) ARN() string {
	return "arn:aws:elasticloadbalancing:" + Region + ":" + Account + ":loadbalancer/app/" + b.Name + "/1"
}

func (s *Server) elb(action string, form url.Values) ([]element, *failure) {
	if action == "DescribeLoadBalancers" {
		return s.balancers(values(form, "Names.member"), values(form, "LoadBalancerArns.member"))
	}
	arn := form.Get("LoadBalancerArn")
	if group := form.Get("TargetGroupArn"); group != "" {
		arn = group[len("group:"):]
	}
	i := slices.IndexFunc(s.Balancers, func(b Balancer) bool { return b.ARN() == arn })
	if i < 0 {
		return nil, &failure{"LoadBalancerNotFound", "One or more load balancers not found"}
	}
	b := s.Balancers[i]
	var out []element
	switch action {
	case "DescribeListeners":
		for _, l := range b.Listeners {
			e := member(leaf("ListenerArn", "listener"), leaf("LoadBalancerArn", arn), leaf("Port", l.Port), leaf("Protocol", l.Protocol))
			if l.Certificate != "" {
				e.kids = append(e.kids, tree("Certificates", member(leaf("CertificateArn", l.Certificate))), leaf("SslPolicy", l.Policy))
			}
			out = append(out, e)
		}
		return []element{listOf("Listeners", out)}, nil
	case "DescribeTargetGroups":
		return []element{tree("TargetGroups", member(leaf("TargetGroupArn", "group:"+arn), leaf("TargetGroupName", b.Name+"-server"), leaf("Port", 1983),
			leaf("HealthCheckPath", b.HealthPath), leaf("HealthCheckPort", b.HealthPort)))}, nil
	case "DescribeTargetHealth":
		for address, state := range b.Targets {
			health := tree("TargetHealth", leaf("State", state))
			if state == "unhealthy" {
				health.kids = append(health.kids, leaf("Reason", "Target.ResponseCodeMismatch"), leaf("Description", "Health checks failed with these codes: [502]"))
			}
			out = append(out, member(tree("Target", leaf("Id", address), leaf("Port", 1983)), health))
		}
		return []element{listOf("TargetHealthDescriptions", out)}, nil
	}
	return nil, unknown(action)
}

func (s *Server) balancers(names, arns []string) ([]element, *failure) {
	var out []element
	for _, b := range s.Balancers {
		if len(names) > 0 && !slices.Contains(names, b.Name) || len(arns) > 0 && !slices.Contains(arns, b.ARN()) {
			continue
		}
		out = append(out, member(leaf("LoadBalancerArn", b.ARN()), leaf("LoadBalancerName", b.Name), leaf("DNSName", b.DNS), leaf("Scheme", b.Scheme),
			tree("State", leaf("Code", b.State))))
	}
	if len(out) == 0 && len(names)+len(arns) > 0 {
		return nil, &failure{"LoadBalancerNotFound", "One or more load balancers not found"}
	}
	return []element{listOf("LoadBalancers", out)}, nil
}
