//go:build all || e2e

package main

import (
	"context"
	"testing"
	"time"
)

// tend does something again and again until the test ends: what a controller that
// a test stands in for would do. ctx ends with the test.
func tend(t *testing.T, every time.Duration, do func(ctx context.Context)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			do(ctx)
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
}
