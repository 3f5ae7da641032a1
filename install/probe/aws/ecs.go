package aws

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/airlock-project/airlock/install"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// Codes of ecs.service.
const (
	codePull    = "ECS-01"
	codeSecrets = "ECS-02"
	codeSteady  = "ECS-04"
	codeService = "ECS-05"
	codeImage   = "ECS-06"
	codePlain   = "ECS-07"
	codeStopped = "ECS-08"
	codeUnset   = "ECS-09"
)

const (
	// maxServices bounds one step; the API describes ten at once.
	maxServices      = 50
	servicesPerCall  = 10
	maxStoppedOfEach = 10
)

// ECS is ecs.service. Its zero value is ready and safe for concurrent use.
type ECS struct{}

// ecsArguments are the step's with.
type ecsArguments struct {
	common
	Cluster  string   `json:"cluster"`
	Services []string `json:"services"`
	Images   []string `json:"images"`   // some container of each service runs one of them
	Registry string   `json:"registry"` // HOST or HOST/PREFIX that every container's image comes from
	Secrets  []string `json:"secrets"`  // variables that come from a secret store, never as plain text
	Required []string `json:"required"` // variables that some service gets, from a secret store or as text
}

// Codes implements install.Coder.
func (ECS) Codes() map[string][]string {
	return withCommon(map[string][]string{
		codePull:    {"service", "task", "reason"},
		codeSecrets: {"service", "task", "reason"},
		codeStopped: {"service", "task", "reason"},
		codeSteady:  {"service", "running", "desired", "state"},
		codeService: {"service", "cluster", "reason"},
		codeImage:   {"service", "container", "have", "want"},
		codePlain:   {"service", "container", "name"},
		codeUnset:   {"name", "cluster"},
	})
}

// Run describes services, why tasks of those that are not steady stopped, and
// what their task definitions hold. No value of a variable reaches a finding.
func (p ECS) Run(ctx context.Context, in install.Input) (install.Result, error) {
	var a ecsArguments
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	if len(a.Services) == 0 || len(a.Services) > maxServices {
		return install.Result{}, fmt.Errorf("%d services are not between 1 and %d", len(a.Services), maxServices)
	}
	l, err := a.start(p.Codes())
	if err != nil {
		return install.Result{}, err
	}
	e := &serviceLook{look: l, a: a, set: map[string]bool{}}
	if a.Cluster == "" {
		e.gone(strings.Join(a.Services, ", "), "no cluster is given")
		return l.result(nil), nil
	}
	cfg, err := load(ctx, a.Region)
	if err != nil {
		return l.end(nil, l.api(ctx, err, "ecs:DescribeServices", a.Cluster))
	}
	e.api = ecs.NewFromConfig(cfg)
	if err := e.all(ctx); err != nil {
		return l.result(nil), err
	}
	e.unset()
	return l.result(nil), nil
}

// serviceLook is a look at the services of one cluster.
type serviceLook struct {
	*look
	api *ecs.Client
	a   ecsArguments
	set map[string]bool // variables that a task definition names
}

func (e *serviceLook) gone(service, reason string) {
	e.fail(codeService, fmt.Sprintf("service %s in cluster %s: %s", service, e.a.Cluster, reason), map[string]string{"service": service, "cluster": e.a.Cluster, "reason": reason})
}

func (e *serviceLook) all(ctx context.Context) error {
	for names := range slices.Chunk(e.a.Services, servicesPerCall) {
		out, err := e.api.DescribeServices(ctx, &ecs.DescribeServicesInput{Cluster: aws.String(e.a.Cluster), Services: names})
		if isOneOf(err, "ClusterNotFoundException") {
			e.gone(strings.Join(names, ", "), "there is no such cluster")
			return nil
		}
		if err != nil {
			return e.look.api(ctx, err, "ecs:DescribeServices", e.a.Cluster)
		}
		for _, name := range names {
			i := slices.IndexFunc(out.Services, func(s types.Service) bool {
				return aws.ToString(s.ServiceName) == name || aws.ToString(s.ServiceArn) == name
			})
			if i < 0 {
				e.gone(name, "there is none")
				continue
			}
			if err := e.service(ctx, name, out.Services[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// service judges one service.
func (e *serviceLook) service(ctx context.Context, name string, s types.Service) error {
	if status := aws.ToString(s.Status); status != "ACTIVE" {
		e.gone(name, "it is "+status)
		return nil
	}
	if reason := unsteady(s); reason != "" {
		e.fail(codeSteady, fmt.Sprintf("service %s runs %d of %d tasks: %s", name, s.RunningCount, s.DesiredCount, reason),
			map[string]string{"service": name, "running": strconv.Itoa(int(s.RunningCount)), "desired": strconv.Itoa(int(s.DesiredCount)), "state": reason})
		if err := e.stopped(ctx, name); err != nil {
			return err
		}
	}
	return e.definition(ctx, name, aws.ToString(s.TaskDefinition))
}

// unsteady says why a service is not in its steady state, "" if it is.
func unsteady(s types.Service) string {
	switch {
	case s.DesiredCount == 0:
		return "none is wanted"
	case s.RunningCount != s.DesiredCount:
		reason := "tasks are missing"
		if len(s.Events) > 0 {
			reason += "; the last event: " + bounds(aws.ToString(s.Events[0].Message))
		}
		return reason
	case len(s.Deployments) != 1:
		return fmt.Sprintf("%d deployments are under way", len(s.Deployments))
	}
	d := s.Deployments[0]
	if aws.ToString(d.Status) != "PRIMARY" {
		return "its deployment is " + aws.ToString(d.Status)
	}
	// Services with another deployment controller have no rollout state.
	if d.RolloutState != "" && d.RolloutState != types.DeploymentRolloutStateCompleted {
		return strings.TrimSpace(fmt.Sprintf("its rollout is %s %s", d.RolloutState, bounds(aws.ToString(d.RolloutStateReason))))
	}
	return ""
}

// stopped reports why tasks of a service ended lately. ECS remembers them for
// about an hour. The same reason is reported once.
func (e *serviceLook) stopped(ctx context.Context, name string) error {
	list, err := e.api.ListTasks(ctx, &ecs.ListTasksInput{
		Cluster: aws.String(e.a.Cluster), ServiceName: aws.String(name), DesiredStatus: types.DesiredStatusStopped, MaxResults: aws.Int32(maxStoppedOfEach),
	})
	if err != nil {
		return e.look.api(ctx, err, "ecs:ListTasks", name)
	}
	if len(list.TaskArns) == 0 {
		return nil
	}
	out, err := e.api.DescribeTasks(ctx, &ecs.DescribeTasksInput{Cluster: aws.String(e.a.Cluster), Tasks: list.TaskArns})
	if err != nil {
		return e.look.api(ctx, err, "ecs:DescribeTasks", name)
	}
	seen := map[string]bool{}
	for _, t := range out.Tasks {
		for _, reason := range reasons(t) {
			if reason == "" || seen[reason] {
				continue
			}
			seen[reason] = true
			task := aws.ToString(t.TaskArn)
			e.fail(stopCode(reason), fmt.Sprintf("service %s, task %s: %s", name, task, reason), map[string]string{"service": name, "task": task, "reason": reason})
		}
	}
	return nil
}

// reasons are what a stopped task says of itself and its containers.
func reasons(t types.Task) []string {
	// A task that a deployment or a person stopped is no fault.
	if t.StopCode == types.TaskStopCodeServiceSchedulerInitiated || t.StopCode == types.TaskStopCodeUserInitiated {
		return nil
	}
	out := []string{bounds(aws.ToString(t.StoppedReason))}
	for _, c := range t.Containers {
		reason := bounds(aws.ToString(c.Reason))
		if reason == "" && aws.ToInt32(c.ExitCode) != 0 {
			reason = fmt.Sprintf("container %s ended with exit code %d", aws.ToString(c.Name), aws.ToInt32(c.ExitCode))
		}
		out = append(out, reason)
	}
	return out
}

// stopCode tells reasons apart by the words that ECS documents ("Stopped tasks
// error messages").
func stopCode(reason string) string {
	switch {
	case strings.Contains(reason, "CannotPullContainer"), strings.Contains(reason, "cannot pull registry auth"), strings.Contains(reason, "ecr registry auth"):
		return codePull
	case strings.Contains(reason, "ResourceInitializationError"), strings.Contains(reason, "unable to pull secrets"):
		return codeSecrets
	}
	return codeStopped
}
