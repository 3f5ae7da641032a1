//go:build unix

package regular

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestReadRefuses would hang, not fail, if a pipe were opened as a file is.
func TestReadRefuses(t *testing.T) {
	dir := t.TempDir()
	fifo, link := filepath.Join(dir, "fifo"), filepath.Join(dir, "link")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(fifo, link); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path string
		want error
	}{
		{fifo, ErrNotRegular},
		{link, ErrNotRegular},
		{"/dev/zero", ErrNotRegular},
		{dir, syscall.EISDIR},
		{filepath.Join(dir, "none"), fs.ErrNotExist},
	} {
		_, err := Read(tt.path, 10)
		e, ok := errors.AsType[*fs.PathError](err)
		if !ok || !errors.Is(err, tt.want) || e.Op != "open" || e.Path != tt.path {
			t.Errorf("Read(%s) = %v, want open %s: %v", tt.path, err, tt.path, tt.want)
		}
	}
}

func TestRead(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte("ten bytes!"), 0o600); err != nil {
		t.Fatal(err)
	}
	if data, err := Read(name, 10); err != nil || string(data) != "ten bytes!" {
		t.Errorf("Read = %q, %v", data, err)
	}
	_, err := Read(name, 9)
	if e, ok := errors.AsType[*TooLargeError](err); !ok || e.Path != name || e.Limit != 9 {
		t.Errorf("Read of 10 bytes with limit 9 = %v", err)
	}
	if data, err := Read(os.DevNull, 1); err != nil || len(data) != 0 {
		t.Errorf("Read(%s) = %q, %v", os.DevNull, data, err)
	}
}

// TestReadDescriptor reads what a shell hands over for <(command).
func TestReadDescriptor(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() {
		_, _ = w.WriteString("through a pipe") // the reader sees what is missing
		w.Close()
	}()
	data, err := Read(fmt.Sprintf("/dev/fd/%d", r.Fd()), 100)
	if err != nil || string(data) != "through a pipe" {
		t.Errorf("Read = %q, %v", data, err)
	}
}
