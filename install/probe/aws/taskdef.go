package aws

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// definition looks at what a service's tasks are made of: its images, and where
// its secrets come from.
func (e *serviceLook) definition(ctx context.Context, name, arn string) error {
	if arn == "" || len(e.a.Images)+len(e.a.Secrets)+len(e.a.Required) == 0 && e.a.Registry == "" {
		return nil
	}
	out, err := e.api.DescribeTaskDefinition(ctx, &ecs.DescribeTaskDefinitionInput{TaskDefinition: aws.String(arn)})
	if err != nil {
		return e.look.api(ctx, err, "ecs:DescribeTaskDefinition", arn)
	}
	if out.TaskDefinition == nil {
		return errors.New("describe task definition: the answer holds none")
	}
	var images []string
	for _, c := range out.TaskDefinition.ContainerDefinitions {
		container, image := aws.ToString(c.Name), aws.ToString(c.Image)
		images = append(images, image)
		if e.a.Registry != "" && !strings.HasPrefix(image, strings.TrimSuffix(e.a.Registry, "/")+"/") {
			e.image(name, container, image, "one from "+e.a.Registry)
		}
		e.plain(name, container, c.Environment)
		for _, v := range c.Environment {
			e.set[aws.ToString(v.Name)] = true
		}
		for _, v := range c.Secrets {
			e.set[aws.ToString(v.Name)] = true
		}
	}
	if len(e.a.Images) > 0 && !slices.ContainsFunc(images, func(i string) bool { return slices.Contains(e.a.Images, i) }) {
		e.image(name, "any", strings.Join(images, ", "), strings.Join(e.a.Images, " or "))
	}
	return nil
}

func (e *serviceLook) image(service, container, have, want string) {
	e.fail(codeImage, fmt.Sprintf("service %s, container %s runs %s, not %s", service, container, have, want),
		map[string]string{"service": service, "container": container, "have": have, "want": want})
}

// plain reports secrets that stand in the task definition as they are: whoever
// may describe it reads them.
func (e *serviceLook) plain(service, container string, env []types.KeyValuePair) {
	for _, v := range env {
		if variable := aws.ToString(v.Name); slices.Contains(e.a.Secrets, variable) {
			e.warn(codePlain, fmt.Sprintf("service %s, container %s: %s is plain text in the task definition", service, container, variable),
				map[string]string{"service": service, "container": container, "name": variable})
		}
	}
}

// unset reports variables that no task definition names. Where a service could
// not be looked at, that comes first.
func (e *serviceLook) unset() {
	if len(e.set) == 0 {
		return
	}
	for _, variable := range e.a.Required {
		if !e.set[variable] {
			e.fail(codeUnset, fmt.Sprintf("no service in cluster %s gets %s", e.a.Cluster, variable), map[string]string{"name": variable, "cluster": e.a.Cluster})
		}
	}
}
