package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/airlock-project/airlock/mirror/job"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// jobFlags are the flags of mirror that render Kubernetes Jobs.
type jobFlags struct {
	file string
	job.Options
}

func (f *jobFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.file, "render-job", "", "write Kubernetes Jobs that do the mirroring to `file` and do nothing else; BUNDLE is then a path in the volume")
	fl.IntVar(&f.Shards, "shards", 0, "render-job: `number` of pods that send blobs")
	fl.IntVar(&f.Parallel, "parallel", 0, "render-job: `number` of these at once (default all)")
	fl.StringVar(&f.Claim, "volume", "", "render-job: PersistentVolumeClaim `name` of the volume that holds the bundle")
	fl.StringVar(&f.Image, "image", "", "render-job: `reference` of Airlock's own image, as mirrored")
	fl.StringVar(&f.Name, "job-name", "airlock-mirror", "render-job: `name` of the Jobs")
	fl.StringVar(&f.Namespace, "namespace", "", "render-job: `namespace` of the Jobs")
	fl.StringVar(&f.Policy, "policy-configmap", "airlock-policy", "render-job: ConfigMap `name` with policy.yaml and the keys it names")
	fl.StringVar(&f.CA, "ca-configmap", "", "render-job: ConfigMap `name` with ca.pem, the registry's authority")
	fl.StringVar(&f.Auth, "auth-secret", "", "render-job: Secret `name` of type kubernetes.io/dockerconfigjson with the registry's login")
	fl.StringVar(&f.PullSecret, "pull-secret", "", "render-job: Secret `name` with which nodes pull the image")
	fl.StringVar(&f.Account, "service-account", "", "render-job: ServiceAccount `name` of the pods")
}

// check refuses the flags of one of the two commands that mirror is with the
// other, which would not heed them.
func (f *jobFlags) check(cmd *cobra.Command) error {
	var own jobFlags
	jobs := &cobra.Command{}
	own.add(jobs)
	var err error
	cmd.Flags().Visit(func(given *pflag.Flag) {
		name := given.Name
		ours := jobs.Flags().Lookup(name) != nil
		switch {
		case err != nil:
		case ours && f.file == "":
			err = &usageError{fmt.Errorf("--%s says how to render Jobs: it needs --render-job FILE", name)}
		case !ours && f.file != "" && name != "to" && name != "output" && !slices.Contains(carried(), name):
			err = &usageError{fmt.Errorf("--%s has no effect with --render-job: the Jobs run elsewhere, and what they use is named by flags that --help marks render-job", name)}
		}
	})
	return err
}

// carried lists the flags of mirror, and global ones, that mean in a pod what
// they mean here.
func carried() []string {
	return []string{"create-with", "flatten", "keep-host", "map", "no-create", "plain-http", "provider", "resolve", "tag-suffix", "verify", "workers"}
}

// renderJob writes the Jobs that would mirror the bundle in a volume.
func (a *app) renderJob(cmd *cobra.Command, bundle string, f mirrorFlags) error {
	o := f.job.Options
	o.Bundle, o.To = bundle, f.to
	for _, name := range carried() {
		fl := cmd.Flags().Lookup(name)
		if fl == nil || !fl.Changed {
			continue
		}
		values := []string{fl.Value.String()}
		if list, ok := fl.Value.(interface{ GetSlice() []string }); ok {
			values = list.GetSlice()
		}
		for _, v := range values {
			arg := "--" + name + "=" + v
			if name == "verify" { // a shard reads nothing back
				o.Closing = append(o.Closing, arg)
				continue
			}
			o.Args = append(o.Args, arg)
		}
	}
	data, err := job.Render(o)
	if _, ok := errors.AsType[*job.OptionError](err); ok {
		return &usageError{err}
	}
	if err != nil {
		return err
	}
	if err := formerJobs().replace(f.job.file, data); err != nil {
		return err
	}
	a.say("wrote %s: its first lines say how to run it", f.job.file)
	return nil
}
