package awsstandin

import (
	"encoding/json"
)

// Cluster is a cluster of ECS.
type Cluster struct {
	Name     string
	Services map[string]*Service
}

// Service is a service with its last stopped task.
type Service struct {
	Running, Desired int
	Deployments      int    // 0 is 1
	Rollout          string // "" is COMPLETED
	Image            string
	Environment      map[string]string
	Secrets          []string
	StopCode         string // of the stopped task
	StoppedReason    string // "" is no such task
	Reason           string // of its container
}

type ecsRequest struct {
	Cluster        string   `json:"cluster"`
	Services       []string `json:"services"`
	ServiceName    string   `json:"serviceName"`
	DesiredStatus  string   `json:"desiredStatus"`
	Tasks          []string `json:"tasks"`
	TaskDefinition string   `json:"taskDefinition"`
}

func (s *Server) ecs(action string, body []byte) (any, *failure) {
	var in ecsRequest
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, &failure{"SerializationException", err.Error()}
	}
	if action != "DescribeTaskDefinition" && in.Cluster != s.Cluster.Name {
		return nil, &failure{"ClusterNotFoundException", "Cluster not found."}
	}
	switch action {
	case "DescribeServices":
		return s.services(in.Services), nil
	case "ListTasks":
		arns := []string{}
		if svc := s.Cluster.Services[in.ServiceName]; svc != nil && svc.StoppedReason != "" && in.DesiredStatus == "STOPPED" {
			arns = append(arns, in.ServiceName)
		}
		return map[string]any{"taskArns": arns}, nil
	case "DescribeTasks":
		tasks := []any{}
		for _, name := range in.Tasks {
			svc := s.Cluster.Services[name]
			code := svc.StopCode
			if code == "" {
				code = "TaskFailedToStart"
			}
			tasks = append(tasks, map[string]any{
				"taskArn": "task-of-" + name, "lastStatus": "STOPPED", "stopCode": code, "stoppedReason": svc.StoppedReason,
				"containers": []any{map[string]any{"name": "server", "reason": svc.Reason}},
			})
		}
		return map[string]any{"tasks": tasks, "failures": []any{}}, nil
	case "DescribeTaskDefinition":
		svc := s.Cluster.Services[in.TaskDefinition]
		if svc == nil {
			return nil, &failure{"ClientException", "Unable to describe task definition."}
		}
		env, secrets := []any{}, []any{}
		for k, v := range svc.Environment {
			env = append(env, map[string]any{"name": k, "value": v})
		}
		for _, k := range svc.Secrets {
			secrets = append(secrets, map[string]any{"name": k, "valueFrom": "arn:aws:secretsmanager:" + Region + ":" + Account + ":secret:s"})
		}
		return map[string]any{"taskDefinition": map[string]any{"containerDefinitions": []any{
			map[string]any{"name": "server", "image": svc.Image, "environment": env, "secrets": secrets},
		}}}, nil
	}
	return nil, unknown(action)
}

func (s *Server) services(names []string) any {
	found, failures := []any{}, []any{}
	for _, name := range names {
		svc := s.Cluster.Services[name]
		if svc == nil {
			failures = append(failures, map[string]any{"arn": name, "reason": "MISSING"})
			continue
		}
		rollout := svc.Rollout
		if rollout == "" {
			rollout = "COMPLETED"
		}
		deployments := []any{map[string]any{"status": "PRIMARY", "rolloutState": rollout}}
		for range svc.Deployments - 1 {
			deployments = append(deployments, map[string]any{"status": "ACTIVE", "rolloutState": "IN_PROGRESS"})
		}
		found = append(found, map[string]any{
			"serviceName": name, "serviceArn": "arn:aws:ecs:" + Region + ":" + Account + ":service/" + s.Cluster.Name + "/" + name, "status": "ACTIVE",
			"runningCount": svc.Running, "desiredCount": svc.Desired, "deployments": deployments, "taskDefinition": name,
			"events": []any{map[string]any{"id": "1", "message": "(service " + name + ") was unable to place a task."}},
		})
	}
	return map[string]any{"services": found, "failures": failures}
}
