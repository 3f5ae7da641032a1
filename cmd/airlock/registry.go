package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/mirror"
	"github.com/airlock-project/airlock/mirror/check"
	"github.com/airlock-project/airlock/mirror/target"
	"github.com/airlock-project/airlock/mirror/target/oci"
	"github.com/spf13/cobra"
)

// maxSecret bounds a password or token; a token that lists its groups has a few KiB.
const maxSecret = 64 << 10

// loginFlags say who we are at the target registry. They come before every
// other login.
type loginFlags struct {
	username      string
	passFile      string
	passwordStdin bool
	tokenStdin    bool
	anonymous     bool
	provider      string // "" finds out
	noCreate      bool
	createWith    []string
}

func (f *loginFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.username, "username", "", "registry user `name`; the password comes from --password-stdin or --password-file")
	fl.StringVar(&f.passFile, "password-file", "", "`file` with the registry password")
	fl.BoolVar(&f.passwordStdin, "password-stdin", false, "read the registry password from stdin")
	fl.BoolVar(&f.tokenStdin, "token-stdin", false, "read a bearer token for the registry from stdin")
	fl.StringVar(&f.provider, "provider", "", "`product` of the registry, ecr, gar, acr, harbor or oci, where name and answers do not tell")
	fl.BoolVar(&f.noCreate, "no-create", false, "make no repository or project: Terraform or somebody else owns them")
	fl.StringArrayVar(&f.createWith, "create-with", nil, "`NAME=VALUE`, a setting of what is made: immutable, mutable-tags, scan, kms-key, tag.NAME (ecr), immutable, kms-key (gar), public, storage-limit (harbor); may be repeated")
	fl.BoolVar(&f.anonymous, "anonymous", false, "show the registry no login, whatever is stored")
}

// options makes the part of the client's options that is about the login.
func (f loginFlags) options(a *app, host string) (remote.Options, error) {
	o := remote.Options{Target: host}
	ways := 0
	for _, given := range []bool{f.passFile != "", f.passwordStdin, f.tokenStdin, f.anonymous} {
		if given {
			ways++
		}
	}
	switch {
	case ways > 1:
		return o, &usageError{errors.New("give one of --password-stdin, --password-file, --token-stdin and --anonymous")}
	case f.username != "" && f.passFile == "" && !f.passwordStdin:
		return o, &usageError{errors.New("--username needs --password-stdin or --password-file")}
	case f.username == "" && (f.passFile != "" || f.passwordStdin):
		return o, &usageError{errors.New("a password needs --username")}
	case f.anonymous:
		o.Anonymous = []string{host}
		return o, nil
	case ways == 0:
		return o, nil
	}
	secret, err := f.secret(a)
	if err != nil {
		return o, err
	}
	c := remote.Credential{Username: f.username, Password: secret}
	if f.tokenStdin {
		c = remote.Credential{AccessToken: secret}
	}
	o.Credentials = map[string]remote.Credential{host: c}
	return o, nil
}

// secret reads the password or token. Its errors hold nothing of it.
func (f loginFlags) secret(a *app) (string, error) {
	var data []byte
	var err error
	if f.passFile != "" {
		if data, err = readSecret("password-file", f.passFile, maxSecret); err != nil {
			return "", err
		}
	} else if data, err = io.ReadAll(io.LimitReader(a.stdin, maxSecret+1)); len(data) > maxSecret {
		err = fmt.Errorf("larger than %d bytes", maxSecret)
	}
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	secret := strings.TrimRight(string(data), "\r\n")
	if secret == "" {
		return "", &usageError{errors.New("the password or token is empty")}
	}
	return secret, nil
}

// reach makes the clients for a target registry, and its adapter. attempts is
// how often one request is sent; 0 means the client's own choice.
func (a *app) reach(ctx context.Context, to string, f loginFlags, attempts int) (*remote.Hosts, mirror.Target, error) {
	host, _, _ := strings.Cut(to, "/")
	o, err := f.options(a, host)
	if err != nil {
		return nil, nil, err
	}
	o.Attempts = attempts
	return a.connect(ctx, to, f, o)
}

// connect makes the clients that o describes, and the adapter for a registry.
func (a *app) connect(ctx context.Context, to string, f loginFlags, o remote.Options) (*remote.Hosts, mirror.Target, error) {
	host, _, _ := strings.Cut(to, "/")
	var t mirror.Target = oci.Target{}
	// Adapters are made out of the client, and the client asks them: so late.
	o.Native = func(h string) remote.Native {
		if !strings.EqualFold(h, host) {
			return nil
		}
		return native(t)
	}
	hosts, err := a.hosts(o)
	if err != nil {
		return nil, nil, err
	}
	t, err = a.provider(ctx, to, f, hosts, o.Credentials[host])
	if err == nil && t.Limits().PreemptiveBasic {
		err = hosts.Preempt(host)
	}
	return hosts, t, err
}

// native is the chain of credentials of an adapter whose product has one. The
// others say by an empty login that those of docker and podman apply.
func native(t mirror.Target) remote.Native {
	switch t.Kind() {
	case "acr", "ecr", "gar", "harbor":
	default:
		return nil
	}
	return func(ctx context.Context) (remote.Credential, string, time.Time, error) {
		c, err := t.Credential(ctx)
		return remote.Credential{Username: c.Username, Password: c.Password}, c.Source, c.Expires, err
	}
}

// checkError says that a registry failed its check; the result was shown.
type checkError struct {
	registry string
	failed   int
}

func (e *checkError) Error() string {
	return fmt.Sprintf("check %s: %d of the checks failed", e.registry, e.failed)
}

func (a *app) registryCheck() *cobra.Command {
	var f loginFlags
	var repository string
	var write bool
	cmd := &cobra.Command{
		Use: "check REGISTRY[/PREFIX]", Short: "Examine a registry: TLS, clock, credentials, capabilities",
		Long: `Reads only, unless --write-probe is given: then uploads are opened and given up
again, and what a registry must refuse is offered to see how it refuses. Nothing
is stored either way. Ends with exit code 1 if pushing would fail.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error {
			return a.runRegistryCheck(cmd.Context(), list[0], repository, write, f)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&repository, "repository", "airlock-check", "repository `name` below REGISTRY/PREFIX that the probes speak of")
	cmd.Flags().BoolVar(&write, "write-probe", false, "also open uploads and give them up again")
	return cmd
}

func (a *app) runRegistryCheck(ctx context.Context, registry, repository string, write bool, f loginFlags) error {
	if err := checkTarget("registry", registry); err != nil {
		return err
	}
	// A check tells what is there now, so that one repetition is enough.
	hosts, t, err := a.reach(ctx, registry, f, 2)
	if err != nil {
		return err
	}
	_, prefix, _ := strings.Cut(strings.TrimSuffix(registry, "/"), "/")
	name := strings.TrimPrefix(prefix+"/"+repository, "/")
	r, err := check.Run(ctx, check.Options{
		Registry: registry, Repository: repository, Hosts: hosts, WriteProbe: write,
		Kind: t.Kind(), Explain: t.Explain, ManifestMax: t.Limits().ManifestMax,
		Inspect: func(ctx context.Context) (target.State, error) {
			return t.Inspect(ctx, target.Request{Repositories: []target.Need{{Name: name}}})
		},
	})
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		return &usageError{err}
	}
	if err := a.result(r, func(w io.Writer) { printCheck(w, r) }); err != nil {
		return err
	}
	if r.OK() {
		return nil
	}
	e := &checkError{registry: r.Registry}
	for _, row := range r.Rows {
		if row.Status == check.Fail {
			e.failed++
		}
	}
	for _, n := range r.Notices {
		if n.Fatal {
			e.failed++
		}
	}
	return e
}

func printCheck(w io.Writer, r *check.Result) {
	fmt.Fprintf(w, "%s (%s)\n", r.Registry, r.Kind)
	for _, row := range r.Rows {
		fmt.Fprintf(w, "%-7s  %-14s  %s\n", row.Status, row.Name, row.Text)
		if row.Remedy != "" {
			fmt.Fprintf(w, "%25s  -> %s\n", "", row.Remedy)
		}
	}
	for _, n := range r.Notices {
		level := "warn"
		if n.Fatal {
			level = "fail"
		}
		fmt.Fprintf(w, "%-7s  %-14s  %s\n", level, n.Code, strings.TrimSpace(n.Repository+" "+n.Text))
		if n.Remedy != "" {
			fmt.Fprintf(w, "%25s  -> %s\n", "", n.Remedy)
		}
	}
}
