package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	// maxAnswer bounds an answer that is not the content of an object: a page of
	// a thousand keys and versions has about a MiB. The libraries keep all of it.
	maxAnswer = 4 << 20
	// progress is how much of an object's content has to come in a time of waiting.
	progress = 64 << 10
)

var (
	errLong = fmt.Errorf("its answer is longer than %d bytes", maxAnswer)
	errSlow = errors.New("its answer begins and does not end in time")
)

// contentKey marks the context of a request whose answer is an object's content.
type contentKey struct{}

// content lets an answer have any length: the caller bounds what it reads.
func content(ctx context.Context) context.Context {
	return context.WithValue(ctx, contentKey{}, true)
}

// bounded is a body that gives up: after maxAnswer bytes, or, of an object's
// content, when less than progress comes in the time that the timer has.
type bounded struct {
	io.ReadCloser
	ctx    context.Context //nolint:containedctx // of the request, which the body ends
	cancel context.CancelCauseFunc
	timer  *time.Timer
	wait   time.Duration
	left   int
	long   bool // any length is good
}

// bound takes over the body of an answer to a request with ctx.
func bound(ctx context.Context, cancel context.CancelCauseFunc, resp *http.Response, wait time.Duration) io.ReadCloser {
	b := &bounded{ReadCloser: resp.Body, ctx: ctx, cancel: cancel, wait: wait, left: maxAnswer}
	if ctx.Value(contentKey{}) != nil && resp.StatusCode < http.StatusMultipleChoices {
		b.long, b.left = true, progress
	}
	b.timer = time.AfterFunc(wait, func() { cancel(errSlow) })
	return b
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 && b.long {
		b.left = progress
		b.timer.Reset(b.wait)
	}
	switch {
	case err != nil && !errors.Is(err, io.EOF) && errors.Is(context.Cause(b.ctx), errSlow):
		return n, errSlow
	case b.left < 0:
		return n, errLong
	}
	return n, err
}

func (b *bounded) Close() error {
	b.timer.Stop()
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}
