package mirror

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"oras.land/oras-go/v2/registry/remote/errcode"
)

func statusError(code int) error {
	return &answerError{ErrorResponse: &errcode.ErrorResponse{StatusCode: code}}
}

// The bound halves once for all that were throttled together, and rises by one
// for every twenty clean requests.
func TestFlow(t *testing.T) {
	f := newFlow(8)
	busy := f.now()
	for range 8 {
		f.note(busy, statusError(http.StatusTooManyRequests))
	}
	if f.limit != 4 {
		t.Errorf("limit %d after one round of throttling, want 4", f.limit)
	}
	f.note(f.now(), statusError(http.StatusServiceUnavailable))
	f.note(f.now(), statusError(http.StatusTooManyRequests))
	f.note(f.now(), statusError(http.StatusTooManyRequests))
	if f.limit != 1 {
		t.Errorf("limit %d, want 1 at the least", f.limit)
	}
	f.note(f.now(), statusError(http.StatusInternalServerError))
	for n := 1; n <= 200; n++ {
		f.note(f.now(), nil)
		if want := min(8, 1+n/recoverAfter); f.limit != want {
			t.Fatalf("limit %d after %d clean requests, want %d", f.limit, n, want)
		}
	}
}

func TestFlowWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(2)
		f.note(f.now(), statusError(http.StatusTooManyRequests))
		var in, most atomic.Int32
		for range 10 {
			go func() {
				if err := f.acquire(t.Context()); err != nil {
					t.Error(err)
				}
				most.Store(max(most.Load(), in.Add(1)))
				time.Sleep(time.Second)
				in.Add(-1)
				f.release()
			}()
		}
		time.Sleep(11 * time.Second)
		if most.Load() != 1 || in.Load() != 0 {
			t.Errorf("%d at once, %d left", most.Load(), in.Load())
		}
		if err := f.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := f.acquire(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("acquire = %v", err)
		}
	})
}

func TestPacer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer(8)
		start := time.Now()
		for range 9 {
			if err := p.wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("9 manifests took %s, want 1s", took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.wait(ctx); err == nil {
			t.Error("a cancelled wait is over")
		}
	})
}
