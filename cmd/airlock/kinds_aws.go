package main

import (
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/probe/aws"
)

// awsKinds registers the steps about the APIs of AWS.
func awsKinds(probes map[string]install.Probe, _ map[string]install.Action) {
	probes["kms.key"] = aws.KMS{}
	probes["sqs.queue"] = aws.SQS{}
	probes["acm.certificate"] = aws.ACM{}
	probes["ec2.network"] = aws.EC2{}
	probes["elb.listener"] = aws.ELB{}
	probes["ecs.service"] = aws.ECS{}
}
