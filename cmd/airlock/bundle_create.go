package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/manifests"
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
	d.lock = nil
	plan, done, err := a.plan(ctx, d, d.lockPath+".spool")
	if err != nil {
		return err
	}
	if err := errors.Join(replaceFile(d.lockPath, plan.Lock, 0o644), done()); err != nil {
		return err
	}
	items := 0
	for _, pins := range plan.Pins {
		items += len(pins)
	}
	return a.result(map[string]any{"lock": d.lockPath, "digest": plan.Info.Lock, "items": items}, func(w io.Writer) {
		fmt.Fprintf(w, "wrote %s: %d items, %s\n", d.lockPath, items, plan.Info.Lock)
	})
}

func (a *app) bundleCreate() *cobra.Command {
	var f createFlags
	cmd := &cobra.Command{
		Use: "create", Short: "Make a signed bundle from airlock.yaml", Args: args(cobra.NoArgs),
		Long: `Reads airlock.yaml, pins every name in airlock.lock (or keeps to the lock that is
there), downloads each byte once and writes one signed .tar.zst. Beside it lie its
checksums and a signed airlock binary for first contact inside the gap.

Interrupted, it leaves NAME.partial; the same command goes on from there.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runCreate(cmd.Context(), f) },
	}
	f.signFlags.add(cmd, true)
	fl := cmd.Flags()
	fl.StringVarP(&f.definition, "file", "f", defaultDefinition, "the definition `file`")
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
	d, err := loadDefinition(f.definition)
	if err != nil {
		return err
	}
	var keys []*sign.Key
	if !f.unsigned {
		if keys, err = f.signFlags.load(a, d.def, d.dir); err != nil {
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
	if err := checkBeside(ctx, d, out, f.unsigned); err != nil {
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
		if err := replaceFile(d.lockPath, plan.Lock, 0o644); err != nil {
			return err
		}
	}
	opts := bundle.CreateOptions{Output: out, Concurrency: f.concurrency, Listener: a.listen()}
	if len(keys) > 0 {
		opts.Sign = signer(keys)
	}
	res, err := bundle.Create(ctx, plan, opts)
	if err != nil {
		return &resumableError{err: err, output: out}
	}
	if err := done(); err != nil {
		return err
	}
	beside, err := a.firstContact(ctx, d, out, res.Sum.Encoded(), keys)
	if err != nil {
		return err
	}
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

// definition is a loaded airlock.yaml with what belongs to it.
type definition struct {
	def      *manifests.Definition
	dir      string
	lockPath string
	lock     *manifests.Lock // nil: resolve anew
}

func loadDefinition(path string) (*definition, error) {
	data, err := readBounded(path, manifests.MaxDocument)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, &noDefinitionError{path}
		}
		return nil, err
	}
	def, err := manifests.ParseDefinition(path, data)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	return &definition{def: def, dir: dir, lockPath: filepath.Join(dir, "airlock.lock")}, nil
}

// noDefinitionError says that there is no airlock.yaml here.
type noDefinitionError struct{ path string }

func (e *noDefinitionError) Error() string { return fmt.Sprintf("open %s: no such file", e.path) }

// keepLock loads the lock beside the definition where it fits it.
func (d *definition) keepLock(a *app, must bool) error {
	data, err := readBounded(d.lockPath, manifests.MaxDocument)
	if errors.Is(err, os.ErrNotExist) {
		if must {
			return &staleLockError{path: d.lockPath, missing: true}
		}
		return nil
	}
	if err != nil {
		return err
	}
	lock, err := manifests.ParseLock(d.lockPath, data)
	if err != nil {
		return err
	}
	if lock.Definition != d.def.Digest() {
		if must {
			return &staleLockError{path: d.lockPath}
		}
		a.say("%s was written for another definition: resolving every name anew", d.lockPath)
		return nil
	}
	d.lock = lock
	return nil
}

// staleLockError says that --locked cannot be honoured.
type staleLockError struct {
	path    string
	missing bool
}

func (e *staleLockError) Error() string {
	if e.missing {
		return fmt.Sprintf("--locked: %s does not exist", e.path)
	}
	return fmt.Sprintf("--locked: %s was written for another definition", e.path)
}

// plan resolves a definition. done removes the spool, which is kept while a
// create can be resumed.
func (a *app) plan(ctx context.Context, d *definition, spoolDir string) (plan *bundle.Plan, done func() error, err error) {
	hosts, err := a.hosts(remote.Options{})
	if err != nil {
		return nil, nil, err
	}
	when, err := d.created()
	if err != nil {
		return nil, nil, err
	}
	spool, err := bundle.OpenSpool(spoolDir)
	if err != nil {
		return nil, nil, err
	}
	done = func() error { return errors.Join(spool.Close(), os.RemoveAll(spoolDir)) }
	defer func() {
		if plan == nil {
			err = errors.Join(err, done())
		}
	}()
	set := sourceSet{hosts: hosts, spool: spool, dir: d.dir, created: when, listen: a.listen()}
	sources, err := set.sources(d.def)
	if err != nil {
		return nil, nil, err
	}
	info := bundle.Info{Product: d.def.Product, Version: d.def.Version, Release: d.def.Release, Audience: d.def.Audience, MinTool: d.def.MinTool, Tool: buildVersion().Version}
	if d.def.Expires != "" {
		t, err := time.Parse(time.DateOnly, d.def.Expires)
		if err != nil {
			return nil, nil, err
		}
		info.Expires = t.AddDate(0, 0, 1).Add(-time.Second)
	}
	plan, err = bundle.Resolve(ctx, bundle.ResolveOptions{Info: info, Definition: d.def.Digest(), Sources: sources, Locked: d.lock, Created: when, Spool: spool, Listener: a.listen()})
	return plan, done, err
}

// created is the one time stamp of everything made: the lock's,
// SOURCE_DATE_EPOCH's, or now.
func (d *definition) created() (time.Time, error) {
	if d.lock != nil {
		return time.Parse(time.RFC3339, d.lock.Created)
	}
	if v := os.Getenv("SOURCE_DATE_EPOCH"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return time.Time{}, &usageError{fmt.Errorf("SOURCE_DATE_EPOCH %q: not a number of seconds", v)}
		}
		return time.Unix(n, 0).UTC(), nil
	}
	return time.Now().UTC().Truncate(time.Second), nil
}

// firstContact writes what a machine without Airlock needs beside the bundle:
// the binaries, a signature of each that openssl checks, and checksums. sum is
// the bundle's SHA-256 in hex.
func (a *app) firstContact(ctx context.Context, d *definition, out, sum string, keys []*sign.Key) ([]string, error) {
	dir := filepath.Dir(out)
	tools, err := sourceSet{dir: d.dir}.toolBinaries(d.def)
	if err != nil {
		return nil, err
	}
	var sums strings.Builder
	sums.WriteString(sumLine(sum, out))
	var beside []string
	for _, platform := range sortedKeys(tools) {
		dst := filepath.Join(dir, toolName(platform))
		sum, err := copyTool(ctx, tools[platform], dst)
		if err != nil {
			return nil, err
		}
		sums.WriteString(sumLine(hex.EncodeToString(sum), dst))
		beside = append(beside, dst)
		if len(keys) > 0 {
			sig, err := keys[0].Digest(sum)
			if err != nil {
				return nil, err
			}
			if err := replaceFile(dst+".sig", sig, 0o644); err != nil {
				return nil, err
			}
			beside = append(beside, dst+".sig")
		}
	}
	if err := replaceFile(out+".sha256", []byte(sums.String()), 0o644); err != nil {
		return nil, err
	}
	return append(beside, out+".sha256"), nil
}

// sumLine is a file's line for sha256sum -c.
func sumLine(sum, path string) string { return sum + "  " + filepath.Base(path) + "\n" }

// checkBeside refuses, before anything is downloaded, to put another tool
// where an earlier bundle's lies: that bundle's checksums and the tool's
// signature would no longer fit.
func checkBeside(ctx context.Context, d *definition, out string, unsigned bool) error {
	tools, err := sourceSet{dir: d.dir}.toolBinaries(d.def)
	if err != nil {
		return err
	}
	for _, platform := range sortedKeys(tools) {
		dst := filepath.Join(filepath.Dir(out), toolName(platform))
		have, err := fileSum(ctx, dst)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		want, err := fileSum(ctx, tools[platform])
		if err != nil {
			return err
		}
		if !bytes.Equal(have, want) {
			return fmt.Errorf("write %s, the tool of another bundle in this folder: %w", dst, os.ErrExist)
		}
		if _, err := os.Lstat(dst + ".sig"); err == nil && unsigned {
			return fmt.Errorf("write an unsigned bundle beside %s: %w", dst+".sig", os.ErrExist)
		}
	}
	return nil
}

// fileSum returns the SHA-256 of a file.
func fileSum(ctx context.Context, path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, &contextReader{ctx, f})
	return h.Sum(nil), err
}

// copyTool puts a binary beside the bundle and returns its SHA-256. One that is
// there already is the same: checkBeside has seen to it.
func copyTool(ctx context.Context, src, dst string) (sum []byte, err error) {
	if _, err := os.Lstat(dst); err == nil {
		return fileSum(ctx, dst)
	}
	in, err := os.Open(src)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	tmp := dst + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(f, h), &contextReader{ctx, in})
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(tmp))
	}
	if err := os.Rename(tmp, dst); err != nil {
		return nil, err
	}
	return h.Sum(nil), syncDir(filepath.Dir(dst))
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
