// Package file is the probe file.digest: is a file what it should be.
package file

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/airlock-project/airlock/install"
)

// Codes.
const (
	codeMissing = "FILE-01"
	codeDiffers = "FILE-02"
)

var hexSum = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Probe is file.digest. Its zero value is ready and safe for concurrent use.
type Probe struct{}

// arguments are the step's with.
type arguments struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"` // 64 hex digits, with or without sha256: in front
	Size   *int64 `json:"size"`   // checked first, where given
}

// Codes implements install.Coder.
func (Probe) Codes() map[string][]string {
	return map[string][]string{codeMissing: {"path", "reason"}, codeDiffers: {"path", "want", "got"}}
}

// Run reads the file once. Its digest is the output file.sha256.
func (Probe) Run(ctx context.Context, in install.Input) (install.Result, error) {
	var a arguments
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	want := strings.ToLower(strings.TrimPrefix(a.SHA256, "sha256:"))
	if a.Path == "" || !hexSum.MatchString(want) {
		return install.Result{}, errors.New("want path and sha256 of 64 hex digits")
	}
	f, err := os.Open(a.Path)
	if err != nil {
		return missing(a.Path, err), nil
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return missing(a.Path, err), nil
	}
	if !fi.Mode().IsRegular() {
		return missing(a.Path, errors.New("it is not a regular file")), nil
	}
	if a.Size != nil && fi.Size() != *a.Size {
		return differs(a.Path, strconv.FormatInt(*a.Size, 10)+" bytes", strconv.FormatInt(fi.Size(), 10)+" bytes"), nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, reader{ctx, f}); err != nil {
		if ctx.Err() != nil {
			return install.Result{}, err
		}
		return missing(a.Path, err), nil
	}
	got := hex.EncodeToString(h.Sum(nil))
	if got != want {
		return differs(a.Path, want, got), nil
	}
	return install.Result{Outputs: map[string]any{"file.sha256": got}}, nil
}

func missing(path string, err error) install.Result {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		err = pe.Err // the path is a field of its own
	}
	return install.Result{Findings: []install.Finding{{
		Code: codeMissing, Detail: fmt.Sprintf("read %s: %s", path, err), Fields: map[string]string{"path": path, "reason": err.Error()},
	}}}
}

func differs(path, want, got string) install.Result {
	return install.Result{Findings: []install.Finding{{
		Code: codeDiffers, Detail: fmt.Sprintf("%s: want %s, got %s", path, want, got), Fields: map[string]string{"path": path, "want": want, "got": got},
	}}}
}

// reader stops when ctx ends: a file may be as large as a disk.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
