package kube

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	// requestTime bounds a request that does not stream, its answer included.
	requestTime = 60 * time.Second
	// maxAnswer bounds an answer: 5,000 pods have some 60 MB.
	maxAnswer = 128 << 20
)

// bounded ends every request in time and every answer at a size.
type bounded struct{ next http.RoundTripper }

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	if q := req.URL.Query(); q.Get("watch") == "true" || q.Get("watch") == "1" || q.Get("follow") == "true" {
		return b.next.RoundTrip(req)
	}
	ctx, cancel := context.WithTimeout(req.Context(), requestTime)
	resp, err := b.next.RoundTrip(req.WithContext(ctx))
	if err != nil {
		cancel()
		return nil, err
	}
	resp.Body = &body{ReadCloser: resp.Body, left: maxAnswer, end: cancel}
	return resp, nil
}

// body is an answer that ends at its limit with an error, not as if it were whole.
type body struct {
	io.ReadCloser
	left int64
	end  context.CancelFunc
}

func (b *body) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("the answer is larger than %d bytes", maxAnswer)
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	return n, err
}

func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.end()
	return err
}
