package rsakey

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

const (
	suffixKey         = ".key.b64"
	suffixFingerprint = ".key.sha256"
)

// read returns the kept key and the recorded fingerprint, empty where there is
// none.
func read(dir, name string) (key []byte, fingerprint string, err error) {
	if dir == "" {
		return nil, "", nil
	}
	root, err := os.OpenRoot(dir)
	if isAbsent(err) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	defer root.Close()
	if key, err = readIn(root, name+suffixKey); err != nil {
		return nil, "", err
	}
	raw, err := readIn(root, name+suffixFingerprint)
	if err != nil {
		return nil, "", err
	}
	fingerprint, err = checkFingerprint(strings.TrimSpace(string(raw)))
	if err != nil {
		return nil, "", fmt.Errorf("%s%s: %w", name, suffixFingerprint, err)
	}
	return key, fingerprint, nil
}

func readIn(root *os.Root, name string) ([]byte, error) {
	f, err := root.Open(name)
	if isAbsent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", name)
	}
	return readAll(f)
}

// keep writes what is not there yet: the key first, so that a fingerprint never
// stands for a key that was not written.
func keep(dir, name string, m *material, fingerprint string, st standing) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if st.have == nil {
		if err := create(root, name+suffixKey, m.encoded()); err != nil {
			return err
		}
	}
	if st.recorded == "" {
		return create(root, name+suffixFingerprint, []byte(fingerprint+"\n"))
	}
	return nil
}

// create gives content its name once it is whole, and never takes a name that
// is in use.
func create(root *os.Root, name string, data []byte) (err error) {
	if _, err := root.Lstat(name); !isAbsent(err) {
		return errors.Join(fmt.Errorf("%s is there already", name), err)
	}
	partial := "." + name + ".partial"
	if err := root.RemoveAll(partial); err != nil {
		return err
	}
	f, err := root.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, root.RemoveAll(partial))
	}
	if err := root.Rename(partial, name); err != nil {
		return errors.Join(err, root.RemoveAll(partial))
	}
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
