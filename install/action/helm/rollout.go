package helm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/airlock-project/airlock/install"
)

// rollouts warns of Deployments whose pods are replaced and whose strategy may
// take most of them down at once.
func (p *prepared) rollouts(d difference) []install.Finding {
	var out []install.Finding
	for _, o := range p.objects {
		name := key(o.Tree, p.a.Namespace).name
		if o.Kind() != "Deployment" || !isResource(o.Stage) || !slices.Contains(d.rollouts, name) {
			continue
		}
		spec, _ := o.Tree["spec"].(map[string]any)
		down, replicas := unavailable(spec)
		if replicas < 2 || 2*down <= replicas {
			continue
		}
		percent := fmt.Sprintf("%d%%", 100*down/replicas)
		out = append(out, install.Finding{
			Code: codeRollout, Severity: install.SeverityWarn,
			Detail: fmt.Sprintf("%s may lose %d of %d replicas while it is rolled out", name, down, replicas),
			Fields: map[string]string{"release": p.a.Release, "workload": name, "percent": percent},
		})
	}
	return out
}

// unavailable is how many replicas a Deployment may lose in a rollout, with the
// API's defaults and its rounding: percentages down.
func unavailable(spec map[string]any) (down, replicas int) {
	replicas = 1
	if n, ok := whole(spec["replicas"]); ok {
		replicas = n
	}
	strategy, _ := spec["strategy"].(map[string]any)
	if strategy["type"] == "Recreate" {
		return replicas, replicas
	}
	rolling, _ := strategy["rollingUpdate"].(map[string]any)
	limit := rolling["maxUnavailable"]
	if limit == nil {
		limit = "25%"
	}
	if n, ok := whole(limit); ok {
		return min(n, replicas), replicas
	}
	text, _ := limit.(string)
	percent, err := strconv.Atoi(strings.TrimSuffix(text, "%"))
	if err != nil {
		return 0, replicas
	}
	return min(percent*replicas/100, replicas), replicas
}

func whole(v any) (int, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	i, err := strconv.Atoi(n.String())
	return i, err == nil
}
