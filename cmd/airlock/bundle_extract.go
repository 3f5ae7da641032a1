package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/airlock-project/airlock/verify"
	"github.com/airlock-project/airlock/verify/extract"
	"github.com/spf13/cobra"
)

func (a *app) bundleExtract() *cobra.Command {
	var t trustFlags
	var out string
	cmd := &cobra.Command{
		Use: "extract BUNDLE [ITEM] -o DIR", Short: "Take one item, or all, out of a verified bundle",
		Long: `ITEM is a name or reference that inspect shows. Files, charts, modules and
documents come out as files, an image as an OCI layout. Without ITEM the whole
bundle comes out as the OCI layout it is.

extract - -o FILE lands a bundle that arrives through a pipe (a data diode): it is
verified while it is written and gets its name only if every byte was right.`,
		Args: args(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, list []string) error {
			if out == "" {
				return &usageError{errors.New("-o is required: where to write")}
			}
			if list[0] == "-" {
				if len(list) > 1 {
					return &usageError{errors.New("a pipe is landed whole: give no item")}
				}
				return a.runLand(cmd.Context(), out, t)
			}
			item := ""
			if len(list) > 1 {
				item = list[1]
			}
			return a.runExtract(cmd.Context(), list[0], item, out, t)
		},
	}
	t.add(cmd)
	cmd.Flags().StringVarP(&out, "out", "o", "", "`directory` to write to (with -: the file)")
	return cmd
}

func (a *app) runExtract(ctx context.Context, path, item, out string, t trustFlags) error {
	b, err := a.open(ctx, path, t, verify.Options{AnySite: true})
	if err != nil {
		return err
	}
	defer b.Close()
	written, err := extract.To(ctx, b, item, out)
	if err != nil {
		return fmt.Errorf("extract %s: %w", path, err)
	}
	return a.result(map[string]any{"written": written}, func(w io.Writer) {
		for _, p := range written {
			fmt.Fprintf(w, "wrote %s\n", p)
		}
	})
}

// runLand writes standard input to a file while it is verified.
func (a *app) runLand(ctx context.Context, out string, t trustFlags) error {
	p, err := t.trust("-")
	if err != nil {
		return err
	}
	if _, err := os.Lstat(out); err == nil {
		return fmt.Errorf("write %s: %w", out, os.ErrExist)
	}
	// Its own name for each landing: two to one name must not share a file.
	f, err := os.CreateTemp(filepath.Dir(out), filepath.Base(out)+".partial-*")
	if err != nil {
		return err
	}
	partial := f.Name()
	info, dec, err := verify.Stream(ctx, a.stdin, f, p, verify.Options{AnySite: true, Version: buildVersion().Version}, a.listen())
	if err == nil {
		err = errors.Join(f.Chmod(0o644), f.Sync())
	}
	err = errors.Join(err, f.Close())
	if _, exists := os.Lstat(out); err == nil && exists == nil {
		err = os.ErrExist // it appeared while we wrote
	}
	if err == nil {
		err = os.Rename(partial, out)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("land %s: %w", out, err), os.Remove(partial))
	}
	if err := syncDir(filepath.Dir(out)); err != nil {
		return err
	}
	return a.report(describe(out, info, dec, "every byte verified"))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
