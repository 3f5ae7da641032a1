package minio

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxSecret bounds what is read of a key's file.
const maxSecret = 4096

// keyFile is a secret in the directory of secrets.
type keyFile struct{ dir, name string }

func (k keyFile) path() string {
	path, err := filepath.Abs(filepath.Join(k.dir, k.name))
	if err != nil {
		return filepath.Join(k.dir, k.name) // no working directory
	}
	return path
}

// read returns the secret; fs.ErrNotExist if there is none.
func (k keyFile) read() (string, error) {
	if k.dir == "" {
		return "", fs.ErrNotExist
	}
	root, err := os.OpenRoot(k.dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	f, err := root.Open(k.name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxSecret))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", k.path(), err)
	}
	secret := strings.TrimSpace(string(raw))
	if secret == "" {
		return "", fmt.Errorf("read %s: it is empty; remove it to have a new key made", k.path())
	}
	return secret, nil
}

// create writes the secret whole, for the owner alone, and never over another.
func (k keyFile) create(secret string) (err error) {
	if k.dir == "" {
		return errors.New("no directory for secrets is given: run with a state directory")
	}
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(k.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	var x [8]byte
	_, _ = rand.Read(x[:]) // never fails
	partial := "." + k.name + "." + hex.EncodeToString(x[:]) + ".partial"
	f, err := root.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Remove(partial)) }()
	_, err = io.WriteString(f, secret+"\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", k.path(), err)
	}
	// A link, unlike a rename, refuses a name that is taken.
	if err := root.Link(partial, k.name); err != nil {
		return fmt.Errorf("write %s: %w", k.path(), err)
	}
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
