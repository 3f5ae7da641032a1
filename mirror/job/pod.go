package job

import (
	"regexp"
	"strconv"

	"github.com/goccy/go-yaml"
)

type object = yaml.MapSlice

// shardsSpec is what makes a Job Indexed (batch/v1 JobSpec).
func shardsSpec(o Options) object {
	return object{
		{Key: "completionMode", Value: "Indexed"},
		{Key: "completions", Value: o.Shards},
		{Key: "parallelism", Value: min(o.Parallel, o.Shards)},
		{Key: "backoffLimit", Value: retries * o.Shards},
	}
}

// job is one Job: spec holds what sets it apart, mode its flags.
func job(o Options, part string, spec object, mode ...string) object {
	name := o.Name + "-" + part
	labels := object{
		{Key: "app.kubernetes.io/name", Value: "airlock"},
		{Key: "app.kubernetes.io/instance", Value: o.Name},
		{Key: "app.kubernetes.io/component", Value: part},
	}
	meta := object{{Key: "name", Value: name}}
	if o.Namespace != "" {
		meta = append(meta, yaml.MapItem{Key: "namespace", Value: o.Namespace})
	}
	meta = append(meta, yaml.MapItem{Key: "labels", Value: labels})
	spec = append(spec,
		yaml.MapItem{Key: "ttlSecondsAfterFinished", Value: keepFor},
		yaml.MapItem{Key: "template", Value: object{
			{Key: "metadata", Value: object{{Key: "labels", Value: labels}}},
			{Key: "spec", Value: pod(o, mode)},
		}})
	return object{
		{Key: "apiVersion", Value: "batch/v1"},
		{Key: "kind", Value: "Job"},
		{Key: "metadata", Value: meta},
		{Key: "spec", Value: spec},
	}
}

// pod keeps to the "restricted" Pod Security Standard.
func pod(o Options, mode []string) object {
	mounts, volumes := volumes(o)
	spec := object{{Key: "restartPolicy", Value: "Never"}}
	if o.Account != "" {
		spec = append(spec, yaml.MapItem{Key: "serviceAccountName", Value: o.Account})
	}
	spec = append(spec,
		// Airlock does not speak to the cluster. What a provider needs is projected
		// by its own webhook, whatever is said here.
		yaml.MapItem{Key: "automountServiceAccountToken", Value: false},
		yaml.MapItem{Key: "securityContext", Value: object{
			{Key: "runAsNonRoot", Value: true},
			{Key: "runAsUser", Value: user},
			{Key: "runAsGroup", Value: user},
			{Key: "fsGroup", Value: user},
			// A claim of a terabyte is not walked for its owners.
			{Key: "fsGroupChangePolicy", Value: "OnRootMismatch"},
			{Key: "seccompProfile", Value: object{{Key: "type", Value: "RuntimeDefault"}}},
		}})
	if o.PullSecret != "" {
		spec = append(spec, yaml.MapItem{Key: "imagePullSecrets", Value: []object{{{Key: "name", Value: o.PullSecret}}}})
	}
	return append(spec,
		yaml.MapItem{Key: "containers", Value: []object{{
			{Key: "name", Value: "airlock"},
			{Key: "image", Value: o.Image},
			{Key: "args", Value: arguments(o, mode)},
			{Key: "env", Value: []object{{{Key: "name", Value: "HOME"}, {Key: "value", Value: tmpDir}}}},
			{Key: "resources", Value: object{
				{Key: "requests", Value: object{{Key: "cpu", Value: o.CPU}, {Key: "memory", Value: o.Memory}}},
				{Key: "limits", Value: object{{Key: "memory", Value: twice(o.Memory)}}},
			}},
			{Key: "securityContext", Value: object{
				{Key: "allowPrivilegeEscalation", Value: false},
				{Key: "readOnlyRootFilesystem", Value: true},
				{Key: "capabilities", Value: object{{Key: "drop", Value: []string{"ALL"}}}},
			}},
			{Key: "volumeMounts", Value: mounts},
		}}},
		yaml.MapItem{Key: "volumes", Value: volumes})
}

// arguments are those of airlock mirror. Its image has the binary as entrypoint.
func arguments(o Options, mode []string) []string {
	args := []string{"mirror", bundleDir + "/" + o.Bundle, "--to=" + o.To, "--policy=" + trustDir + "/policy.yaml"}
	if o.CA != "" {
		args = append(args, "--ca-file="+caDir+"/ca.pem")
	}
	if o.Auth != "" {
		args = append(args, "--auth-file="+authDir+"/config.json")
	}
	return append(append(args, o.Args...), mode...)
}

// volumes returns where things are mounted, and what is. Only /tmp is written to.
func volumes(o Options) (mounts, list []object) {
	add := func(name, dir string, readOnly bool, source yaml.MapItem) {
		m := object{{Key: "name", Value: name}, {Key: "mountPath", Value: dir}}
		if readOnly {
			m = append(m, yaml.MapItem{Key: "readOnly", Value: true})
		}
		mounts = append(mounts, m)
		list = append(list, object{{Key: "name", Value: name}, source})
	}
	configMap := func(name string) yaml.MapItem {
		return yaml.MapItem{Key: "configMap", Value: object{{Key: "name", Value: name}}}
	}
	add("bundle", bundleDir, true, yaml.MapItem{Key: "persistentVolumeClaim", Value: object{{Key: "claimName", Value: o.Claim}, {Key: "readOnly", Value: true}}})
	add("trust", trustDir, true, configMap(o.Policy))
	if o.CA != "" {
		add("ca", caDir, true, configMap(o.CA))
	}
	if o.Auth != "" {
		add("auth", authDir, true, yaml.MapItem{Key: "secret", Value: object{
			{Key: "secretName", Value: o.Auth},
			{Key: "items", Value: []object{{{Key: "key", Value: ".dockerconfigjson"}, {Key: "path", Value: "config.json"}}}},
		}})
	}
	add("tmp", tmpDir, false, yaml.MapItem{Key: "emptyDir", Value: object{}})
	return mounts, list
}

var parts = regexp.MustCompile(`^([0-9]+)(.*)$`)

// twice doubles a quantity that was checked.
func twice(q string) string {
	m := parts.FindStringSubmatch(q)
	n, err := strconv.Atoi(m[1])
	if err != nil {
		return q // more digits than check allows
	}
	return strconv.Itoa(2*n) + m[2]
}
