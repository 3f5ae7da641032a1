package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/verify"
	"github.com/spf13/cobra"
)

func (a *app) bundleSign() *cobra.Command {
	var f signFlags
	cmd := &cobra.Command{
		Use: "sign BUNDLE --key KEY", Short: "Sign a bundle that exists; the signature is laid beside it",
		Long: "Writes BUNDLE.<key>.sigstore.json. The bundle itself is not touched, so media that\nwere delivered stay as they are.",
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error { return a.runSign(cmd.Context(), list[0], f) },
	}
	f.add(cmd, false)
	return cmd
}

func (a *app) runSign(ctx context.Context, path string, f signFlags) error {
	if path == "-" {
		return &usageError{errors.New("a signature is laid beside a file: give the file, not a pipe")}
	}
	if len(f.keys) == 0 {
		return &usageError{errors.New("--key is required: the private key to sign with")}
	}
	keys, err := f.load(ctx, a, nil, "")
	if err != nil {
		return err
	}
	file, err := bundle.OpenFile(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := bundle.ParseIndex(file.Head().Index); err != nil {
		return fmt.Errorf("sign %s: %w", path, err)
	}
	sigs, err := signer(keys)(ctx, file.Head().Index)
	if err != nil {
		return err
	}
	beside, err := verify.Beside(path)
	if err != nil {
		return err
	}
	var written []string
	for _, s := range sigs {
		out := beside + "." + s.Name
		if err := writeNew(out, s.Data, 0o644); err != nil {
			return err
		}
		written = append(written, out)
	}
	return a.result(map[string]any{"written": written}, func(w io.Writer) {
		for _, p := range written {
			fmt.Fprintf(w, "wrote %s\n", p)
		}
	})
}
