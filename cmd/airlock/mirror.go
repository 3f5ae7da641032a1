package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/mirror"
	"github.com/airlock-project/airlock/mirror/target/oci"
	"github.com/airlock-project/airlock/verify"
	"github.com/spf13/cobra"
)

// mirrorFlags are the flags of mirror.
type mirrorFlags struct {
	trustFlags
	to       string
	keepHost bool
	dryRun   bool
	workers  int
	mapFile  string
	username string
	passFile string
}

func (a *app) mirror() *cobra.Command {
	var f mirrorFlags
	cmd := &cobra.Command{
		Use: "mirror BUNDLE --to REGISTRY[/PREFIX]", Short: "Put the content of a verified bundle into a registry",
		Long: `Every blob is verified while it streams and is sent once; nothing is unpacked. Tags
come last. A tag that exists with other content is a conflict, never overwritten.
quay.io/jetstack/x:v1 goes to REGISTRY/PREFIX/jetstack/x:v1.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error { return a.runMirror(cmd.Context(), list[0], f) },
	}
	f.trustFlags.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.to, "to", "", "`registry[/prefix]` to push to")
	fl.BoolVar(&f.keepHost, "keep-host", false, "keep the source host as the first segment of the repository")
	fl.BoolVar(&f.dryRun, "dry-run", false, "show what would be sent, change nothing")
	fl.IntVar(&f.workers, "workers", 0, "blobs sent at once; 0 is the default, 8")
	fl.StringVar(&f.mapFile, "relocation-map", "", "write the relocation map to `file`")
	fl.StringVar(&f.username, "username", "", "registry user `name`; the password comes from --password-file")
	fl.StringVar(&f.passFile, "password-file", "", "`file` with the registry password")
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
	if f.to == "" {
		return &usageError{errors.New("--to is required: the registry to push to")}
	}
	if err := f.check(); err != nil {
		return err
	}
	o, err := a.mirrorOptions(f)
	if err != nil {
		return err
	}
	b, err := a.open(ctx, path, f.trustFlags, verify.Options{AnySite: true})
	if err != nil {
		return err
	}
	defer b.Close()
	if f.dryRun {
		p, err := mirror.DryRun(ctx, b, o)
		if err != nil {
			return err
		}
		return a.preview(p)
	}
	m, res, err := mirror.Run(ctx, b, o)
	if f.mapFile != "" && len(m.Entries) > 0 {
		err = errors.Join(err, writeMap(f.mapFile, &m))
	}
	if len(m.Entries) == 0 && err != nil {
		return err
	}
	return errors.Join(a.result(mirrored{m, counts(res)}, func(w io.Writer) { printMirrored(w, m, res) }), err)
}

// check refuses flags before anything is opened.
func (f mirrorFlags) check() error {
	host, prefix, _ := strings.Cut(strings.TrimSuffix(f.to, "/"), "/")
	switch {
	case strings.Contains(f.to, "://"):
		return &settingError{errors.New("--to: give REGISTRY[:PORT][/PREFIX] without a scheme"), "leave out what stands before the host; --plain-http HOST speaks HTTP"}
	case f.username == "" && f.passFile != "":
		return &usageError{errors.New("--password-file needs --username")}
	case f.username != "" && f.passFile == "":
		return &usageError{errors.New("--username needs --password-file")}
	case f.workers < 0:
		return &usageError{fmt.Errorf("--workers %d: want 1 or more, or 0 for the default", f.workers)}
	}
	// Nothing of a target with an @ is quoted: text before it may be a password.
	if strings.ContainsAny(f.to, "@?#%\\ ") {
		return &settingError{errors.New("--to: give REGISTRY[:PORT][/PREFIX], without user name or query"), "--username and --password-file log in"}
	}
	name := prefix
	if name == "" {
		name = "any"
	}
	if _, err := remote.ParseReference(host + "/" + name); err != nil || strings.Contains(prefix, ":") {
		return &settingError{fmt.Errorf("--to %q: not REGISTRY[:PORT][/PREFIX]", f.to), "a prefix is lower case letters and digits with single . _ - / between them, as in registry.example:5000/team/apps"}
	}
	return checkMap(f.mapFile)
}

// checkMap refuses, before anything is sent, a place for the relocation map
// that cannot take it or that holds anything but a former one.
func checkMap(path string) error {
	if path == "" {
		return nil
	}
	dir := filepath.Dir(path)
	if fi, err := os.Stat(dir); err != nil {
		return err
	} else if !fi.IsDir() {
		return &fs.PathError{Op: "write to", Path: dir, Err: syscall.ENOTDIR}
	}
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return &otherFileError{path}
	}
	data, err := readBounded(path, manifests.MaxDocument)
	if err != nil {
		return err
	}
	if _, err := manifests.ParseRelocationMap(path, data); err != nil {
		return &otherFileError{path}
	}
	return nil
}

// otherFileError says that a file is there that is no relocation map.
type otherFileError struct{ path string }

func (e *otherFileError) Error() string {
	return fmt.Sprintf("write %s: it exists and is not a relocation map", e.path)
}

// writeMap looks again: the file may have come while blobs were sent.
func writeMap(path string, m *manifests.RelocationMap) error {
	if err := checkMap(path); err != nil {
		return err
	}
	data, err := m.Encode()
	if err != nil {
		return err
	}
	return replaceFile(path, data)
}

// mirrorOptions makes the options out of flags.
func (a *app) mirrorOptions(f mirrorFlags) (mirror.Options, error) {
	extra := remote.Options{}
	if f.username != "" {
		pass, err := readBounded(f.passFile, 64<<10)
		if err != nil {
			return mirror.Options{}, fmt.Errorf("read password: %w", err)
		}
		host, _, _ := strings.Cut(f.to, "/")
		extra.Credentials = map[string]remote.Credential{host: {Username: f.username, Password: strings.TrimRight(string(pass), "\r\n")}}
	}
	hosts, err := a.hosts(extra)
	if err != nil {
		return mirror.Options{}, err
	}
	return mirror.Options{To: f.to, KeepHost: f.keepHost, Hosts: hosts, Target: oci.Target{}, Workers: f.workers, Listener: a.listen()}, nil
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

func (a *app) preview(p *mirror.Preview) error {
	type row struct {
		Target string `json:"target"`
		Digest string `json:"digest"`
		State  string `json:"state"`
		Error  string `json:"error,omitempty"`
	}
	list := []row{}
	var refused refusedError
	for i, it := range p.Plan.Items {
		r := row{Target: it.Place.String(), Digest: it.Root.Digest.String(), State: string(p.Items[i].State)}
		if err := p.Items[i].Err; err != nil {
			r.Error = err.Error()
			refused = append(refused, err)
		}
		list = append(list, r)
	}
	out := map[string]any{"to": p.Plan.To, "items": list, "blobs": p.Blobs, "bytes": p.Bytes, "requests": p.Writes}
	err := a.result(out, func(w io.Writer) {
		for _, r := range list {
			fmt.Fprintf(w, "%-9s %s  %s\n", r.State, r.Target, shortDigest(r.Digest))
		}
		fmt.Fprintf(w, "would send up to %s, %s, in about %s\n", count(p.Blobs, "blob"), megabytes(p.Bytes), count(p.Writes, "request"))
	})
	if len(refused) > 0 {
		err = errors.Join(err, refused)
	}
	return err
}

// refusedError is what a dry run found in the way.
type refusedError []error

func (e refusedError) Error() string {
	if len(e) == 1 {
		return e[0].Error()
	}
	return fmt.Sprintf("%v (and %d more)", e[0], len(e)-1)
}

func (e refusedError) Unwrap() []error { return e }
