package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/airlock-project/airlock/bundle/regular"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/verify"
	"github.com/spf13/cobra"
)

func (a *app) policyInit() *cobra.Command {
	var key, product, out string
	cmd := &cobra.Command{
		Use: "init --key PUB", Short: "Write a policy of one signer", Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if key == "" {
				return &usageError{errors.New("--key is required: the signer's public key")}
			}
			fp, err := verify.FingerprintFile(key)
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(filepath.Dir(out), key)
			if err != nil {
				rel = key
			}
			text := fmt.Sprintf("apiVersion: airlock/v1\nkind: Policy\n%ssigners:\n  # %s\n  - {name: vendor, role: vendor, key: \"file:%s\"}\nrequire:\n  - {role: vendor, atLeast: 1}\n", productsLine(product), fp, rel)
			if _, err := manifests.ParsePolicy(out, []byte(text)); err != nil {
				return err
			}
			if err := writeNew(out, []byte(text), 0o644); err != nil {
				return err
			}
			return a.result(map[string]string{"written": out, "fingerprint": fp}, func(w io.Writer) {
				fmt.Fprintf(w, "wrote %s\ntrusts   %s\nCompare the fingerprint with the signer, by voice or on paper, before you rely on it.\n", out, fp)
			})
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "public key `file` of the signer")
	cmd.Flags().StringVar(&product, "product", "", "accept this `product` only")
	cmd.Flags().StringVarP(&out, "out", "o", "policy.yaml", "`file` to write")
	return cmd
}

func productsLine(product string) string {
	if product == "" {
		return ""
	}
	return fmt.Sprintf("products: [%q]\n", product)
}

func (a *app) policyCheck() *cobra.Command {
	return &cobra.Command{
		Use: "check [FILE]", Short: "Check a policy and the keys it names", Args: args(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, list []string) error {
			path := "policy.yaml"
			if len(list) > 0 {
				path = list[0]
			}
			p, err := verify.LoadPolicy(path)
			if err != nil {
				return err
			}
			return a.result(map[string]any{"policy": path, "signers": signersOf(p.Signers())}, func(w io.Writer) {
				fmt.Fprintf(w, "%s is in order\n", path)
				for _, s := range p.Signers() {
					fmt.Fprintf(w, "%s (%s) %s\n", s.Name, s.Role, s.Fingerprint)
				}
			})
		},
	}
}

func loadSite(path string) (*manifests.Site, error) {
	data, err := regular.Read(path, manifests.MaxDocument)
	if err != nil {
		return nil, err
	}
	return manifests.ParseSite(path, data)
}

func (a *app) schema() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "schema [KIND]", Short: "Print the JSON Schema of a document, for editors",
		Long:      "KIND is one of Bundle, Lock, Site, Policy, Checklist. With --dir all of them are\nwritten as files.",
		Args:      args(cobra.MaximumNArgs(1)),
		ValidArgs: manifests.SchemaKinds(),
		RunE:      func(_ *cobra.Command, list []string) error { return a.runSchema(list, dir) },
	}
	cmd.Flags().StringVar(&dir, "dir", "", "write every schema into this `folder`")
	return cmd
}

func (a *app) runSchema(list []string, dir string) error {
	if len(list) == 1 && dir == "" {
		s, err := manifests.Schema(list[0])
		if err != nil {
			return &usageError{fmt.Errorf("%w; kinds are %s", err, strings.Join(manifests.SchemaKinds(), ", "))}
		}
		_, err = a.stdout.Write(s)
		return err
	}
	if dir == "" {
		return &usageError{fmt.Errorf("name a kind (%s) or a folder with --dir", strings.Join(manifests.SchemaKinds(), ", "))}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var written []string
	for _, k := range manifests.SchemaKinds() {
		s, err := manifests.Schema(k)
		if err != nil {
			return err
		}
		path := filepath.Join(dir, manifests.SchemaFile(k))
		if err := replaceFile(path, s); err != nil {
			return err
		}
		written = append(written, path)
	}
	return a.result(map[string]any{"written": written}, func(w io.Writer) {
		for _, p := range written {
			fmt.Fprintf(w, "wrote %s\n", p)
		}
	})
}
