package verify

import (
	"sync"

	"github.com/airlock-project/airlock/bundle"
)

// hold counts who uses a file, so that closing it never takes it from a reader.
// Its zero value is closed.
type hold struct {
	mu    sync.Mutex
	file  *bundle.File // nil once it was closed
	open  bool         // new users are let in
	users int
}

// set begins the hold, before anybody else knows of it.
func (h *hold) set(f *bundle.File) { h.file, h.open = f, true }

func (h *hold) isOpen() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.open
}

// acquire lets a user in. It calls release, once, when it is done.
func (h *hold) acquire() (*bundle.File, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.open {
		return nil, errClosed
	}
	h.users++
	return h.file, nil
}

func (h *hold) release() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.users--
	return h.end()
}

func (h *hold) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open = false
	return h.end()
}

// end closes the file when nobody uses it any more.
func (h *hold) end() error {
	if h.open || h.users > 0 || h.file == nil {
		return nil
	}
	f := h.file
	h.file = nil
	return f.Close()
}
