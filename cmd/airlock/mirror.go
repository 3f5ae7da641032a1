package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

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
	fl.IntVar(&f.workers, "workers", 0, "blobs sent at once (default 8)")
	fl.StringVar(&f.mapFile, "relocation-map", "", "write the relocation map to `file`")
	fl.StringVar(&f.username, "username", "", "registry user `name`; the password comes from --password-file")
	fl.StringVar(&f.passFile, "password-file", "", "`file` with the registry password")
	return cmd
}

// mirrored is the result of mirror.
type mirrored struct {
	Relocations manifests.RelocationMap `json:"relocations"`
	Result      mirror.Result           `json:"result"`
}

func (a *app) runMirror(ctx context.Context, path string, f mirrorFlags) error {
	if f.to == "" {
		return &usageError{errors.New("--to is required: the registry to push to")}
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
		data, encErr := m.Encode()
		if encErr == nil {
			encErr = replaceFile(f.mapFile, data, 0o644)
		}
		err = errors.Join(err, encErr)
	}
	if len(m.Entries) == 0 && err != nil {
		return err
	}
	return errors.Join(a.result(mirrored{m, res}, func(w io.Writer) { printMirrored(w, m, res) }), err)
}

// mirrorOptions makes the options out of flags.
func (a *app) mirrorOptions(f mirrorFlags) (mirror.Options, error) {
	extra := remote.Options{}
	if f.username != "" {
		if f.passFile == "" {
			return mirror.Options{}, &usageError{errors.New("--username needs --password-file")}
		}
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
	fmt.Fprintf(w, "%d items sent, %d there already; %d blobs sent (%s), %d reused\n", r.Pushed, r.Unchanged, r.Sent, megabytes(r.Bytes), r.Reused)
	if r.LeftOut > 0 {
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
	var rows []row
	for i, it := range p.Plan.Items {
		r := row{Target: it.Place.String(), Digest: it.Root.Digest.String(), State: string(p.Items[i].State)}
		if p.Items[i].Err != nil {
			r.Error = p.Items[i].Err.Error()
		}
		rows = append(rows, r)
	}
	out := map[string]any{"to": p.Plan.To, "items": rows, "blobs": p.Blobs, "bytes": p.Bytes, "requests": p.Writes}
	return a.result(out, func(w io.Writer) {
		for _, r := range rows {
			fmt.Fprintf(w, "%-9s %s  %s\n", r.State, r.Target, shortDigest(r.Digest))
		}
		fmt.Fprintf(w, "would send up to %d blobs, %s, in about %d requests\n", p.Blobs, megabytes(p.Bytes), p.Writes)
	})
}
