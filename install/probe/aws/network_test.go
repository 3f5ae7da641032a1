package aws

import (
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/awsstandin"
	"github.com/google/go-cmp/cmp"
)

func network(s *awsstandin.Server) {
	tags := map[string]string{"kubernetes.io/role/internal-elb": "1"}
	s.Network = awsstandin.Network{
		VPC: "vpc-1", CIDRs: []string{"10.0.0.0/16", "100.64.0.0/16"},
		Subnets:   []awsstandin.Subnet{{ID: "subnet-a", Zone: "eu-central-1a", Tags: tags}, {ID: "subnet-b", Zone: "eu-central-1b", Tags: tags}, {ID: "subnet-c", Zone: "eu-central-1b"}},
		Internet:  "igw-1",
		NAT:       []awsstandin.NAT{{ID: "nat-old", State: "deleted"}, {ID: "nat-1", State: "available"}},
		Endpoints: map[string]string{"com.amazonaws.eu-central-1.ecr.api": "available", "com.amazonaws.eu-central-1.s3": "Available", "com.amazonaws.eu-central-1.kms": "pending"},
		Groups:    []awsstandin.Group{{ID: "sg-1", In: []string{"10.0.0.0/16", "10.9.9.9/32"}, Out: []string{"10.0.0.0/8"}}, {ID: "sg-2", In: []string{"0.0.0.0/0"}}},
	}
}

func TestEC2(t *testing.T) {
	private := func(zones int64, ids ...any) map[string]any {
		return map[string]any{"subnets": map[string]any{"private": map[string]any{"ids": ids, "zones": zones, "tags": map[string]any{"kubernetes.io/role/internal-elb": "1"}}}}
	}
	run(t, EC2{}, network, map[string]any{"vpc": "vpc-1"}, []aCase{
		{name: "good", with: private(2, "subnet-a", "subnet-b")},
		{name: "no VPC", with: map[string]any{"vpc": ""}, want: []string{"EC2-01 no VPC is given"}},
		{name: "other VPC", with: map[string]any{"vpc": "vpc-2"}, want: []string{"EC2-01 vpc-2"}},
		{name: "subnet elsewhere", with: private(1, "subnet-a", "subnet-z"), want: []string{"EC2-01 private subnet subnet-z: it is not in vpc-1"}},
		{name: "one zone", with: private(2, "subnet-b"), want: []string{"EC2-02 eu-central-1b, not in 2 zones"}},
		{name: "none", with: private(2), want: []string{"EC2-02 no zone"}},
		{name: "no tag", with: private(2, "subnet-a", "subnet-c"), want: []string{"EC2-03 subnet-c: tag kubernetes.io/role/internal-elb"}},
		{name: "gateways are there", with: map[string]any{"internet_gateway": "present", "nat_gateway": "present"}},
		{name: "gateways must not be there", with: map[string]any{"internet_gateway": "absent", "nat_gateway": "absent"}, want: []string{"EC2-05 igw-1", "EC2-05 nat-1"}},
		{name: "gateways are missing", with: map[string]any{"internet_gateway": "present", "nat_gateway": "present"}, set: func(s *awsstandin.Server) {
			s.Network.Internet, s.Network.NAT = "", []awsstandin.NAT{{ID: "nat-2", State: "failed"}}
		}, want: []string{"EC2-04 internet gateway of vpc-1: none", "EC2-04 nat-2 is failed"}},
		{name: "gateways are gone", with: map[string]any{"internet_gateway": "absent", "nat_gateway": "absent"}, set: func(s *awsstandin.Server) {
			s.Network.Internet, s.Network.NAT = "", s.Network.NAT[:1]
		}},
		{name: "endpoints", with: map[string]any{"endpoints": []any{"ecr.api", "s3"}}},
		{name: "endpoints missing", with: map[string]any{"endpoints": []any{"ecr.dkr", "kms"}}, want: []string{"EC2-07 ecr.dkr in vpc-1: there is none", "EC2-07 kms in vpc-1: it is pending"}},
		{name: "groups", with: map[string]any{"security_groups": []any{"sg-1"}, "allowed": []any{"10.0.0.0/8"}}},
		{name: "open groups", with: map[string]any{"security_groups": []any{"sg-1", "sg-2"}, "allowed": []any{"10.0.0.0/16"}}, want: []string{"EC2-06 sg-1 lets out to 10.0.0.0/8, ports tcp/443", "EC2-06 sg-2 lets in from 0.0.0.0/0"}},
		{name: "no group", with: map[string]any{"security_groups": []any{"sg-9"}}, want: []string{"EC2-01 sg-9"}},
		{name: "denied", with: map[string]any{"internet_gateway": "absent"}, set: func(s *awsstandin.Server) { s.Denied["ec2:DescribeInternetGateways"] = true }, want: []string{"AWS-02 ec2:DescribeInternetGateways vpc-1: UnauthorizedOperation"}},
	})
}

func TestEC2Output(t *testing.T) {
	s := awsstandin.New(t)
	network(s)
	res, err := EC2{}.Run(t.Context(), install.Input{With: map[string]any{"vpc": "vpc-1"}})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]any{"ec2.cidrs": []any{"10.0.0.0/16", "100.64.0.0/16"}}, res.Outputs); d != "" {
		t.Error(d)
	}
}

func balancer(s *awsstandin.Server) {
	s.Balancers = []awsstandin.Balancer{
		{Name: "other", Scheme: "internal", State: "active", DNS: "other.elb.example"},
		{
			Name: "spacelift", Scheme: "internal", State: "active", DNS: "internal-spacelift-1.eu-central-1.elb.example",
			Listeners:  []awsstandin.Listener{{Port: 80, Protocol: "HTTP"}, {Port: 443, Protocol: "HTTPS", Certificate: certARN, Policy: "ELBSecurityPolicy-TLS13-1-2-2021-06"}},
			HealthPath: "/health", HealthPort: "traffic-port", Targets: map[string]string{"10.0.0.1": "healthy", "10.0.0.2": "draining"},
		},
	}
}

func TestELB(t *testing.T) {
	with := map[string]any{
		"load_balancer": "spacelift", "port": int64(443), "protocols": []any{"HTTPS"}, "scheme": "internal", "certificate": certARN,
		"policies": []any{"ELBSecurityPolicy-TLS13-1-2-2021-06"}, "health_path": "/health", "health_port": "1983", "targets": true,
	}
	on := func(change func(b *awsstandin.Balancer)) func(*awsstandin.Server) {
		return func(s *awsstandin.Server) { change(&s.Balancers[1]) }
	}
	run(t, ELB{}, balancer, with, []aCase{
		{name: "by name"},
		{name: "by ARN", with: map[string]any{"load_balancer": awsstandin.Balancer{Name: "spacelift"}.ARN()}},
		{name: "by DNS name", with: map[string]any{"load_balancer": "internal-spacelift-1.eu-central-1.elb.example"}},
		{name: "not given", with: map[string]any{"load_balancer": ""}, want: []string{"ELB-01 no load balancer is given"}},
		{name: "absent", with: map[string]any{"load_balancer": "nothing"}, want: []string{"ELB-01 nothing: there is none"}},
		{name: "unknown name", with: map[string]any{"load_balancer": "nothing.elb.example"}, want: []string{"ELB-01 nothing.elb.example"}},
		{name: "provisioning", set: on(func(b *awsstandin.Balancer) { b.State = "provisioning" }), want: []string{"ELB-01 it is provisioning"}},
		{name: "to the world", set: on(func(b *awsstandin.Balancer) { b.Scheme = "internet-facing" }), want: []string{"ELB-02 internet-facing, not internal"}},
		{name: "other port", with: map[string]any{"port": int64(8443)}, want: []string{"ELB-03 80 HTTP, 443 HTTPS], not on 8443 HTTPS"}},
		{name: "other protocol", with: map[string]any{"protocols": []any{"TLS"}}, want: []string{"ELB-03 not on 443 TLS"}},
		{name: "other certificate", with: map[string]any{"certificate": certARN + "2"}, want: []string{"ELB-07 the certificate is " + certARN + ","}},
		{name: "other policy", set: on(func(b *awsstandin.Balancer) { b.Listeners[1].Policy = "ELBSecurityPolicy-2016-08" }), want: []string{"ELB-07 ELBSecurityPolicy-2016-08"}},
		{name: "other path", set: on(func(b *awsstandin.Balancer) { b.HealthPath, b.HealthPort = "/", "8080" }), want: []string{`ELB-06 path of the health check is "/"`, `ELB-06 port of the health check is "8080"`}},
		{name: "one is ill", set: on(func(b *awsstandin.Balancer) { b.Targets["10.0.0.2"] = "unhealthy" }), want: []string{"ELB-04 10.0.0.2:1983 is unhealthy, Target.ResponseCodeMismatch: Health checks failed"}},
		{name: "all are ill", set: on(func(b *awsstandin.Balancer) { b.Targets = map[string]string{"10.0.0.2": "unhealthy"} }), want: []string{"ELB-04 10.0.0.2", "ELB-05 spacelift-server has no healthy target"}},
		{name: "denied", set: func(s *awsstandin.Server) { s.Denied["elasticloadbalancing:DescribeTargetHealth"] = true }, want: []string{"AWS-02 elasticloadbalancing:DescribeTargetHealth"}},
	})
}

func TestECS(t *testing.T) {
	const image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/spacelift-backend:v4.3.0"
	fill := func(s *awsstandin.Server) {
		s.Cluster = awsstandin.Cluster{Name: "spacelift", Services: map[string]*awsstandin.Service{
			"server": {Running: 3, Desired: 3, Image: image, Secrets: []string{"LICENSE_TOKEN", "DATABASE_URL"}, Environment: map[string]string{"SERVER_DOMAIN": "x"}},
			"drain":  {Running: 3, Desired: 3, Image: image},
		}}
	}
	with := map[string]any{
		"cluster": "spacelift", "services": []any{"server", "drain"}, "images": []any{image, image + "@sha256:x"}, "registry": "123456789012.dkr.ecr.eu-central-1.amazonaws.com", "secrets": []any{"LICENSE_TOKEN", "DATABASE_URL"}, "required": []any{"LICENSE_TOKEN", "DATABASE_URL"},
	}
	on := func(change func(s *awsstandin.Service)) func(*awsstandin.Server) {
		return func(s *awsstandin.Server) { change(s.Cluster.Services["server"]) }
	}
	stop := func(reason, container string) func(*awsstandin.Server) {
		return on(func(s *awsstandin.Service) { s.Running, s.StoppedReason, s.Reason = 0, reason, container })
	}
	run(t, ECS{}, fill, with, []aCase{
		{name: "good"},
		{name: "no cluster", with: map[string]any{"cluster": "other"}, want: []string{"ECS-05 there is no such cluster"}},
		{name: "no service", set: func(s *awsstandin.Server) { delete(s.Cluster.Services, "drain") }, want: []string{"ECS-05 drain in cluster spacelift: there is none"}},
		{name: "none wanted", set: on(func(s *awsstandin.Service) { s.Running, s.Desired = 0, 0 }), want: []string{"ECS-04 none is wanted"}},
		{name: "two deployments", set: on(func(s *awsstandin.Service) { s.Deployments = 2 }), want: []string{"ECS-04 2 deployments"}},
		{name: "rolling out", set: on(func(s *awsstandin.Service) { s.Rollout = "FAILED" }), want: []string{"ECS-04 its rollout is FAILED"}},
		{name: "missing tasks", set: on(func(s *awsstandin.Service) { s.Running = 1 }), want: []string{"ECS-04 server runs 1 of 3 tasks: tasks are missing; the last event: (service server)"}},
		{name: "cannot pull", set: stop("Task failed to start", "CannotPullContainerError: pull image manifest has been retried 5 time(s)"), want: []string{"ECS-04 0 of 3", "ECS-08 Task failed to start", "ECS-01 CannotPullContainerError"}},
		{name: "registry login", set: stop("ResourceInitializationError: unable to pull secrets or registry auth: The task cannot pull registry auth from Amazon ECR", ""), want: []string{"ECS-04", "ECS-01 registry auth"}},
		{name: "secrets", set: stop("ResourceInitializationError: unable to pull secrets or registry auth: unable to retrieve secret from asm", ""), want: []string{"ECS-04", "ECS-02 retrieve secret"}},
		{name: "stopped by the service", set: on(func(s *awsstandin.Service) {
			s.Running, s.StoppedReason, s.StopCode = 2, "Scaling activity initiated by deployment", "ServiceSchedulerInitiated"
		}), want: []string{"ECS-04 2 of 3"}},
		{name: "other image", set: on(func(s *awsstandin.Service) { s.Image = "public.ecr.aws/spacelift/backend:v1" }), want: []string{"ECS-06 container server runs public.ecr.aws/spacelift/backend:v1, not one from 123456789012", "ECS-06 container any runs public.ecr.aws/spacelift/backend:v1, not " + image}},
		{name: "no secret", set: on(func(s *awsstandin.Service) { s.Secrets = []string{"LICENSE_TOKEN"} }), want: []string{"ECS-09 no service in cluster spacelift gets DATABASE_URL"}},
		{name: "plain secret", set: on(func(s *awsstandin.Service) { s.Environment["LICENSE_TOKEN"] = "example-not-a-secret" }), want: []string{"ECS-07 LICENSE_TOKEN is plain text"}},
		{name: "denied", set: func(s *awsstandin.Server) { s.Denied["ecs:DescribeTaskDefinition"] = true }, want: []string{"AWS-02 ecs:DescribeTaskDefinition", "AWS-02 ecs:DescribeTaskDefinition"}},
	})
}
