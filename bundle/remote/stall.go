package remote

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// stalledError ends an exchange in which nothing moved. It is a timeout in the
// sense of net.Error.
type stalledError struct {
	what string
	wait time.Duration
}

func (e *stalledError) Error() string { return fmt.Sprintf("no %s for %s", e.what, e.wait) }

// Timeout implements net.Error.
func (e *stalledError) Timeout() bool { return true }

// Temporary implements net.Error.
func (e *stalledError) Temporary() bool { return true }

// stallTransport cancels an exchange when the other side does nothing: takes no
// byte of the request's body, sends no answer, sends no byte of its body. The
// time our own reader or writer takes does not count.
type stallTransport struct {
	base    http.RoundTripper
	waiting func(host string) // may be nil
	said    sync.Map          // hosts that waiting was called for
}

// announce has waiting called, in another goroutine, if the host is silent for
// long; the caller stops it when the answer came.
func (t *stallTransport) announce(host string) (stop func()) {
	if t.waiting == nil {
		return func() {}
	}
	timer := time.AfterFunc(quietTimeout, func() {
		if _, again := t.said.LoadOrStore(host, true); !again {
			t.waiting(host)
		}
	})
	return func() { timer.Stop() }
}

func (t *stallTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	w := &watchdog{cancel: cancel}
	req = req.WithContext(ctx)
	if req.Body != nil && req.Body != http.NoBody {
		req.Body = &sentBody{ReadCloser: req.Body, dog: w}
		w.wait("answer", bodyAnswerTimeout)
	} else {
		w.wait("answer", answerTimeout)
		defer t.announce(req.URL.Host)()
	}
	resp, err := t.base.RoundTrip(req)
	w.answered()
	if err != nil {
		err = stallCause(ctx, err)
		cancel(nil)
		return nil, err
	}
	resp.Body = &receivedBody{ReadCloser: resp.Body, ctx: ctx, dog: w}
	return resp, nil
}

// stallCause puts the watchdog's word in place of the cancellation it caused.
func stallCause(ctx context.Context, err error) error {
	if stalled, ok := context.Cause(ctx).(*stalledError); ok { //nolint:errorlint // the cause is ours, never wrapped
		return stalled
	}
	return err
}

// watchdog cancels after a wait that nobody stopped.
type watchdog struct {
	cancel context.CancelCauseFunc

	mu       sync.Mutex
	timer    *time.Timer
	finished bool // the answer is here: the request's body no longer counts
}

func (w *watchdog) wait(what string, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.start(what, d)
}

func (w *watchdog) start(what string, d time.Duration) {
	if w.timer != nil {
		w.timer.Stop()
	}
	w.timer = time.AfterFunc(d, func() { w.cancel(&stalledError{what: what, wait: d}) })
}

func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
}

func (w *watchdog) answered() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.finished = true
	w.timer.Stop()
}

// sending is wait and stop for the request's body, which the transport may go
// on reading, in its own goroutine, after the answer came.
func (w *watchdog) sending(what string, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.finished {
		return
	}
	if d == 0 {
		w.timer.Stop()
		return
	}
	w.start(what, d)
}

// sentBody is the body of a request: between two reads the host must take what
// the first one brought.
type sentBody struct {
	io.ReadCloser
	dog *watchdog
}

func (b *sentBody) Read(p []byte) (int, error) {
	b.dog.sending("", 0)
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.dog.sending("answer", bodyAnswerTimeout)
	} else {
		b.dog.sending("progress of the upload", idleTimeout)
	}
	return n, err
}

// receivedBody is the body of an answer: a read that is waiting must get
// something.
type receivedBody struct {
	io.ReadCloser
	ctx context.Context
	dog *watchdog
}

func (b *receivedBody) Read(p []byte) (int, error) {
	b.dog.wait("data", idleTimeout)
	n, err := b.ReadCloser.Read(p)
	b.dog.stop()
	if err != nil && err != io.EOF { //nolint:errorlint // io.Reader's contract is the bare io.EOF
		err = stallCause(b.ctx, err)
	}
	return n, err
}

func (b *receivedBody) Close() error {
	err := b.ReadCloser.Close()
	b.dog.stop()
	b.dog.cancel(nil)
	return err
}
