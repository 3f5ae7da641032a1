package aws

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// groups looks at the target groups of the load balancer.
func (b *balancerLook) groups(ctx context.Context, lb *types.LoadBalancer) error {
	if !b.a.Targets && b.a.HealthPath == "" && b.a.HealthPort == "" {
		return nil
	}
	var all []types.TargetGroup
	err := pages(func(token *string) (*string, error) {
		out, err := b.api.DescribeTargetGroups(ctx, &elb.DescribeTargetGroupsInput{LoadBalancerArn: lb.LoadBalancerArn, Marker: token})
		if err != nil {
			return nil, err
		}
		all = append(all, out.TargetGroups...)
		return out.NextMarker, nil
	})
	if err != nil {
		return b.look.api(ctx, err, "elasticloadbalancing:DescribeTargetGroups", b.a.LoadBalancer)
	}
	if len(all) == 0 {
		b.noTarget("none")
	}
	for _, g := range all {
		b.health(g)
		if b.a.Targets {
			if err := b.targets(ctx, g); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *balancerLook) noTarget(group string) {
	b.fail(codeNoTarget, fmt.Sprintf("load balancer %s: target group %s has no healthy target", b.a.LoadBalancer, group), map[string]string{"name": b.a.LoadBalancer, "group": group})
}

// health judges how a group asks its targets.
func (b *balancerLook) health(g types.TargetGroup) {
	name := aws.ToString(g.TargetGroupName)
	for _, c := range []struct{ what, have, want string }{
		{"path", aws.ToString(g.HealthCheckPath), b.a.HealthPath}, {"port", aws.ToString(g.HealthCheckPort), b.a.HealthPort},
	} {
		have := c.have
		if have == "traffic-port" { // the port that the targets take traffic on
			have = fmt.Sprint(aws.ToInt32(g.Port))
		}
		if c.want != "" && have != c.want {
			b.warn(codeHealth, fmt.Sprintf("target group %s: the %s of the health check is %q, not %q", name, c.what, have, c.want),
				map[string]string{"name": b.a.LoadBalancer, "group": name, "what": c.what, "have": have, "want": c.want})
		}
	}
}

// targets judges the targets of a group: all of them while some are being
// replaced need not be healthy, but one has to be.
func (b *balancerLook) targets(ctx context.Context, g types.TargetGroup) error {
	name := aws.ToString(g.TargetGroupName)
	out, err := b.api.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: g.TargetGroupArn})
	if err != nil {
		return b.look.api(ctx, err, "elasticloadbalancing:DescribeTargetHealth", name)
	}
	healthy := 0
	for _, t := range out.TargetHealthDescriptions {
		if t.TargetHealth == nil || t.Target == nil {
			continue
		}
		switch s := t.TargetHealth.State; s {
		case types.TargetHealthStateEnumHealthy:
			healthy++
		case types.TargetHealthStateEnumDraining: // on its way out
		default:
			target := fmt.Sprintf("%s:%d", aws.ToString(t.Target.Id), aws.ToInt32(t.Target.Port))
			reason := string(t.TargetHealth.Reason)
			if d := bounds(aws.ToString(t.TargetHealth.Description)); d != "" {
				reason += ": " + d
			}
			b.warn(codeTarget, fmt.Sprintf("target group %s: %s is %s, %s", name, target, s, reason),
				map[string]string{"name": b.a.LoadBalancer, "group": name, "target": target, "state": string(s), "reason": reason})
		}
	}
	if healthy == 0 {
		b.noTarget(name)
	}
	return nil
}
