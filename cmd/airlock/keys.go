package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/verify"
	"github.com/airlock-project/airlock/verify/sign"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// password finds the password of a key file: in a file that a flag names, in
// AIRLOCK_KEY_PASSWORD or COSIGN_PASSWORD, on the terminal; never on the command
// line. A new key, which asks twice, must have one.
func (a *app) password(ctx context.Context, what, file string, fresh bool) ([]byte, error) {
	pass, err := a.findPassword(ctx, what, file, fresh)
	if err == nil && fresh && len(pass) == 0 {
		return nil, &settingError{fmt.Errorf("the password for %s is empty", what), "give one with --password-file, in AIRLOCK_KEY_PASSWORD or on a terminal: without it, whoever copies the key can sign"}
	}
	return pass, err
}

func (a *app) findPassword(ctx context.Context, what, file string, fresh bool) ([]byte, error) {
	if file != "" {
		data, err := readSecret("password-file", file, 4096)
		if err != nil {
			return nil, err
		}
		return bytes.TrimRight(data, "\r\n"), nil
	}
	for _, name := range []string{"AIRLOCK_KEY_PASSWORD", "COSIGN_PASSWORD"} {
		if v, ok := os.LookupEnv(name); ok {
			return []byte(v), nil
		}
	}
	in, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return nil, &noPasswordError{what}
	}
	pass, err := a.prompt(ctx, in, "Password for "+what+": ")
	if err != nil || !fresh || len(pass) == 0 {
		return pass, err
	}
	again, err := a.prompt(ctx, in, "Again: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(pass, again) {
		return nil, &usageError{fmt.Errorf("the two passwords differ")}
	}
	return pass, nil
}

// prompt reads a line without echo. When ctx ends first, the terminal is as it
// was, and the goroutine that reads on ends with the program.
func (a *app) prompt(ctx context.Context, in *os.File, text string) ([]byte, error) {
	fd := int(in.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return nil, fmt.Errorf("ask for a password: %w", err)
	}
	fmt.Fprint(a.stderr, text)
	defer fmt.Fprintln(a.stderr)
	type answer struct {
		pass []byte
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		pass, err := term.ReadPassword(fd)
		answers <- answer{pass, err}
	}()
	select {
	case got := <-answers:
		return got.pass, got.err
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("ask for a password: %w", ctx.Err()), term.Restore(fd, state))
	}
}

// noPasswordError says that a key's password is nowhere to be found.
type noPasswordError struct{ what string }

func (e *noPasswordError) Error() string { return "no password for " + e.what }

// noSignerError says that neither flag nor definition names a signer.
type noSignerError struct{}

func (*noSignerError) Error() string { return "nothing says who signs the bundle" }

// signFlags are the flags of commands that sign.
type signFlags struct {
	keys         []string
	passwordFile string
	unsigned     bool
}

func (s *signFlags) add(cmd *cobra.Command, withUnsigned bool) {
	f := cmd.Flags()
	f.StringSliceVar(&s.keys, "key", nil, "private key `file` to sign with; may be repeated")
	f.StringVar(&s.passwordFile, "password-file", "", "`file` with the key's password; without it AIRLOCK_KEY_PASSWORD, COSIGN_PASSWORD, then the terminal")
	if withUnsigned {
		f.BoolVar(&s.unsigned, "unsigned", false, "make an unsigned bundle, which nothing will install")
	}
}

// load opens the keys that flags name, or else those of the definition.
func (s *signFlags) load(ctx context.Context, a *app, def *manifests.Definition, dir string) ([]*sign.Key, error) {
	paths := s.keys
	if len(paths) == 0 && def != nil {
		for _, w := range def.Sign {
			if w.Keyless {
				return nil, &verify.UnsupportedError{What: "sign: keyless"}
			}
			name, ok := strings.CutPrefix(w.Key, "file:")
			if !ok {
				return nil, &verify.UnsupportedError{What: fmt.Sprintf("sign: key %q: only file: keys", w.Key)}
			}
			if !filepath.IsAbs(name) {
				name = filepath.Join(dir, name)
			}
			paths = append(paths, name)
		}
	}
	if len(paths) == 0 {
		return nil, &noSignerError{}
	}
	var keys []*sign.Key
	for _, p := range paths {
		k, err := sign.LoadKey(p, func() ([]byte, error) { return a.password(ctx, p, s.passwordFile, false) })
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
		// Opening a key takes 64 MB (scrypt), on top of which all else would come.
		debug.FreeOSMemory()
	}
	return keys, nil
}

// signer turns keys into what Create wants.
func signer(keys []*sign.Key) bundle.Signer {
	return func(_ context.Context, index []byte) ([]archive.Signature, error) {
		var out []archive.Signature
		for _, k := range keys {
			data, err := k.Blob(index)
			if err != nil {
				return nil, err
			}
			id := strings.TrimPrefix(k.Fingerprint(), "SHA256:")[:12]
			out = append(out, archive.Signature{Name: id + ".sigstore.json", Data: data})
		}
		return out, nil
	}
}

// trustFlags are the flags of commands that read a bundle.
type trustFlags struct {
	policy string
	key    string
	site   string
}

func (t *trustFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&t.policy, "policy", "", "trust policy `file` (default: ./policy.yaml, then /etc/airlock/policy.yaml)")
	f.StringVar(&t.key, "key", "", "public key `file`: a policy of this one signer")
}

// load finds the policy. Without one there is no trust.
func (t *trustFlags) load() (*verify.Policy, error) {
	if t.key != "" && t.policy != "" {
		return nil, &usageError{fmt.Errorf("--key and --policy exclude each other")}
	}
	if t.key != "" {
		return verify.KeyPolicy(t.key)
	}
	if t.policy != "" {
		return verify.LoadPolicy(t.policy)
	}
	for _, p := range []string{"policy.yaml", "/etc/airlock/policy.yaml"} {
		if _, err := os.Stat(p); err == nil {
			return verify.LoadPolicy(p)
		}
	}
	return nil, &verify.NoPolicyError{}
}

func (a *app) keygen() *cobra.Command {
	var prefix, passwordFile, from string
	cmd := &cobra.Command{
		Use: "keygen", Short: "Make a key pair for signing bundles",
		Long: "Writes airlock.key (ECDSA P-256, encrypted with a password, cosign's format) and\nairlock.pub, and prints the fingerprint that two people read out to each other.\nThe password comes from --password-file, AIRLOCK_KEY_PASSWORD, COSIGN_PASSWORD or\nthe terminal, the first there is, and may not be empty. Existing files are never overwritten.",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if from != "" {
				return a.runPublic(cmd.Context(), from, passwordFile)
			}
			return a.runKeygen(cmd.Context(), prefix, passwordFile)
		},
	}
	cmd.Flags().StringVar(&prefix, "name", "airlock", "`prefix` of the two files")
	cmd.Flags().StringVar(&from, "public-of", "", "make no key: write the public key of the private key in `file` beside it, where it was lost")
	cmd.Flags().StringVar(&passwordFile, "password-file", "", "`file` with the password; without it AIRLOCK_KEY_PASSWORD, COSIGN_PASSWORD, then the terminal")
	cmd.MarkFlagsMutuallyExclusive("name", "public-of")
	return cmd
}

// publicPath is where the public key of a private one lies.
func publicPath(private string) string { return strings.TrimSuffix(private, ".key") + ".pub" }

// runPublic writes the public half of a key that is there.
func (a *app) runPublic(ctx context.Context, private, passwordFile string) error {
	public := publicPath(private)
	if _, err := os.Lstat(public); err == nil {
		return fmt.Errorf("write %s: %w", public, os.ErrExist)
	}
	k, err := sign.LoadKey(private, func() ([]byte, error) { return a.password(ctx, private, passwordFile, false) })
	if err != nil {
		return err
	}
	pub, err := k.PublicPEM()
	if err != nil {
		return err
	}
	if err := writeNew(public, pub, 0o644); err != nil {
		return err
	}
	return a.keyResult(private, public, k.Fingerprint())
}

func (a *app) runKeygen(ctx context.Context, prefix, passwordFile string) error {
	private, public := prefix+".key", prefix+".pub"
	for _, p := range []string{private, public} {
		if _, err := os.Lstat(p); err == nil {
			return fmt.Errorf("write %s: %w", p, os.ErrExist)
		}
	}
	pass, err := a.password(ctx, private, passwordFile, true)
	if err != nil {
		return err
	}
	priv, pub, err := sign.GenerateKey(pass)
	if err != nil {
		return err
	}
	if err := writeNew(private, priv, 0o600); err != nil {
		return err
	}
	if err := writeNew(public, pub, 0o644); err != nil {
		return err
	}
	fp, err := verify.FingerprintFile(public)
	if err != nil {
		return err
	}
	return a.keyResult(private, public, fp)
}

func (a *app) keyResult(private, public, fp string) error {
	out := map[string]string{"privateKey": private, "publicKey": public, "fingerprint": fp}
	return a.result(out, func(w io.Writer) {
		fmt.Fprintf(w, "private key  %s\npublic key   %s\nfingerprint  %s\n", private, public, fp)
	})
}
