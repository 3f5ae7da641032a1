package main

import (
	"bytes"
	"math"
	"testing"
	"time"

	"github.com/airlock-project/airlock/bundle"
)

func TestWindow(t *testing.T) {
	type sample struct {
		at    float64 // seconds
		bytes int64
	}
	tests := []struct {
		name    string
		samples []sample
		ask     float64
		want    float64
	}{
		{"nothing", nil, 3, 0},
		{"the very beginning", []sample{{0, 100}}, 0, 200},
		{"since start", []sample{{1, 300}, {2, 300}}, 4, 150},
		{"last ten seconds only", []sample{{0, 1e9}, {20, 450}, {25, 450}}, 28, 100},
		{"stalled", []sample{{0, 1e9}}, 30, 0},
		{"a second is used again", []sample{{1, 1e9}, {11, 95}}, 11.5, 10},
		{"time that goes back", []sample{{5, 500}, {1, 500}}, 5, 200},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			start := time.Unix(1000, 0)
			at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
			w := window{start: start}
			for _, s := range tc.samples {
				w.add(at(s.at), s.bytes)
			}
			if got := w.perSecond(at(tc.ask)); math.Abs(got-tc.want) > 1e-6 {
				t.Errorf("rate = %v, want %v", got, tc.want)
			}
		})
	}
}

func TestPace(t *testing.T) {
	start := time.Unix(1000, 0)
	o := operation{total: 100e6, bytes: 60e6, rate: window{start: start}}
	if got := o.line("fetch", start.Add(2*time.Second)); got != "fetch 60.0 MB of 100.0 MB, waiting" {
		t.Errorf("nothing moved: %q", got)
	}
	o.rate.add(start.Add(time.Second), 20e6)
	if got := o.line("fetch", start.Add(2*time.Second)); got != "fetch 60.0 MB of 100.0 MB, 10.0 MB/s, 4s left" {
		t.Errorf("got %q", got)
	}
}

// TestProgressReused: what was there already is done, but was not moved.
func TestProgressReused(t *testing.T) {
	var out bytes.Buffer
	p := &progress{w: &out, ops: map[string]*operation{}, done: map[string]bool{}}
	p.event(bundle.Event{Op: "fetch", Total: 100})
	p.event(bundle.Event{Op: "fetch", Bytes: 60, Done: true, Reused: true})
	op := p.ops["fetch"]
	if rate := op.rate.perSecond(time.Now()); op.bytes != 60 || rate != 0 {
		t.Errorf("%d bytes done at %v/s, want 60 at 0", op.bytes, rate)
	}
	p.finish()
	p.event(bundle.Event{Op: "fetch", Bytes: 40, Done: true})
	if op.bytes != 60 {
		t.Error("an event after the end was counted")
	}
}
