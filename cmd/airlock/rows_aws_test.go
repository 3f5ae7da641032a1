package main

import (
	"fmt"
	"maps"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/awsstandin"
)

// awsRow is a row with what AWS knows. AWS is a stand-in: see its package comment
// for what that confirms and what not.
type awsRow struct {
	row
	set func(s *awsstandin.Server)
}

// runAWS runs cases of one item, each over a fresh stand-in that fill fills.
// Inputs of a case are added to with; nil takes one away.
func runAWS(t *testing.T, item, platform string, with map[string]any, fill func(*awsstandin.Server), cases []awsRow) {
	t.Helper()
	for _, c := range cases {
		c.item = item
		if c.platform == "" {
			c.platform = platform
		}
		all := maps.Clone(with)
		maps.Copy(all, c.inputs)
		maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
		c.inputs = all
		t.Run(c.name, func(t *testing.T) {
			s := awsstandin.New(t)
			if fill != nil {
				fill(s)
			}
			if c.set != nil {
				c.set(s)
			}
			runRow(t, c.row)
		})
	}
}

const (
	rowCert = "arn:aws:acm:eu-central-1:123456789012:certificate/1"
	rowHost = "spacelift.site-a.example"
)

func TestRowACM(t *testing.T) {
	with := map[string]any{"tls.mode": "acm", "tls.acm_arn": rowCert, "hosts.server": rowHost}
	fill := func(s *awsstandin.Server) {
		s.Certificates[rowCert] = &awsstandin.Certificate{Status: "ISSUED", Names: []string{rowHost}, NotAfter: time.Now().AddDate(1, 0, 0)}
	}
	runAWS(t, "prepare-tls-certificate", "eks", with, fill, []awsRow{
		{row: row{name: "issued", want: install.StatePass}},
		{row: row{name: "pending", want: install.StateFail, code: "TLS-05", says: []string{rowCert, "PENDING_VALIDATION", "finish its validation"}}, set: func(s *awsstandin.Server) {
			s.Certificates[rowCert].Status, s.Certificates[rowCert].NotAfter = "PENDING_VALIDATION", time.Time{}
		}},
		{row: row{name: "other name", inputs: map[string]any{"hosts.server": "other.site-a.example"}, want: install.StateFail, code: "TLS-11", says: []string{"other.site-a.example", rowHost, "subject alternative name"}}},
		{row: row{name: "expired", want: install.StateFail, code: "TLS-12", says: []string{"has expired", "renewed"}}, set: func(s *awsstandin.Server) {
			s.Certificates[rowCert].NotAfter = time.Now().AddDate(0, 0, -2)
		}},
		{row: row{name: "other region", inputs: map[string]any{"aws.region": "eu-west-1"}, want: install.StateFail, code: "TLS-13", says: []string{"eu-central-1", "eu-west-1"}}},
		{row: row{name: "denied", want: install.StateFail, code: "AWS-02", says: []string{"acm:DescribeCertificate", "allow"}}, set: func(s *awsstandin.Server) { s.Denied["acm:DescribeCertificate"] = true }},
		{row: row{name: "not on AWS", platform: "onprem", want: install.StateFail, code: "TLS-10", says: []string{"onprem", "tls.mode to byo"}}},
	})
}

func TestRowEncryptionKMS(t *testing.T) {
	with := map[string]any{"encryption.type": "kms", "encryption.kms.encryption_key_id": "enc", "encryption.kms.signing_key_id": "sig"}
	fill := func(s *awsstandin.Server) {
		s.Keys["enc"] = &awsstandin.Key{State: "Enabled", Usage: "ENCRYPT_DECRYPT", Spec: "SYMMETRIC_DEFAULT"}
		s.Keys["sig"] = &awsstandin.Key{State: "Enabled", Usage: "SIGN_VERIFY", Spec: "RSA_4096"}
	}
	runAWS(t, "encryption", "eks", with, fill, []awsRow{
		{row: row{name: "both keys", want: install.StatePass}},
		{row: row{name: "on premises", platform: "onprem", want: install.StateWarn, code: "ENC-11", says: []string{"onprem", "rsa"}}},
		{row: row{name: "pending deletion", want: install.StateFail, code: "ENC-05", says: []string{"enc", "PendingDeletion", "cancel-key-deletion"}}, set: func(s *awsstandin.Server) { s.Keys["enc"].State = "PendingDeletion" }},
		{row: row{name: "wrong spec", want: install.StateFail, code: "ENC-14", says: []string{"sig", "RSA_2048", "RSA_4096"}}, set: func(s *awsstandin.Server) { s.Keys["sig"].Spec = "RSA_2048" }},
		{row: row{name: "multi-region", inputs: map[string]any{"encryption.kms.multi_region": true}, want: install.StateFail, code: "ENC-14", says: []string{"multi-region", "true"}}},
		{row: row{name: "no key", inputs: map[string]any{"encryption.kms.signing_key_id": nil}, want: install.StateFail, code: "ENC-17", says: []string{"signing_key_id", "RSA_4096"}}},
		{row: row{name: "no data keys", want: install.StateFail, code: "AWS-02", says: []string{"kms:GenerateDataKey", "enc", "allow"}}, set: func(s *awsstandin.Server) { s.Denied["kms:GenerateDataKey"] = true }},
		{row: row{name: "no public key", want: install.StateFail, code: "AWS-02", says: []string{"kms:GetPublicKey", "sig"}}, set: func(s *awsstandin.Server) { s.Denied["kms:GetPublicKey"] = true }},
	})
}

// queues fills in the eight queues as Spacelift's modules make them.
func queues(s *awsstandin.Server) map[string]any {
	inputs := map[string]any{"queue.type": "sqs", "mqtt.type": "builtin"}
	for input, q := range map[string]struct{ name, visibility, dead string }{
		"async": {"async-jobs", "300", "deadletter"}, "async_fifo": {"async-jobs.fifo", "300", "deadletter.fifo"}, "cronjobs": {"cronjobs", "300", "deadletter"},
		"dlq": {"deadletter", "300", ""}, "dlq_fifo": {"deadletter.fifo", "300", ""}, "events_inbox": {"events-inbox", "300", "deadletter"},
		"iot": {"iot", "45", "deadletter"}, "webhooks": {"webhooks", "600", "deadletter"},
	} {
		arn := "arn:aws:sqs:eu-central-1:123456789012:"
		attributes := map[string]string{"QueueArn": arn + q.name, "VisibilityTimeout": q.visibility, "MessageRetentionPeriod": "3600"}
		if strings.HasSuffix(q.name, ".fifo") {
			attributes["FifoQueue"] = "true"
		}
		if q.dead != "" {
			attributes["RedrivePolicy"] = fmt.Sprintf(`{"deadLetterTargetArn":"%s%s","maxReceiveCount":3}`, arn, q.dead)
		}
		url := queueURL(q.name)
		inputs["queue.sqs."+input+"_url"] = url
		if s != nil {
			s.Queues[url] = &awsstandin.Queue{Attributes: attributes}
		}
	}
	return inputs
}

func queueURL(name string) string {
	return "https://sqs.eu-central-1.amazonaws.com/123456789012/" + name
}

func TestRowMessageQueue(t *testing.T) {
	fill := func(s *awsstandin.Server) { queues(s) }
	rule := func(v ...any) map[string]any {
		return map[string]any{"queue.type": v[0], "mqtt.type": v[1]}
	}
	runAWS(t, "message-queue", "eks", queues(nil), fill, []awsRow{
		{row: row{name: "postgres", platform: "onprem", inputs: rule("postgres", "builtin"), want: install.StatePass}},
		{row: row{name: "builtin", platform: "onprem", inputs: rule("builtin", "builtin"), want: install.StateFail, code: "MQ-01", says: []string{"builtin", "postgres"}}},
		{row: row{name: "unset", platform: "onprem", inputs: rule(nil, "builtin"), want: install.StateFail, code: "MQ-02", says: []string{"queue.type", "sqs", "postgres"}}},
		{row: row{name: "iotcore without sqs", inputs: rule("postgres", "iotcore"), want: install.StateFail, code: "MQ-03", says: []string{"iotcore", "postgres", "queue.type to sqs"}}},
		{row: row{name: "iotcore and unset", inputs: rule(nil, "iotcore"), want: install.StateFail, code: "MQ-03", says: []string{"not set"}}},
		{row: row{name: "sqs off AWS", platform: "gke", want: install.StateWarn, code: "MQ-05", says: []string{"gke", "postgres"}}},
		{row: row{name: "sqs", want: install.StatePass}},
		{row: row{name: "sqs, tried", inputs: map[string]any{"queue.sqs.try": true}, want: install.StatePass}},
		{row: row{name: "no URLs", inputs: map[string]any{"queue.sqs.iot_url": nil, "queue.sqs.webhooks_url": nil}, want: install.StateFail, code: "MQ-04", says: []string{"IOT, WEBHOOKS", "all eight"}}},
		{row: row{name: "short visibility", want: install.StateWarn, code: "MQ-06", says: []string{"WEBHOOKS", "VisibilityTimeout", "30", "600"}}, set: func(s *awsstandin.Server) {
			s.Queues[queueURL("webhooks")].Attributes["VisibilityTimeout"] = "30"
		}},
		{row: row{name: "no queue", want: install.StateFail, code: "MQ-07", says: []string{"CRONJOBS", queueURL("cronjobs"), "create the queue"}}, set: func(s *awsstandin.Server) { delete(s.Queues, queueURL("cronjobs")) }},
		{row: row{name: "no dead letters", want: install.StateFail, code: "MQ-08", says: []string{"IOT", "none", "DLQ"}}, set: func(s *awsstandin.Server) { s.Queues[queueURL("iot")].Attributes["RedrivePolicy"] = "" }},
		{row: row{name: "not FIFO", want: install.StateFail, code: "MQ-09", says: []string{"ASYNC_FIFO", "a standard queue"}}, set: func(s *awsstandin.Server) {
			s.Queues[queueURL("async-jobs.fifo")].Attributes["FifoQueue"] = ""
		}},
		{row: row{name: "taken", inputs: map[string]any{"queue.sqs.try": true}, want: install.StateFail, code: "MQ-10", says: []string{"CRONJOBS", "queue.sqs.try to false"}}, set: func(s *awsstandin.Server) { s.Queues[queueURL("cronjobs")].Swallow = true }},
		{row: row{name: "cannot drain", inputs: map[string]any{"queue.sqs.try": true}, want: install.StateFail, code: "AWS-02", says: []string{"sqs:ChangeMessageVisibility"}}, set: func(s *awsstandin.Server) { s.Denied["sqs:ChangeMessageVisibility"] = true }},
	})
}

// rowNetwork is a VPC as an isolated site has it.
func rowNetwork(s *awsstandin.Server) {
	tags := map[string]string{"kubernetes.io/role/internal-elb": "1"}
	s.Network = awsstandin.Network{
		VPC: "vpc-1", CIDRs: []string{"10.0.0.0/16"},
		Subnets:   []awsstandin.Subnet{{ID: "subnet-a", Zone: "eu-central-1a", Tags: tags}, {ID: "subnet-b", Zone: "eu-central-1b", Tags: tags}},
		Endpoints: map[string]string{},
		Groups:    []awsstandin.Group{{ID: "sg-1", In: []string{"10.0.0.0/8"}}, {ID: "sg-2", Out: []string{"0.0.0.0/0"}}},
	}
	for _, service := range []string{"ecr.api", "ecr.dkr", "s3", "secretsmanager", "logs", "monitoring", "sts"} {
		s.Network.Endpoints["com.amazonaws.eu-central-1."+service] = "available"
	}
}

func TestRowSubnets(t *testing.T) {
	with := map[string]any{"aws.vpc_id": "vpc-1", "aws.private_subnet_ids": []any{"subnet-a", "subnet-b"}, "networks.services": []any{"172.20.0.0/16"}, "networks.enclave": []any{"10.50.0.0/16"}}
	bare := map[string]any{"aws.vpc_id": nil, "aws.private_subnet_ids": nil}
	onprem := func(more map[string]any) map[string]any {
		m := maps.Clone(bare)
		maps.Copy(m, map[string]any{"networks.pods": []any{"10.244.0.0/16"}, "networks.services": []any{"10.96.0.0/12"}, "networks.nodes": []any{"192.168.7.0/24"}, "networks.database": []any{"192.168.7.9"}})
		maps.Copy(m, more)
		return m
	}
	runAWS(t, "network-vpc-subnets", "eks", with, rowNetwork, []awsRow{
		{row: row{name: "EKS", want: install.StatePass}},
		{row: row{name: "ECS without tags", platform: "ecs", want: install.StatePass}, set: func(s *awsstandin.Server) { s.Network.Subnets[0].Tags = nil }},
		{row: row{name: "no tag", want: install.StateFail, code: "VPC-04", says: []string{"subnet-a", "kubernetes.io/role/internal-elb=1"}}, set: func(s *awsstandin.Server) { s.Network.Subnets[0].Tags = nil }},
		{row: row{name: "one zone", inputs: map[string]any{"aws.private_subnet_ids": []any{"subnet-a"}}, want: install.StateFail, code: "VPC-03", says: []string{"eu-central-1a", "2 zones"}}},
		{row: row{name: "other VPC", inputs: map[string]any{"aws.vpc_id": "vpc-2"}, want: install.StateFail, code: "VPC-02", says: []string{"vpc-2", "there is none"}}},
		{row: row{name: "VPC over the enclave", inputs: map[string]any{"networks.enclave": []any{"10.0.8.0/24"}}, want: install.StateFail, code: "VPC-05", says: []string{"10.0.8.0/24", "10.0.0.0/16", "choose another network"}}},
		{row: row{name: "not given", inputs: bare, want: install.StateFail, code: "VPC-01", says: []string{"aws.vpc_id"}}},
		{row: row{name: "on premises", platform: "onprem", inputs: onprem(nil), want: install.StatePass}},
		{row: row{name: "pods over the database", platform: "onprem", inputs: onprem(map[string]any{"networks.database": []any{"10.244.3.4"}}), want: install.StateFail, code: "VPC-05", says: []string{"database", "10.244.3.4/32", "pods", "10.244.0.0/16"}}},
		{row: row{name: "no network", platform: "onprem", inputs: onprem(map[string]any{"networks.pods": []any{"10.244.1.0/16"}}), want: install.StateFail, code: "VPC-06", says: []string{"networks.pods", "10.244.0.0/16"}}},
		{row: row{name: "AKS over the enclave", platform: "aks", inputs: onprem(map[string]any{"networks.enclave": []any{"10.30.4.0/24"}}), want: install.StateFail, code: "VPC-05", says: []string{"module-vnet", "10.30.4.0/24"}}},
	})
}

func TestRowInternetGateway(t *testing.T) {
	attach := func(s *awsstandin.Server) { s.Network.Internet = "igw-1" }
	runAWS(t, "network-internet-gateway", "eks", map[string]any{"aws.vpc_id": "vpc-1"}, rowNetwork, []awsRow{
		{row: row{name: "isolated", want: install.StatePass}},
		{row: row{name: "partial", airgap: "partial", want: install.StatePass}, set: attach},
		{row: row{name: "isolated with one", want: install.StateFail, code: "IGW-02", says: []string{"vpc-1", "igw-1", "detach", "waive"}}, set: attach},
		{row: row{name: "partial without", airgap: "partial", want: install.StateFail, code: "IGW-01", says: []string{"vpc-1", "none is attached", "waive"}}},
		{row: row{name: "no VPC given", inputs: map[string]any{"aws.vpc_id": nil}, want: install.StateSkipped}},
	})
}

func TestRowNATGateway(t *testing.T) {
	nat := func(s *awsstandin.Server) { s.Network.NAT = []awsstandin.NAT{{ID: "nat-1", State: "available"}} }
	runAWS(t, "network-nat-gateway", "ecs", map[string]any{"aws.vpc_id": "vpc-1"}, rowNetwork, []awsRow{
		{row: row{name: "isolated", want: install.StatePass}},
		{row: row{name: "partial", airgap: "partial", want: install.StatePass}, set: nat},
		{row: row{name: "isolated with one", want: install.StateFail, code: "NAT-02", says: []string{"nat-1", "vpc-1", "delete"}}, set: nat},
		{row: row{name: "partial without", airgap: "partial", want: install.StateFail, code: "NAT-01", says: []string{"there is none", "private ones"}}},
		{row: row{name: "no endpoint", want: install.StateFail, code: "NAT-03", says: []string{"ecr.dkr", "vpc-1", "com.amazonaws.REGION.ecr.dkr"}}, set: func(s *awsstandin.Server) {
			delete(s.Network.Endpoints, "com.amazonaws.eu-central-1.ecr.dkr")
		}},
		{row: row{name: "no endpoint for the queue", inputs: map[string]any{"queue.type": "sqs"}, want: install.StateFail, code: "NAT-03", says: []string{"sqs"}}},
		{row: row{name: "GKE", platform: "gke", want: install.StateWarn, code: "NAT-04", says: []string{"gke-pods-nat", "gcloud"}}},
	})
}

// rowBalancer is the load balancer of the server.
func rowBalancer(s *awsstandin.Server) {
	rowNetwork(s)
	s.Balancers = []awsstandin.Balancer{{
		Name: "spacelift", Scheme: "internal", State: "active", DNS: "internal-spacelift.elb.example", HealthPath: "/health", HealthPort: "traffic-port",
		Listeners: []awsstandin.Listener{{Port: 443, Protocol: "HTTPS", Certificate: rowCert, Policy: "ELBSecurityPolicy-TLS13-1-2-2021-06"}},
		Targets:   map[string]string{"10.0.0.1": "healthy"},
	}}
	s.Certificates[rowCert] = &awsstandin.Certificate{Status: "ISSUED", Names: []string{rowHost}, NotAfter: time.Now().AddDate(1, 0, 0)}
}

func TestRowLoadBalancer(t *testing.T) {
	on := func(change func(*awsstandin.Balancer)) func(*awsstandin.Server) {
		return func(s *awsstandin.Server) { change(&s.Balancers[0]) }
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	dial := func(address string) map[string]any {
		return map[string]any{"aws.server_load_balancer": nil, "networks.server_endpoint": address}
	}
	with := map[string]any{"aws.server_load_balancer": "spacelift", "tls.acm_arn": rowCert}
	runAWS(t, "network-https-load-balancer", "ecs", with, rowBalancer, []awsRow{
		{row: row{name: "ECS", want: install.StatePass}},
		{row: row{name: "EKS", platform: "eks", want: install.StatePass}, set: on(func(b *awsstandin.Balancer) { b.HealthPath, b.HealthPort = "/readiness", "8080" })},
		{row: row{name: "to the world", want: install.StateFail, code: "ALB-04", says: []string{"spacelift", "internet-facing", "internal"}}, set: on(func(b *awsstandin.Balancer) { b.Scheme = "internet-facing" })},
		{row: row{name: "no HTTPS", want: install.StateFail, code: "ALB-05", says: []string{"80 HTTP", "443 HTTPS"}}, set: on(func(b *awsstandin.Balancer) { b.Listeners[0] = awsstandin.Listener{Port: 80, Protocol: "HTTP"} })},
		{row: row{name: "old TLS", want: install.StateWarn, code: "ALB-07", says: []string{"ELBSecurityPolicy-2016-08", "ELBSecurityPolicy-TLS13-1-2-2021-06"}}, set: on(func(b *awsstandin.Balancer) { b.Listeners[0].Policy = "ELBSecurityPolicy-2016-08" })},
		{row: row{name: "health", want: install.StateWarn, code: "ALB-06", says: []string{"spacelift-server", "/wrong", "/health"}}, set: on(func(b *awsstandin.Balancer) { b.HealthPath = "/wrong" })},
		{row: row{name: "absent", inputs: map[string]any{"aws.server_load_balancer": "other"}, want: install.StateFail, code: "ALB-03", says: []string{"other", "there is none"}}},
		{row: row{name: "answers", platform: "onprem", inputs: dial(l.Addr().String()), want: install.StatePass}},
		{row: row{name: "refuses", platform: "onprem", inputs: dial(gone.Addr().String()), want: install.StateFail, code: "ALB-08", says: []string{gone.Addr().String(), "refused", "ingress controller"}}},
		{row: row{name: "not given", platform: "onprem", inputs: map[string]any{"aws.server_load_balancer": nil}, want: install.StateSkipped}},
	})
}

func TestRowFirewall(t *testing.T) {
	with := map[string]any{"networks.allowed": []any{"10.0.0.0/8"}, "aws.vpc_id": "vpc-1", "aws.security_group_ids": []any{"sg-1"}}
	none := map[string]any{"aws.vpc_id": nil, "aws.security_group_ids": nil}
	runAWS(t, "network-firewall-rules", "eks", with, rowNetwork, []awsRow{
		{row: row{name: "narrow", want: install.StatePass}},
		{row: row{name: "on premises", platform: "onprem", inputs: none, want: install.StatePass}},
		{row: row{name: "not stated", inputs: map[string]any{"networks.allowed": nil}, want: install.StateFail, code: "FW-01", says: []string{"networks.allowed"}}},
		{row: row{name: "everything", inputs: map[string]any{"networks.allowed": []any{"0.0.0.0/0"}}, want: install.StateFail, code: "FW-02", says: []string{"isolated"}}},
		{row: row{name: "groups not given", inputs: none, want: install.StateFail, code: "FW-03", says: []string{"aws.security_group_ids"}}},
		{row: row{name: "open", inputs: map[string]any{"aws.security_group_ids": []any{"sg-1", "sg-2"}}, want: install.StateWarn, code: "FW-05", says: []string{"sg-2", "0.0.0.0/0", "tcp/443"}}},
		{row: row{name: "absent", inputs: map[string]any{"aws.security_group_ids": []any{"sg-9"}}, want: install.StateFail, code: "FW-04", says: []string{"sg-9"}}},
	})
}

func TestRowTerraform(t *testing.T) {
	for _, item := range []string{"mirror-terraform-providers", "vendor-terraform-modules", "deploy-infrastructure-terraform"} {
		t.Run(item, func(t *testing.T) {
			got := runRow(t, row{item: item, platform: "eks", inputs: map[string]any{"infra.mode": "terraform"}, want: install.StateUnavailable})
			if !strings.Contains(got.Reason, "tf.") {
				t.Errorf("reason: %s", got.Reason)
			}
			runRow(t, row{item: item, platform: "eks", want: install.StateSkipped})
		})
	}
	runRow(t, row{item: "deploy-ecs-services", platform: "ecs", inputs: map[string]any{"infra.mode": "terraform"}, want: install.StateUnavailable})
}

func TestRowTerraformVariables(t *testing.T) {
	eks := map[string]any{
		"infra.mode": "terraform", "infra.variables": map[string]any{"rds_engine_version": "16.6", "number_of_images_to_retain": 100},
		"infra.providers": map[string]any{"aws": "~> 6.0"}, "infra.modules": map[string]any{"terraform-aws-eks-spacelift-selfhosted": "v3.10.0"},
	}
	runAWS(t, "review-terraform-variables", "eks", eks, nil, []awsRow{
		{row: row{name: "good", want: install.StatePass}},
		{row: row{name: "old provider", inputs: map[string]any{"infra.providers": map[string]any{"aws": "~> 5.0"}}, want: install.StateFail, code: "TF-04", says: []string{"aws", "~> 5.0", "~> 6.0"}}},
		{row: row{name: "no engine", inputs: map[string]any{"infra.variables": map[string]any{"number_of_images_to_retain": 100}}, want: install.StateFail, code: "TF-05", says: []string{"rds_engine_version", "eks"}}},
		{row: row{name: "AKS", platform: "aks", want: install.StateFail, code: "TF-05", says: []string{"postgres_version", "aks"}}},
		{row: row{name: "GKE", platform: "gke", want: install.StateFail, code: "TF-05", says: []string{"database_version", "gke"}}},
		{row: row{name: "a branch", inputs: map[string]any{"infra.modules": map[string]any{"tf-iam": "main"}}, want: install.StateFail, code: "TF-08", says: []string{"tf-iam", "v3.10.0"}}},
		{row: row{name: "states on AKS", platform: "aks", inputs: map[string]any{"infra.variables": map[string]any{"postgres_version": "16"}}, want: install.StateWarn, code: "TF-09", says: []string{"spacelift-states", "two days"}}},
		{row: row{name: "registry on AKS", platform: "aks", inputs: map[string]any{
			"infra.variables": map[string]any{"postgres_version": "16"}, "infra.outputs": map[string]any{"private_container_registry_name": "pub", "public_container_registry_name": "pub"},
		}, want: install.StateFail, code: "TF-10", says: []string{"private_container_registry_name", "pub", "PRIVATE_CONTAINER_REGISTRY_NAME"}}},
		{row: row{name: "five images", inputs: map[string]any{"infra.variables": map[string]any{"rds_engine_version": "16.6"}}, want: install.StateWarn, code: "TF-11", says: []string{"number_of_images_to_retain", "5", "50"}}},
	})
}

func TestRowECS(t *testing.T) {
	const repository = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/spacelift-backend"
	given := map[string]any{"image.backend.repository": repository, "image.backend.tag": "v4.3.0", "image.backend.digest": "sha256:" + strings.Repeat("a", 64)}
	fill := func(s *awsstandin.Server) {
		rowBalancer(s)
		s.Cluster = awsstandin.Cluster{Name: "spacelift", Services: map[string]*awsstandin.Service{
			"server": {Running: 3, Desired: 3, Image: repository + ":v4.3.0", Secrets: []string{"LICENSE_TOKEN", "DATABASE_URL"}}, "drain": {Running: 3, Desired: 3, Image: repository + ":v4.3.0"},
		}}
	}
	with := map[string]any{
		"ecs.cluster": "spacelift", "ecs.services": []any{"server", "drain"}, "aws.server_load_balancer": "spacelift", "tls.acm_arn": rowCert, "hosts.server": rowHost,
	}
	stop := func(reason string) func(*awsstandin.Server) {
		return func(s *awsstandin.Server) {
			s.Cluster.Services["drain"].Running, s.Cluster.Services["drain"].StoppedReason = 0, reason
		}
	}
	cases := []awsRow{
		{row: row{name: "steady", want: install.StatePass}},
		{row: row{name: "cannot pull", want: install.StateFail, code: "ECS-01", says: []string{"drain", "CannotPullContainerError", "ecr.dkr"}}, set: stop("CannotPullContainerError: ref pull has been retried 1 time(s): dial tcp: i/o timeout")},
		{row: row{name: "no secrets", want: install.StateFail, code: "ECS-02", says: []string{"drain", "Secrets Manager", "execution role"}}, set: stop("ResourceInitializationError: unable to pull secrets or registry auth: unable to retrieve secret from asm")},
		{row: row{name: "certificate", want: install.StateFail, code: "ECS-03", says: []string{rowCert, "PENDING_VALIDATION", "prepare-tls-certificate"}}, set: func(s *awsstandin.Server) { s.Certificates[rowCert].Status = "PENDING_VALIDATION" }},
		{row: row{name: "not steady", want: install.StateFail, code: "ECS-04", says: []string{"server", "1 of 3", "log group"}}, set: func(s *awsstandin.Server) { s.Cluster.Services["server"].Running = 1 }},
		{row: row{name: "no service", want: install.StateFail, code: "ECS-05", says: []string{"drain", "there is none"}}, set: func(s *awsstandin.Server) { delete(s.Cluster.Services, "drain") }},
		{row: row{name: "other image", want: install.StateFail, code: "ECS-06", says: []string{"server", "public.ecr.aws/x", repository}}, set: func(s *awsstandin.Server) { s.Cluster.Services["server"].Image = "public.ecr.aws/x" }},
		{row: row{name: "plain secret", want: install.StateWarn, code: "ECS-07", says: []string{"server", "LICENSE_TOKEN", "sensitive_env_vars"}}, set: func(s *awsstandin.Server) {
			s.Cluster.Services["server"].Environment = map[string]string{"LICENSE_TOKEN": "x"}
		}},
		{row: row{name: "no database", want: install.StateFail, code: "ECS-17", says: []string{"spacelift", "DATABASE_URL", "sensitive_env_vars"}}, set: func(s *awsstandin.Server) { s.Cluster.Services["server"].Secrets = []string{"LICENSE_TOKEN"} }},
		{row: row{name: "not given", inputs: map[string]any{"ecs.cluster": nil}, want: install.StateFail, code: "ECS-09", says: []string{"ecs.cluster"}}},
		{row: row{name: "old tasks remain", want: install.StateFail, code: "ECS-04", says: []string{"server"}}, set: func(s *awsstandin.Server) { s.Cluster.Services["server"].Deployments = 2 }},
		{row: row{name: "rolls out", want: install.StateFail, code: "ECS-04", says: []string{"drain", "IN_PROGRESS"}}, set: func(s *awsstandin.Server) { s.Cluster.Services["drain"].Rollout = "IN_PROGRESS" }},
		{row: row{name: "tasks stop", want: install.StateFail, code: "ECS-08", says: []string{"drain", "exit code 1", "log group"}}, set: stop("Essential container in task exited: exit code 1")},
		{row: row{name: "other name", inputs: map[string]any{"hosts.server": "other.site-a.example"}, want: install.StateFail, code: "ECS-10", says: []string{rowCert, "other.site-a.example", "prepare-tls-certificate"}}},
		{row: row{name: "no balancer", inputs: map[string]any{"aws.server_load_balancer": "nobody"}, want: install.StateFail, code: "ECS-13", says: []string{"nobody", "server_lb_name"}}},
		{row: row{name: "one bad target", want: install.StateWarn, code: "ECS-15", says: []string{"10.0.0.2", "1983"}}, set: func(s *awsstandin.Server) {
			s.Balancers[0].Targets = map[string]string{"10.0.0.1": "healthy", "10.0.0.2": "unhealthy"}
		}},
		{row: row{name: "no healthy target", want: install.StateFail, code: "ECS-16", says: []string{"spacelift-server", "503"}}, set: func(s *awsstandin.Server) { s.Balancers[0].Targets = map[string]string{"10.0.0.1": "unhealthy"} }},
	}
	for i := range cases {
		cases[i].given = given
	}
	runAWS(t, "ecs-deployment", "ecs", with, fill, cases)
}
