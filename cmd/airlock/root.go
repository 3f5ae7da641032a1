package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/spf13/cobra"
)

// app is what every command shares: its surroundings and the global flags.
type app struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer

	output    string
	plainHTTP []string
	caFiles   []string
	resolve   []string
	authFile  string

	bars *progress
}

// usageError is a mistake in the command line itself.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "airlock",
		Short:         "Carry software across an air gap",
		Long:          "Airlock carries software across an air gap: one signed file, made outside,\nverified, mirrored and installed inside.\n\n" + exitHelp,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.output != "text" && a.output != "json" {
				return &usageError{fmt.Errorf("--output %q: text or json", a.output)}
			}
			return nil
		},
	}
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetIn(a.stdin)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	f := root.PersistentFlags()
	f.StringVar(&a.output, "output", "text", "`format` of the result on stdout: text or json")
	f.StringSliceVar(&a.plainHTTP, "plain-http", nil, "`host[:port]` to speak to without TLS; may be repeated")
	f.StringSliceVar(&a.caFiles, "ca-file", nil, "PEM `file` of certificates to trust beside the system's; may be repeated")
	f.StringSliceVar(&a.resolve, "resolve", nil, "connect to `HOST:IP` instead of asking DNS; may be repeated")
	f.StringVar(&a.authFile, "auth-file", "", "registry credentials in a `file` as docker and podman write it")

	bundleCmd := a.group("bundle", "Make, look at, check and install bundles")
	bundleCmd.AddCommand(a.bundleInit(), a.bundleLock(), a.bundleCreate(), a.bundleInspect(), a.bundleVerify(), a.bundleSign(), a.bundleExtract(), a.bundleInstall())
	registryCmd := a.group("registry", "Examine registries")
	registryCmd.AddCommand(a.registryCheck())
	policyCmd := a.group("policy", "Write and check trust policies")
	policyCmd.AddCommand(a.policyInit(), a.policyCheck())
	siteCmd := a.group("site", "Check site files")
	siteCmd.AddCommand(a.siteCheck())
	checklistCmd := a.group("checklist", "Look at the record of an installation")
	checklistCmd.AddCommand(a.checklistReport(), a.checklistVerify())
	root.AddCommand(bundleCmd, a.bundleVerify(), a.mirror(), a.relocate(), registryCmd, a.serve(), policyCmd, siteCmd, checklistCmd, a.keygen(), a.schema(), a.version())
	return root
}

// group is a command that only holds others.
func (a *app) group(name, short string) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &usageError{fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
}

// args wraps a positional check so that its error counts as usage.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, list []string) error {
		if err := check(cmd, list); err != nil {
			return &usageError{fmt.Errorf("%w; usage: %s", err, cmd.UseLine())}
		}
		return nil
	}
}

// hosts makes the registry clients of this invocation.
func (a *app) hosts(extra remote.Options) (*remote.Hosts, error) {
	o := extra
	o.PlainHTTP = append(o.PlainHTTP, a.plainHTTP...)
	o.CAFiles = append(o.CAFiles, a.caFiles...)
	o.AuthFile = a.authFile
	o.UserAgent = "airlock/" + buildVersion().Version
	o.Resolve = map[string]string{}
	for _, r := range a.resolve {
		host, ip, ok := splitResolve(r)
		if !ok {
			return nil, &usageError{fmt.Errorf("--resolve %q: want HOST:IP or HOST:PORT:IP", r)}
		}
		o.Resolve[host] = ip
	}
	return remote.New(o)
}

// splitResolve cuts HOST:IP and HOST:PORT:IP; the address may be IPv6 in brackets.
func splitResolve(s string) (host, ip string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if j := strings.IndexByte(s, '['); j > 0 {
		i = j - 1
	}
	if i <= 0 {
		return "", "", false
	}
	host, ip = s[:i], strings.Trim(s[i+1:], "[]")
	return host, ip, net.ParseIP(ip) != nil
}

// result writes v to stdout: as JSON, or as the text that print writes.
func (a *app) result(v any, print func(w io.Writer)) error {
	a.progressDone()
	if a.output == "json" {
		enc := json.NewEncoder(a.stdout)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	}
	print(a.stdout)
	return nil
}

// say writes one line of conversation.
func (a *app) say(format string, args ...any) {
	a.progressDone()
	fmt.Fprintf(a.stderr, format+"\n", args...)
}
