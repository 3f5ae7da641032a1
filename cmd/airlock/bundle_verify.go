package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/airlock-project/airlock/verify"
	"github.com/spf13/cobra"
)

func (a *app) bundleVerify() *cobra.Command {
	var t trustFlags
	var quick bool
	cmd := &cobra.Command{
		Use: "verify BUNDLE", Short: "Check who signed a bundle and that every byte is right",
		Long: "BUNDLE is a .tar.zst file, a directory it was unpacked to, or - for standard input.\nNothing is written. Signatures beside the file (BUNDLE.*.sigstore.json) count too.",
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error { return a.runVerify(cmd.Context(), list[0], t, quick) },
	}
	t.add(cmd)
	cmd.Flags().StringVar(&t.site, "site-name", "", "this site's `name`, for bundles made for particular sites")
	cmd.Flags().BoolVar(&quick, "signature-only", false, "decide on signatures and completeness, do not read the content")
	return cmd
}

// verified is the result of verify.
type verified struct {
	Bundle   string       `json:"bundle"`
	Digest   string       `json:"digest"`
	Product  string       `json:"product"`
	Version  string       `json:"version"`
	Release  int64        `json:"release"`
	Created  string       `json:"created"`
	Expires  string       `json:"expires,omitempty"`
	Audience []string     `json:"audience,omitempty"`
	Policy   string       `json:"policy"`
	Signers  []signerInfo `json:"signers"`
	Content  string       `json:"content"` // "verified" or "not read"
}

// signerInfo is a signer as programs read it.
type signerInfo struct {
	Name        string `json:"name"`
	Role        string `json:"role"`
	Fingerprint string `json:"fingerprint"`
}

func signersOf(list []verify.Signer) []signerInfo {
	out := []signerInfo{}
	for _, s := range list {
		out = append(out, signerInfo{s.Name, s.Role, s.Fingerprint})
	}
	return out
}

func describe(path string, i verify.Info, d verify.Decision, content string) verified {
	v := verified{
		Bundle: path, Digest: i.Digest.String(), Product: i.Product, Version: i.Version, Release: i.Release,
		Created: i.Created.Format(time.RFC3339), Audience: i.Audience, Policy: d.Policy, Signers: signersOf(d.Signers), Content: content,
	}
	if !i.Expires.IsZero() {
		v.Expires = i.Expires.Format(time.RFC3339)
	}
	return v
}

func (v verified) print(w io.Writer) {
	fmt.Fprintf(w, "%s: %s %s, release %d, made %s\n", v.Bundle, v.Product, v.Version, v.Release, v.Created)
	fmt.Fprintf(w, "index    %s\n", v.Digest)
	for _, s := range v.Signers {
		fmt.Fprintf(w, "signed   by %s (%s) %s\n", s.Name, s.Role, s.Fingerprint)
	}
	if v.Expires != "" {
		fmt.Fprintf(w, "expires  %s\n", v.Expires)
	}
	fmt.Fprintf(w, "content  %s\n", v.Content)
}

func (a *app) runVerify(ctx context.Context, path string, t trustFlags, quick bool) error {
	p, err := t.trust(path)
	if err != nil {
		return err
	}
	o := verify.Options{Site: t.site, AnySite: t.site == "", Version: buildVersion().Version}
	if path == "-" {
		if quick {
			return &usageError{errors.New("--signature-only wants a file: a pipe is read to its end in any case")}
		}
		info, dec, err := verify.Stream(ctx, a.stdin, nil, p, o, a.listen())
		if err != nil {
			return fmt.Errorf("verify standard input: %w", err)
		}
		return a.report(describe("standard input", info, dec, "every byte verified"))
	}
	b, err := verify.Open(ctx, path, p, o)
	if err != nil {
		return err
	}
	defer b.Close()
	content := "complete, not read"
	if !quick {
		if err := b.VerifyAll(ctx, a.listen()); err != nil {
			return fmt.Errorf("verify %s: %w", path, err)
		}
		content = "every byte verified"
	}
	if err := a.report(describe(path, b.Info(), b.Decision(), content)); err != nil {
		return err
	}
	idle, err := idleSignatures(ctx, path, p, b.Decision())
	for _, line := range idle {
		a.warn("%s", line)
	}
	return err
}

func (a *app) report(v verified) error { return a.result(v, v.print) }

// trust loads the policy for a bundle; its error says for which.
func (t *trustFlags) trust(path string) (*verify.Policy, error) {
	p, err := t.load()
	if _, ok := errors.AsType[*verify.NoPolicyError](err); ok {
		if path == "-" {
			path = "standard input"
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, err
}

// open opens a bundle for a command that uses it.
func (a *app) open(ctx context.Context, path string, t trustFlags, o verify.Options) (*verify.Bundle, error) {
	if err := noPipe(path); err != nil {
		return nil, err
	}
	p, err := t.trust(path)
	if err != nil {
		return nil, err
	}
	o.Version = buildVersion().Version
	return verify.Open(ctx, path, p, o)
}

// noPipe refuses standard input where content is read out of order.
func noPipe(path string) error {
	if path != "-" {
		return nil
	}
	return &settingError{errors.New("a bundle that comes through a pipe must be landed in a file first"), "airlock bundle extract - -o FILE writes it while it is verified; give FILE here"}
}

// idleSignatures says, a line each, which signatures of a trusted bundle did
// not count. One counts if the policy finds its key good by itself, or if it is
// of a signer whom the decision names.
func idleSignatures(ctx context.Context, path string, p *verify.Policy, d verify.Decision) ([]string, error) {
	f, err := bundle.OpenFile(path)
	if err != nil {
		return nil, err
	}
	index := f.Head().Index
	if err := f.Close(); err != nil {
		return nil, err
	}
	i, err := verify.Inspect(ctx, path, nil, verify.Options{})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, s := range i.Signatures {
		claims := verify.Claims([]archive.Signature{s})[0]
		named := slices.ContainsFunc(d.Signers, func(who verify.Signer) bool { return strings.HasSuffix(claims, who.Fingerprint) })
		e, ok := errors.AsType[*verify.UntrustedError](p.CheckBlob(index, s.Data))
		if ok && len(e.Have) == 0 && !named {
			out = append(out, fmt.Sprintf("%s, and did not count", claims))
		}
	}
	return out, nil
}
