// Package job renders the Kubernetes manifests that mirror one bundle with
// many pods: an Indexed Job whose pods send the blobs, each its share, and a
// closing Job that pushes manifests and tags. Kubernetes spreads, restarts and
// counts the pods; there is no scheduler here.
//
// Both lie in one file. The closing Job is made suspended, and one command lets
// it go once the shards are done. It must not start earlier: a closing run sends
// what it misses, and so would send all that the shards have yet to send.
package job

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/goccy/go-yaml"
)

// Limits of the rendered Jobs.
const (
	// MaxShards bounds the pods; a registry is the bottleneck long before.
	MaxShards = 256
	// retries is for one pod: a run that starts again sends nothing twice.
	retries = 6
	// keepFor is how long finished Jobs stay, for their logs, in seconds.
	keepFor = 7 * 24 * 3600
	// user is nobody's number on most distributions; the image has no users.
	user = 65532
)

// Where things are in the pods.
const (
	bundleDir = "/bundle"
	trustDir  = "/trust"
	caDir     = "/ca"
	authDir   = "/auth"
	tmpDir    = "/tmp"
)

// Options say what to run and where its parts are. To, Bundle, Claim, Image,
// Shards and Policy are required.
type Options struct {
	Name      string // of both Jobs, with -shards and -closing after it; "airlock-mirror" if empty
	Namespace string // the one kubectl uses if empty
	To        string // REGISTRY[/PREFIX]
	Bundle    string // path of the file in the volume, relative
	Claim     string // PersistentVolumeClaim that holds the bundle; read by all pods at once
	Image     string // Airlock's own, by digest where possible
	Shards    int    // pods that send blobs, at most MaxShards
	Parallel  int    // of these at once; all if 0

	Policy      string // ConfigMap with the key policy.yaml and the public keys it names
	Auth        string // Secret of type kubernetes.io/dockerconfigjson; none if empty
	CA          string // ConfigMap with the key ca.pem; the image trusts nothing by itself
	PullSecret  string // Secret with which nodes pull Image
	Account     string // ServiceAccount, for credentials that a provider ties to one
	Args        []string
	Closing     []string // arguments of the closing Job only
	CPU, Memory string   // requested by each pod; "500m" and "128Mi" if empty. Memory is the limit too, doubled
}

// OptionError says which option is wrong.
type OptionError struct {
	Option string
	Reason string
}

func (e *OptionError) Error() string { return fmt.Sprintf("option %s: %s", e.Option, e.Reason) }

var (
	dnsName  = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)
	jobName  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)
	quantity = regexp.MustCompile(`^[1-9][0-9]{0,5}(m|Ki|Mi|Gi)?$`)
	argument = regexp.MustCompile(`^--?[A-Za-z0-9][ -~]*$`)
)

// Render writes both Jobs as YAML. The same options give the same bytes.
func Render(o Options) ([]byte, error) {
	if o.Name == "" {
		o.Name = "airlock-mirror"
	}
	if o.CPU == "" {
		o.CPU = "500m"
	}
	if o.Memory == "" {
		o.Memory = "128Mi"
	}
	if o.Parallel == 0 {
		o.Parallel = o.Shards
	}
	if err := errors.Join(o.check()...); err != nil {
		return nil, err
	}
	shards := job(o, "shards", shardsSpec(o), "--shard=$(JOB_COMPLETION_INDEX)/"+strconv.Itoa(o.Shards))
	closing := job(o, "closing", yaml.MapSlice{{Key: "suspend", Value: true}, {Key: "backoffLimit", Value: retries}}, append([]string{"--closing"}, o.Closing...)...)
	var text strings.Builder
	text.WriteString(head(o))
	for i, doc := range []yaml.MapSlice{shards, closing} {
		b, err := yaml.MarshalWithOptions(doc, yaml.Indent(2), yaml.IndentSequence(true))
		if err != nil {
			return nil, fmt.Errorf("encode job: %w", err)
		}
		if i > 0 {
			text.WriteString("---\n")
		}
		text.WriteString(string(b))
	}
	return []byte(text.String()), nil
}

// check refuses what Kubernetes would refuse later, and what would be read as
// something else in a pod.
func (o Options) check() []error {
	var errs []error
	bad := func(option, format string, args ...any) {
		errs = append(errs, &OptionError{option, fmt.Sprintf(format, args...)})
	}
	names := func(option, value string, need bool) {
		if (value == "" && need) || (value != "" && !dnsName.MatchString(value)) {
			bad(option, "%q is not the name of a Kubernetes object", value)
		}
	}
	if !jobName.MatchString(o.Name) {
		bad("name", "%q: want at most 40 lower-case letters, digits and dashes", o.Name)
	}
	names("namespace", o.Namespace, false)
	names("volume", o.Claim, true)
	names("policy", o.Policy, true)
	names("auth", o.Auth, false)
	names("ca", o.CA, false)
	names("pull-secret", o.PullSecret, false)
	names("service-account", o.Account, false)
	if o.Shards < 1 || o.Shards > MaxShards {
		bad("shards", "%d: want 1 to %d", o.Shards, MaxShards)
	}
	if o.Parallel < 1 || o.Parallel > MaxShards {
		bad("parallel", "%d: want 1 to %d", o.Parallel, MaxShards)
	}
	if _, err := remote.ParseReference(o.To + "/x"); err != nil || !strings.ContainsAny(strings.SplitN(o.To, "/", 2)[0], ".:") {
		bad("to", "%q: want REGISTRY[:PORT][/PREFIX]", o.To)
	}
	if r, err := remote.ParseReference(o.Image); err != nil {
		bad("image", "%v", err)
	} else if r.Tag == "" && r.Digest == "" {
		bad("image", "%q has neither tag nor digest", o.Image)
	}
	if clean := path.Clean("/" + o.Bundle); o.Bundle == "" || clean != "/"+o.Bundle || strings.ContainsFunc(o.Bundle, unprintable) || strings.Contains(o.Bundle, "$(") {
		bad("bundle", "%q: want a clean path below the volume's root", o.Bundle)
	}
	for _, a := range slices.Concat(o.Args, o.Closing) {
		if !argument.MatchString(a) || strings.Contains(a, "$(") {
			bad("argument", "%q: want a flag, with its value after =", a)
		}
	}
	for option, q := range map[string]string{"cpu": o.CPU, "memory": o.Memory} {
		if !quantity.MatchString(q) {
			bad(option, "%q is not a quantity", q)
		}
	}
	return errs
}

func unprintable(r rune) bool { return r < ' ' || r > '~' }

// firstWords begin every file that Render makes.
const firstWords = "# Mirrors a bundle with "

// Rendered says whether Render made a file, perhaps edited since.
func Rendered(data []byte) bool { return bytes.HasPrefix(data, []byte(firstWords)) }

func head(o Options) string {
	ns := ""
	if o.Namespace != "" {
		ns = " -n " + o.Namespace
	}
	auth := ""
	if o.Auth != "" {
		auth = "#   kubectl" + ns + " create secret docker-registry " + o.Auth + " --docker-server=… --docker-username=…\n"
	}
	return firstWords + strconv.Itoa(o.Shards) + ` pods. Before it, once:
#   kubectl` + ns + ` create configmap ` + o.Policy + ` --from-file=policy.yaml --from-file=…the keys it names
` + auth + `# Then apply this file, and let the second Job go when the first one is done:
#   kubectl` + ns + ` apply -f FILE
#   kubectl` + ns + ` wait --for=condition=complete --timeout=24h job/` + o.Name + `-shards
#   kubectl` + ns + ` patch job/` + o.Name + `-closing --type=merge -p '{"spec":{"suspend":false}}'
#   kubectl` + ns + ` wait --for=condition=complete --timeout=24h job/` + o.Name + `-closing
# Applied again after kubectl delete -f FILE it sends only what is missing.
`
}
