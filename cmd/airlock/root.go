package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/manifests/spacelift"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
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
		Version:       versionLine(),
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.output != "text" && a.output != "json" {
				return &usageError{fmt.Errorf("--output %q: text or json", a.output)}
			}
			return nil
		},
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetIn(a.stdin)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{flagError(err)} })
	f := root.PersistentFlags()
	f.StringVar(&a.output, "output", "text", "`format` of the result on stdout: text or json")
	f.StringSliceVar(&a.plainHTTP, "plain-http", nil, "`host[:port]` to speak to without TLS; may be repeated")
	f.StringSliceVar(&a.caFiles, "ca-file", nil, "PEM `file` of certificates to trust beside the system's; may be repeated")
	f.StringSliceVar(&a.resolve, "resolve", nil, "connect to `HOST:IP[:PORT]` instead of asking DNS; may be repeated")
	f.StringVar(&a.authFile, "auth-file", "", "registry credentials in a `file` as docker and podman write it")

	bundleCmd := a.group("bundle", "Make, look at, check and install bundles")
	bundleCmd.AddCommand(a.bundleInit(), a.bundleLock(), a.bundleCreate(), a.bundleInspect(), a.bundleVerify(), a.bundleSign(), a.bundleExtract(), a.bundleInstall())
	registryCmd := a.group("registry", "Examine registries")
	registryCmd.AddCommand(a.registryCheck())
	policyCmd := a.group("policy", "Write and check trust policies")
	policyCmd.AddCommand(a.policyInit(), a.policyCheck())
	siteCmd := a.group("site", "Write and check site files")
	siteCmd.AddCommand(a.siteInit(), a.siteCheck())
	checklistCmd := a.group("checklist", "Look at a checklist and its record, sign statements")
	checklistCmd.AddCommand(a.checklistShow(), a.checklistStatus(), a.checklistAttest(), a.checklistWaive(), a.checklistReport(), a.checklistVerify(), a.checklistRestore())
	suggest(root, "output", "text", "json")
	for _, c := range bundleCmd.Commands() {
		if c.Name() == "init" {
			suggest(c, "preset", spacelift.Name)
			suggest(c, "platform", spacelift.Platforms()...)
		}
	}
	root.AddCommand(bundleCmd, a.bundleVerify(), a.mirror(), a.relocate(), registryCmd, a.serve(), a.uninstall(), policyCmd, siteCmd, checklistCmd, a.keygen(), a.probe(), a.schema(), a.version())
	return root
}

// flagError leaves out a value where none belongs: what somebody gives to
// --password-stdin is the password.
func flagError(err error) error {
	e, ok := errors.AsType[*pflag.InvalidValueError](err)
	if ok && e.GetFlag().NoOptDefVal != "" {
		return fmt.Errorf("--%s takes no value", e.GetFlag().Name)
	}
	return err
}

// quoted repeats a value in an error, unless a password may be before its @.
func quoted(value string) string {
	if strings.Contains(value, "@") {
		return ""
	}
	return fmt.Sprintf(" %q", value)
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

// args wraps a positional check so that its error counts as usage and names
// what is missing, by the words of the command's Use.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, list []string) error {
		err := check(cmd, list)
		if err == nil {
			return nil
		}
		names := positions(cmd.Use)
		switch {
		case len(list) < len(names):
			err = fmt.Errorf("%s is missing", names[len(list)])
		case len(list) > len(names):
			err = fmt.Errorf("%q is one argument too many", list[len(names)])
		}
		return &usageError{fmt.Errorf("%w; usage: %s", err, cmd.UseLine())}
	}
}

// positions are the names of a command's arguments, as its Use lists them
// between the command and its flags.
func positions(use string) []string {
	words := strings.Fields(use)[1:]
	if i := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "-") }); i >= 0 {
		words = words[:i]
	}
	return words
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
			return nil, &usageError{fmt.Errorf("--resolve%s: want HOST:IP, with :PORT after either if it matters", quoted(r))}
		}
		o.Resolve[host] = ip
	}
	o.Waiting = a.waiting
	h, err := remote.New(o)
	if err != nil {
		return nil, a.blame(err)
	}
	return h, nil
}

// blame finds the flag that remote.New does not like: it asks nobody and
// refuses settings only.
func (a *app) blame(err error) error {
	for _, try := range []struct {
		options remote.Options
		name    string
		hint    string
	}{
		{remote.Options{PlainHTTP: a.plainHTTP}, "--plain-http", "give --plain-http HOST or HOST:PORT, without a scheme and without a path"},
		{remote.Options{CAFiles: a.caFiles}, "--ca-file", "give --ca-file a file of PEM certificates"},
		{remote.Options{AuthFile: a.authFile}, "--auth-file", "give --auth-file a file as docker login and podman login write it"},
	} {
		if _, tried := remote.New(try.options); tried != nil {
			if try.name == "--auth-file" && a.authFile == "" {
				return &settingError{tried, "correct that file, or name another with --auth-file"}
			}
			return &settingError{fmt.Errorf("%s: %w", try.name, tried), try.hint}
		}
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return err
	}
	return &settingError{err, "correct registry: in the site file, or the flags that name the registry"}
}

// splitResolve cuts HOST[:PORT]:IP[:PORT]; an IPv6 address is in brackets.
func splitResolve(s string) (host, to string, ok bool) {
	for i := range len(s) {
		if s[i] != ':' || i == 0 {
			continue
		}
		to := s[i+1:]
		if bare, ok := strings.CutPrefix(to, "["); ok && strings.HasSuffix(bare, "]") {
			to = strings.TrimSuffix(bare, "]")
		} else if strings.Count(to, ":") > 1 && to[0] != '[' {
			continue
		}
		if _, err := netip.ParseAddr(to); err == nil {
			return s[:i], to, true
		}
		if _, err := netip.ParseAddrPort(to); err == nil {
			return s[:i], to, true
		}
	}
	return "", "", false
}

// result writes v to stdout: as JSON, or as the text that print writes. It is
// one write, whose error is the command's.
func (a *app) result(v any, print func(w io.Writer)) error {
	a.progressDone()
	var buf bytes.Buffer
	if a.output == "json" {
		enc := json.NewEncoder(&buf)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		if err := enc.Encode(v); err != nil {
			return err
		}
	} else {
		print(&buf)
	}
	_, err := a.stdout.Write(buf.Bytes())
	return err
}

// say writes one line of conversation; with --output json there is none.
func (a *app) say(format string, args ...any) {
	a.progressDone()
	if a.output == "json" {
		return
	}
	fmt.Fprintf(a.stderr, format+"\n", args...)
}

// warn writes one line that should be seen by whoever reads the result.
func (a *app) warn(format string, args ...any) {
	a.progressDone()
	if a.output == "json" {
		a.jsonLine(map[string]any{"warning": fmt.Sprintf(format, args...)})
		return
	}
	fmt.Fprintf(a.stderr, "warning: "+format+"\n", args...)
}

// waiting says which host is silent. It comes from any goroutine, so it leaves
// the bars alone.
func (a *app) waiting(host string) {
	if a.output != "json" {
		fmt.Fprintf(a.stderr, "waiting for an answer from %s\n", host)
	}
}

// jsonLine writes a JSON object as one line of stderr.
func (a *app) jsonLine(v any) {
	enc := json.NewEncoder(a.stderr)
	enc.SetEscapeHTML(false)
	// Nothing is left to do when words about an error cannot be written.
	_ = enc.Encode(v)
}

// stdout remembers the first error of writing, so that help and other text
// whose writers do not look fail the command too.
type stdout struct {
	w   io.Writer
	err error
}

func (s *stdout) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err != nil {
		err = &stdoutError{err}
		s.err = cmp.Or(s.err, err)
	}
	return n, err
}

// stdoutError says that the result could not be written.
type stdoutError struct{ err error }

func (e *stdoutError) Error() string { return fmt.Sprintf("write the result: %v", e.err) }
func (e *stdoutError) Unwrap() error { return e.err }

// wantsJSON looks for --output json before flags are parsed, so that errors of
// parsing are JSON too.
func wantsJSON(args []string) bool {
	want := false
	for i, arg := range args {
		switch {
		case arg == "--":
			return want
		case arg == "--output" && i+1 < len(args):
			want = args[i+1] == "json"
		case strings.HasPrefix(arg, "--output="):
			want = arg == "--output=json"
		}
	}
	return want
}

// suggest lets a shell complete the values of a flag; commands without it are
// left as they are.
func suggest(cmd *cobra.Command, flag string, values ...string) {
	if cmd.Flag(flag) == nil {
		return
	}
	// It fails only where the flag does not exist or has values already.
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}
