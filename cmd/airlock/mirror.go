package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/airlock-project/airlock/bundle/regular"
	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/mirror"
	"github.com/airlock-project/airlock/mirror/target"
	"github.com/airlock-project/airlock/verify"
	"github.com/spf13/cobra"
)

// mirrorFlags are the flags of mirror.
type mirrorFlags struct {
	trustFlags
	to       string
	keepHost bool
	flatten  bool
	suffix   string
	mapping  []string
	dryRun   bool
	plan     string
	record   string
	verify   string
	shard    string
	closing  bool
	workers  int
	mapFile  string
	login    loginFlags
	job      jobFlags
}

func (a *app) mirror() *cobra.Command {
	var f mirrorFlags
	cmd := &cobra.Command{
		Use: "mirror BUNDLE --to REGISTRY[/PREFIX]", Short: "Put the content of a verified bundle into a registry",
		Long: `Every blob is verified while it streams and is sent once; nothing is unpacked. Tags
come last. A tag that exists with other content is a conflict, never overwritten.
quay.io/jetstack/x:v1 goes to REGISTRY/PREFIX/jetstack/x:v1.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error {
			if err := f.job.check(cmd); err != nil {
				return err
			}
			if f.job.file != "" {
				return a.renderJob(cmd, list[0], f)
			}
			return a.runMirror(cmd.Context(), list[0], f)
		},
	}
	f.trustFlags.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.to, "to", "", "`registry[/prefix]` to push to")
	fl.BoolVar(&f.keepHost, "keep-host", false, "keep the source host as the first segment of the repository")
	fl.BoolVar(&f.flatten, "flatten", false, "make one segment of every repository: name-<8 hex digits of the source>")
	fl.StringVar(&f.suffix, "tag-suffix", "", "append `text` to every tag, where tags cannot be moved")
	fl.StringArrayVar(&f.mapping, "map", nil, "`REF=REPOSITORY[:TAG]` puts one item, by reference or name, elsewhere below the prefix")
	fl.BoolVar(&f.dryRun, "dry-run", false, "show what would be sent, change nothing; with --output json this is a plan")
	fl.StringVar(&f.plan, "plan", "", "carry out the plan in `file`, and refuse if the registry moved meanwhile; --to, if given, has to be the plan's target")
	fl.StringVar(&f.record, "record", "", "keep what was done in `directory`, so that the next run asks less")
	fl.StringVar(&f.verify, "verify", "head", "how much to read back, a `level`: head, sample or full")
	fl.StringVar(&f.shard, "shard", "", "send the blobs of part `i/n` only, i from 0 to n-1: 0/3, 1/3, 2/3")
	fl.BoolVar(&f.closing, "closing", false, "after all shards: push manifests and tags, and blobs that are still missing")
	fl.IntVar(&f.workers, "workers", 0, "blobs sent at once (default 8, and 24 more while small ones wait)")
	fl.StringVar(&f.mapFile, "relocation-map", "", "write the relocation map to `file`")
	f.login.add(cmd)
	f.job.add(cmd)
	return cmd
}

// mirrored is the result of mirror.
type mirrored struct {
	Relocations manifests.RelocationMap `json:"relocations"`
	Result      mirrorCounts            `json:"result"`
}

// mirrorCounts is mirror.Result as programs read it.
type mirrorCounts struct {
	Pushed    int   `json:"pushed"`
	Unchanged int   `json:"unchanged"`
	Failed    int   `json:"failed"`
	Sent      int   `json:"sent"`
	Reused    int   `json:"reused"`
	Bytes     int64 `json:"bytes"`
	LeftOut   int   `json:"leftOut"`
}

func counts(r mirror.Result) mirrorCounts {
	return mirrorCounts{
		Pushed: r.Pushed, Unchanged: r.Unchanged, Failed: r.Failed, Sent: r.Sent, Reused: r.Reused, Bytes: r.Bytes, LeftOut: r.LeftOut,
	}
}

func (a *app) runMirror(ctx context.Context, path string, f mirrorFlags) error {
	doc, err := readPlan(&f)
	if err != nil {
		return err
	}
	if doc != nil {
		a.say("the plan is for %s", f.to)
	}
	if f.to == "" {
		return &usageError{errors.New("--to is required: the registry to push to")}
	}
	if err := f.check(); err != nil {
		return err
	}
	o, source, err := a.mirrorOptions(ctx, f)
	if err != nil {
		return err
	}
	b, err := a.open(ctx, path, f.trustFlags, verify.Options{AnySite: true})
	if err != nil {
		return err
	}
	defer b.Close()
	if f.dryRun {
		d, err := mirror.DryRun(ctx, b, o)
		if err != nil {
			return err
		}
		d.CredentialSource = source()
		return errors.Join(a.result(d, func(w io.Writer) { printPlan(w, d) }), stopped(d), conflicts(d))
	}
	var m manifests.RelocationMap
	var res mirror.Result
	if doc != nil {
		o.To, o.Mapping = "", mirror.Mapping{}
		m, res, err = mirror.RunPlan(ctx, b, doc, o)
	} else {
		m, res, err = mirror.Run(ctx, b, o)
	}
	err = changedUnderway(path, err)
	if f.mapFile != "" && len(m.Entries) > 0 {
		err = errors.Join(err, writeMap(f.mapFile, &m))
	}
	if v, ok := table(line{}).find(err); !ok || v.code != exitUsage {
		a.say("login at %s: %s", registryOf(f.to), source())
	}
	if len(m.Entries) == 0 && err != nil {
		return err
	}
	return errors.Join(a.result(mirrored{m, counts(res)}, func(w io.Writer) { printMirrored(w, m, res) }), err)
}

// hostHint says what a registry's host looks like.
const hostHint = "a host is a name with a dot, localhost or an address, with a port from 1 to 65535 where it has one, as in registry.example:5000/team"

func registryOf(to string) string {
	host, _, _ := strings.Cut(to, "/")
	return host
}

// check refuses flags before anything is opened.
func (f mirrorFlags) check() error {
	if f.workers < 0 || f.workers > maxWorkers {
		return &usageError{fmt.Errorf("--workers %d: want 1 to %d, or 0 for the default", f.workers, maxWorkers)}
	}
	if err := checkTarget("--to", f.to); err != nil {
		return err
	}
	level := mirror.Level(f.verify)
	if !slices.Contains([]mirror.Level{mirror.VerifyHead, mirror.VerifySample, mirror.VerifyFull}, level) {
		return &usageError{fmt.Errorf("--verify %q: it is one of head, sample, full", f.verify)}
	}
	if !tagRest.MatchString(f.suffix) {
		return &usageError{fmt.Errorf("--tag-suffix %q: a tag has letters, digits and _ . - only, at most 128", f.suffix)}
	}
	switch {
	case f.shard != "" && f.closing:
		return &usageError{errors.New("a run is one of the shards or the closing one: give --shard or --closing")}
	case f.shard != "" && f.mapFile != "":
		return &usageError{errors.New("a shard names nothing, so that it has no relocation map: give --relocation-map to the closing run")}
	case f.shard != "" && level != mirror.VerifyHead:
		return &usageError{errors.New("a shard reads nothing back: give --verify to the closing run")}
	case f.mapFile != "":
		return formerMap().check(f.mapFile)
	}
	return nil
}

// maxWorkers is beyond what any registry answers faster with.
const maxWorkers = 1024

// tagRest is what may follow in a tag (distribution-spec 1.1, "Pulling manifests").
var tagRest = regexp.MustCompile(`^[A-Za-z0-9_.-]{0,127}$`)

// changedUnderway tells a bundle that was good when it was opened, and is none
// any more, from a file that never was one.
func changedUnderway(path string, err error) error {
	if _, ok := errors.AsType[*archive.FormatError](err); ok {
		return &changedError{path, err}
	}
	return err
}

// changedError says that a bundle changed while it was read.
type changedError struct {
	path string
	err  error
}

func (e *changedError) Error() string {
	return fmt.Sprintf("%s changed while it was read: %v", e.path, e.err)
}
func (e *changedError) Unwrap() error { return e.err }

// checkTarget refuses what is not one registry with a prefix. Nothing of a
// target with an @ is quoted: text before it may be a password.
func checkTarget(name, to string) error {
	host, prefix, _ := strings.Cut(strings.TrimSuffix(to, "/"), "/")
	switch {
	case strings.Contains(to, "://"):
		return &settingError{fmt.Errorf("%s: give REGISTRY[:PORT][/PREFIX] without a scheme", name), "leave out what stands before the host; --plain-http HOST speaks HTTP"}
	case strings.ContainsAny(to, ", ;") && !strings.Contains(to, "@"):
		return &settingError{fmt.Errorf("%s %q: give one REGISTRY[:PORT][/PREFIX]", name, to), "run the command once for each registry"}
	case strings.ContainsAny(to, "@?#%\\ "):
		return &settingError{fmt.Errorf("%s: give REGISTRY[:PORT][/PREFIX], without user name or query", name), "--username and --password-file log in"}
	}
	switch _, err := remote.ParseReference(host + "/any"); {
	case host == "":
		return &settingError{fmt.Errorf("%s %q: it names no host, want REGISTRY[:PORT][/PREFIX]", name, to), hostHint}
	case err != nil, !strings.ContainsAny(host, ".:") && host != "localhost":
		return &settingError{fmt.Errorf("%s %q: %q is no host of a registry, want REGISTRY[:PORT][/PREFIX]", name, to, host), hostHint}
	}
	if prefix == "" {
		prefix = "any"
	}
	if _, err := remote.ParseReference(host + "/" + prefix); err != nil || strings.Contains(prefix, ":") {
		return &settingError{fmt.Errorf("%s %q: not REGISTRY[:PORT][/PREFIX]", name, to), "a prefix is lower case letters and digits with single . _ - / between them, as in registry.example:5000/team/apps"}
	}
	return nil
}

// mapError says that what arrived is not written down. It comes after the copy.
type mapError struct{ err error }

func (e *mapError) Error() string { return "relocation map: " + e.err.Error() }
func (e *mapError) Unwrap() error { return e.err }

// writeMap looks again: the file may have come while blobs were sent.
func writeMap(path string, m *manifests.RelocationMap) error {
	data, err := m.Encode()
	if err == nil {
		err = formerMap().replace(path, data)
	}
	if err != nil {
		return &mapError{err}
	}
	return nil
}

// readPlan reads the plan that is to be carried out, if one is. Target and
// mapping are the plan's; --to may say again which target was meant.
func readPlan(f *mirrorFlags) (*mirror.Document, error) {
	if f.plan == "" {
		return nil, nil
	}
	if f.keepHost || f.flatten || f.suffix != "" || len(f.mapping) > 0 || f.dryRun {
		return nil, &usageError{errors.New("--plan says where everything goes: leave out --keep-host, --flatten, --tag-suffix, --map and --dry-run")}
	}
	file, err := regular.Open(f.plan)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	d, err := mirror.ReadDocument(file)
	if err != nil {
		return nil, &usageError{fmt.Errorf("%s: %w", f.plan, err)}
	}
	if err := checkTarget("target of "+f.plan, d.Target); err != nil {
		return nil, err
	}
	if f.to != "" && strings.TrimSuffix(f.to, "/") != strings.TrimSuffix(d.Target, "/") {
		if err := checkTarget("--to", f.to); err != nil {
			return nil, err
		}
		return nil, &settingError{fmt.Errorf("--to %s: %s is a plan for %s", f.to, f.plan, d.Target), "find out which of them is meant: a login is shown to the target of the plan"}
	}
	f.to = d.Target
	return d, nil
}

// mappingOf makes the mapping out of flags.
func mappingOf(f mirrorFlags) (mirror.Mapping, error) {
	m := mirror.Mapping{TagSuffix: f.suffix}
	switch {
	case f.keepHost && f.flatten:
		return m, &usageError{errors.New("give --keep-host or --flatten, not both")}
	case f.keepHost:
		m.Hosts = mirror.KeepHost
	case f.flatten:
		m.Hosts = mirror.Flatten
	}
	for _, s := range f.mapping {
		i := strings.LastIndexByte(s, '=')
		if i <= 0 || i == len(s)-1 {
			return m, &usageError{fmt.Errorf("--map %q: want REF=REPOSITORY[:TAG]", s)}
		}
		if m.Override == nil {
			m.Override = map[string]string{}
		}
		if was, ok := m.Override[s[:i]]; ok && was != s[i+1:] {
			return m, &usageError{fmt.Errorf("--map puts %q both to %q and to %q: give one place", s[:i], was, s[i+1:])}
		}
		m.Override[s[:i]] = s[i+1:]
	}
	return m, nil
}

// mirrorOptions makes the options out of flags.
// source says, after a run, whose credentials were shown.
func (a *app) mirrorOptions(ctx context.Context, f mirrorFlags) (o mirror.Options, source func() string, err error) {
	mapping, err := mappingOf(f)
	if err != nil {
		return o, nil, err
	}
	var shard mirror.Shard
	if f.shard != "" {
		if shard, err = mirror.ParseShard(f.shard); err != nil {
			return o, nil, &usageError{err}
		}
	}
	host, _, _ := strings.Cut(f.to, "/")
	hosts, t, err := a.reach(ctx, f.to, f.login, 1) // the engine repeats requests itself
	if err != nil {
		return o, nil, err
	}
	login := stored(hosts, f.to)
	source = func() string {
		// A plan may end before the registry is shown a login. An error is the
		// registry's to provoke.
		_, _ = login(ctx)
		return hosts.CredentialSource(host)
	}
	return mirror.Options{
		To: f.to, Mapping: mapping, Hosts: hosts, Target: t, Workers: f.workers, Verify: mirror.Level(f.verify),
		Record: f.record, Shard: shard, Closing: f.closing, CredentialSource: hosts.CredentialSource(host), Listener: a.listen(),
	}, source, nil
}

func printMirrored(w io.Writer, m manifests.RelocationMap, r mirror.Result) {
	for _, e := range m.Entries {
		fmt.Fprintf(w, "%s\n  -> %s@%s\n", e.Source, e.Target, e.Digest)
	}
	fmt.Fprintf(w, "%s sent, %d there already; %s sent (%s), %d reused\n", count(r.Pushed, "item"), r.Unchanged, count(r.Sent, "blob"), megabytes(r.Bytes), r.Reused)
	switch {
	case r.LeftOut == 1:
		fmt.Fprintln(w, "1 manifest stays in the bundle: it describes an index of which only some platforms are carried")
	case r.LeftOut > 1:
		fmt.Fprintf(w, "%d manifests stay in the bundle: they describe an index of which only some platforms are carried\n", r.LeftOut)
	}
}

func printPlan(w io.Writer, d *mirror.Document) {
	fmt.Fprintf(w, "%s (%s), login: %s\n", d.Target, d.Provider, d.CredentialSource)
	if d.Shard != "" {
		fmt.Fprintf(w, "shard %s: only its blobs, and no tag\n", d.Shard)
	}
	for _, n := range d.Notices {
		level := "note"
		if n.Fatal {
			level = "stop"
		}
		fmt.Fprintf(w, "%s      %s: %s\n", level, n.Code, strings.TrimSpace(n.Repository+" "+n.Text))
		if n.Remedy != "" {
			fmt.Fprintf(w, "%10s-> %s\n", "", n.Remedy)
		}
	}
	for _, x := range d.Actions {
		fmt.Fprintf(w, "%s %s%s\n", x.Kind, x.Name, settingsText(x.Settings))
	}
	for _, it := range d.Items {
		fmt.Fprintf(w, "%-9s %s:%s  %s%s\n", it.State, it.Repository, it.Tag, shortDigest(it.Digest.String()), otherwise(it))
	}
	t := d.Totals
	mounts := ""
	if t.Mounts > 0 {
		mounts = fmt.Sprintf(", mount %d", t.Mounts)
	}
	fmt.Fprintf(w, "would send up to %s, %s%s, in about %s\n", count(t.Blobs, "blob"), megabytes(t.Bytes), mounts, count(t.Requests, "request"))
}

// otherwise says what stands in the way of an item.
func otherwise(it mirror.ItemPlan) string {
	var b strings.Builder
	for _, t := range it.Tags {
		if t.Have != "" && t.Have != t.Want {
			fmt.Fprintf(&b, ", but %s is %s", t.Tag, shortDigest(t.Have.String()))
		}
	}
	if b.Len() == 0 && it.Problem != "" {
		b.WriteString("  " + it.Problem)
	}
	return b.String()
}

// settingsText writes the settings of what is going to be made.
func settingsText(set map[string]string) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(set)) {
		fmt.Fprintf(&b, " %s=%s", k, set[k])
	}
	return b.String()
}

// stopped is the refusal that a run would end with.
func stopped(d *mirror.Document) error {
	fatal := slices.DeleteFunc(slices.Clone(d.Notices), func(n target.Notice) bool { return !n.Fatal })
	if len(fatal) == 0 {
		return nil
	}
	return &mirror.RefusedError{Target: d.Target, Notices: fatal}
}

// conflicts lists what a dry run found in the way.
func conflicts(d *mirror.Document) error {
	var refused refusedError
	for _, it := range d.Items {
		for _, tag := range it.Tags {
			if it.State == mirror.Conflict && tag.Have != "" && tag.Have != tag.Want {
				refused = append(refused, &mirror.ConflictError{Target: it.Repository + ":" + tag.Tag, Existing: tag.Have, Want: tag.Want})
			}
		}
	}
	if len(refused) == 0 {
		return nil
	}
	return refused
}

// refusedError is what a dry run found in the way.
type refusedError []error

func (e refusedError) Error() string {
	const most = 10
	var b strings.Builder
	for i, err := range e {
		if i == most {
			fmt.Fprintf(&b, "; and %d more", len(e)-most)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(err.Error())
	}
	return b.String()
}

func (e refusedError) Unwrap() []error { return e }
