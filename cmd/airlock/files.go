package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/airlock-project/airlock/bundle/regular"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/mirror/job"
)

// former is a kind of file that a run writes anew over the one of a run before.
type former struct {
	what string // "relocation map"
	flag string // that names the file
	is   func(path string, data []byte) bool
}

func formerMap() former {
	return former{"relocation map", "relocation-map", func(path string, data []byte) bool {
		_, err := manifests.ParseRelocationMap(path, data)
		return err == nil
	}}
}

func formerJobs() former {
	return former{"file of Jobs that airlock wrote", "render-job", func(_ string, data []byte) bool { return job.Rendered(data) }}
}

// check refuses a place that cannot take a file, or that holds anything but a
// former one of the kind. A link is never one: what it leads to is not ours.
func (k former) check(path string) error {
	dir := filepath.Dir(path)
	if fi, err := os.Stat(dir); err != nil {
		return err
	} else if !fi.IsDir() {
		return &fs.PathError{Op: "write to", Path: dir, Err: syscall.ENOTDIR}
	}
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	other := &otherFileError{path, k.what, k.flag}
	if !fi.Mode().IsRegular() {
		return other
	}
	data, err := regular.Read(path, manifests.MaxDocument)
	if _, large := errors.AsType[*regular.TooLargeError](err); large {
		return other
	}
	if err != nil {
		return err
	}
	if !k.is(path, data) {
		return other
	}
	return nil
}

// replace checks, which a caller may have done before and which may have
// changed, and writes.
func (k former) replace(path string, data []byte) error {
	if err := k.check(path); err != nil {
		return err
	}
	return replaceFile(path, data)
}

// otherFileError says that something is there that is not to be replaced.
type otherFileError struct{ path, what, flag string }

func (e *otherFileError) Error() string {
	return fmt.Sprintf("write %s: it exists and is not a %s", e.path, e.what)
}

// writeNew writes a file that must not exist, whole and durable or not at all.
func writeNew(path string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		// Best effort: the error that matters is already on its way.
		_ = os.Remove(path)
	}
	return err
}

// replaceFile writes a file through a temporary name, so that it is the old or
// the new one, never half of either, whoever else writes it. Its errors name
// the file, not the temporary one.
func replaceFile(path string, data []byte) error {
	tmp := temporary(path)
	err := writeNew(tmp, data, 0o644)
	if err == nil {
		if err = os.Rename(tmp, path); err != nil {
			// Best effort, as in writeNew.
			_ = os.Remove(tmp)
		}
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return &fs.PathError{Op: "write", Path: path, Err: e.Err}
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return &fs.PathError{Op: "write", Path: path, Err: e.Err}
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// temporary is a name beside path that is nobody else's.
func temporary(path string) string {
	return filepath.Join(filepath.Dir(path), ".airlock-"+rand.Text()[:16]+".tmp")
}

// readSecret reads the password file that a flag names. Its errors do not name
// the file: some give the password itself there.
func readSecret(flag, path string, limit int64) ([]byte, error) {
	data, err := regular.Read(path, limit)
	if err == nil {
		return data, nil
	}
	const hint = "give the name of a file that holds the password and nothing else"
	if _, ok := errors.AsType[*regular.TooLargeError](err); ok {
		err = fmt.Errorf("larger than %d bytes", limit)
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err
	}
	return nil, &settingError{fmt.Errorf("read the file of --%s: %w", flag, err), hint}
}
