package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/manifests/spacelift"
	"github.com/airlock-project/airlock/verify/sign"
	"github.com/spf13/cobra"
)

// defaultDefinition is the file that commands look for.
const defaultDefinition = "airlock.yaml"

func (a *app) bundleInit() *cobra.Command {
	var preset, platform, dir string
	cmd := &cobra.Command{
		Use: "init --preset PRESET --platform PLATFORM", Short: "Write a commented definition to start from", Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error { return a.runInit(preset, platform, dir) },
	}
	cmd.Flags().StringVar(&preset, "preset", "", "`product`: "+spacelift.Name)
	cmd.Flags().StringVar(&platform, "platform", "", "`platform`: eks, ecs, gke, aks or onprem")
	cmd.Flags().StringVar(&dir, "dir", ".", "`folder` to write to")
	return cmd
}

func (a *app) runInit(preset, platform, dir string) error {
	if preset != spacelift.Name {
		return &usageError{fmt.Errorf("--preset %q: presets are: %s", preset, spacelift.Name)}
	}
	files, err := spacelift.Files(platform)
	if err != nil {
		return &usageError{fmt.Errorf("--platform %q: platforms are: %v", platform, spacelift.Platforms())}
	}
	names := sortedKeys(files)
	for _, name := range names {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return fmt.Errorf("write %s: %w", filepath.Join(dir, name), os.ErrExist)
		}
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := writeNew(path, files[name], 0o644); err != nil {
			return err
		}
	}
	return a.result(map[string]any{"written": names}, func(w io.Writer) {
		for _, name := range names {
			fmt.Fprintf(w, "wrote %s\n", filepath.Join(dir, name))
		}
	})
}

// createFlags are the flags of create and lock.
type createFlags struct {
	signFlags
	definition  string
	output      string
	locked      bool
	concurrency int
}

func (a *app) bundleLock() *cobra.Command {
	var f createFlags
	cmd := &cobra.Command{
		Use: "lock", Short: "Resolve every name anew and write airlock.lock", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runLock(cmd.Context(), f) },
	}
	cmd.Flags().StringVarP(&f.definition, "file", "f", defaultDefinition, "the definition `file`")
	return cmd
}

func (a *app) runLock(ctx context.Context, f createFlags) error {
	d, err := loadDefinition(f.definition)
	if err != nil {
		return err
	}
	before := d.formerLock(a)
	plan, done, err := a.plan(ctx, d, d.lockPath+".spool")
	if err != nil {
		return err
	}
	if err := errors.Join(replaceFile(d.lockPath, plan.Lock), done()); err != nil {
		return err
	}
	moved := moves(before, plan)
	a.sayMoves(moved)
	items := 0
	for _, pins := range plan.Pins {
		items += len(pins)
	}
	return a.result(map[string]any{"lock": d.lockPath, "digest": plan.Info.Lock, "items": items, "moves": moved}, func(w io.Writer) {
		fmt.Fprintf(w, "wrote %s: %d items, %s\n", d.lockPath, items, plan.Info.Lock)
	})
}

func (a *app) bundleCreate() *cobra.Command {
	var f createFlags
	cmd := &cobra.Command{
		Use: "create", Short: "Make a signed bundle from airlock.yaml", Args: args(cobra.NoArgs),
		Long: `Reads airlock.yaml, pins every name in airlock.lock (or keeps to the lock that is
there; after an edit of airlock.yaml, to the pins of what was not edited), downloads each byte once and writes one signed .tar.zst. Beside it lie its
checksums and a signed airlock binary for first contact inside the gap.

Interrupted, it leaves NAME.partial; the same command goes on from there.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runCreate(cmd.Context(), f) },
	}
	f.signFlags.add(cmd, true)
	fl := cmd.Flags()
	fl.StringVarP(&f.definition, "file", "f", defaultDefinition, "the definition `file`; its lock lies beside it under the same name, NAME.lock")
	fl.StringVarP(&f.output, "out", "o", "", "the bundle `file` (default PRODUCT-VERSION.tar.zst)")
	fl.BoolVar(&f.locked, "locked", false, "refuse to resolve anew: airlock.lock must fit the definition")
	fl.IntVar(&f.concurrency, "concurrency", 0, "downloads at once (default 6)")
	return cmd
}

// created is the result of create.
type created struct {
	Bundle      string   `json:"bundle"`
	Digest      string   `json:"digest"` // of index.json
	Size        int64    `json:"size"`
	Written     int64    `json:"written"`
	Blobs       int      `json:"blobs"`
	Reused      int      `json:"reused,omitempty"`
	Signers     []string `json:"signers"`
	Beside      []string `json:"beside"`
	DurationSec float64  `json:"seconds"`
}

func (a *app) runCreate(ctx context.Context, f createFlags) error {
	start := time.Now()
	if f.concurrency < 0 {
		return &usageError{fmt.Errorf("--concurrency %d: give a number of downloads, or 0 for the default", f.concurrency)}
	}
	d, err := loadDefinition(f.definition)
	if err != nil {
		return err
	}
	var keys []*sign.Key
	if !f.unsigned {
		if keys, err = f.signFlags.load(ctx, a, d.def, d.dir); err != nil {
			return err
		}
	}
	out := f.output
	if out == "" {
		out = d.def.Product + "-" + d.def.Version + ".tar.zst"
	}
	if err := checkOutput(out); err != nil {
		return err
	}
	if err := checkBeside(ctx, d, out, keys); err != nil {
		return err
	}
	if err := d.keepLock(a, f.locked); err != nil {
		return err
	}
	plan, done, err := a.plan(ctx, d, out+".partial.spool")
	if err != nil {
		return err
	}
	if d.lock == nil {
		if err := replaceFile(d.lockPath, plan.Lock); err != nil {
			return err
		}
		a.sayMoves(moves(d.former, plan))
	}
	a.warnCollisions(plan)
	opts := bundle.CreateOptions{Output: out, Concurrency: f.concurrency, Listener: a.listen()}
	if len(keys) > 0 {
		opts.Sign = signer(keys)
	}
	beside, sums, err := putTools(ctx, d, out, keys)
	if err != nil {
		return &resumableError{err: err, output: out}
	}
	res, err := bundle.Create(ctx, plan, opts)
	if err != nil {
		return &resumableError{err: err, output: out}
	}
	if err := done(); err != nil {
		return err
	}
	if err := writeNew(out+".sha256", []byte(sumLine(res.Sum.Encoded(), out)+sums), 0o644); err != nil {
		return err
	}
	beside = append(beside, out+".sha256")
	c := created{Bundle: out, Digest: digestOf(plan.Index), Size: res.Size, Written: res.Written, Blobs: res.Blobs, Reused: res.Reused, Beside: beside, DurationSec: time.Since(start).Seconds(), Signers: []string{}}
	for _, k := range keys {
		c.Signers = append(c.Signers, k.Fingerprint())
	}
	return a.result(c, c.print)
}

func (c created) print(w io.Writer) {
	fmt.Fprintf(w, "bundle   %s  %s\nindex    %s\n", c.Bundle, megabytes(c.Size), c.Digest)
	for _, s := range c.Signers {
		fmt.Fprintf(w, "signed   %s\n", s)
	}
	if len(c.Signers) == 0 {
		fmt.Fprintln(w, "signed   by nobody: nothing will install it")
	}
	for _, b := range c.Beside {
		fmt.Fprintf(w, "beside   %s\n", b)
	}
}

// checkOutput refuses, before anything is downloaded, an output that exists or
// whose folder does not.
func checkOutput(out string) error {
	if _, err := os.Lstat(out); err == nil {
		return fmt.Errorf("write %s: %w", out, os.ErrExist)
	}
	fi, err := os.Stat(filepath.Dir(out))
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return &os.PathError{Op: "write to", Path: filepath.Dir(out), Err: syscall.ENOTDIR}
	}
	return nil
}

// resumableError is a create that stopped and can go on.
type resumableError struct {
	err    error
	output string
}

func (e *resumableError) Error() string { return e.err.Error() }
func (e *resumableError) Unwrap() error { return e.err }
