package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// progress shows how far long work is: bars with bytes, rate and time left on
// a terminal; elsewhere one plain line per finished entry and, for operations
// measured in bytes, one every few seconds.
type progress struct {
	w    io.Writer
	mpb  *mpb.Progress // nil off a terminal
	mu   sync.Mutex
	ops  map[string]*operation
	done map[string]bool
}

type operation struct {
	bar   *mpb.Bar
	total int64
	bytes int64
	start time.Time
	said  time.Time
}

// plainEvery is how often a line is written off a terminal.
const plainEvery = 5 * time.Second

// listen returns a listener that shows events until progressDone.
func (a *app) listen() bundle.Listener {
	if a.bars == nil {
		a.bars = &progress{w: a.stderr, ops: map[string]*operation{}, done: map[string]bool{}}
		if f, ok := a.stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			a.bars.mpb = mpb.New(mpb.WithOutput(f), mpb.WithRefreshRate(120*time.Millisecond))
		}
	}
	return a.bars.event
}

// progressDone removes bars from the screen, so that words can follow.
func (a *app) progressDone() {
	if a.bars == nil {
		return
	}
	a.bars.finish()
	a.bars = nil
}

func (p *progress) event(e bundle.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	op := p.ops[e.Op]
	if op == nil {
		op = &operation{start: time.Now(), said: time.Now()}
		p.ops[e.Op] = op
	}
	if e.Total > 0 {
		op.total += e.Total
		p.grow(e.Op, op)
	}
	op.bytes += e.Bytes
	if op.bar != nil {
		op.bar.IncrInt64(e.Bytes)
	}
	if p.mpb != nil {
		return
	}
	switch {
	case e.Op == "resolve" && e.Done && !p.done[e.Object]:
		p.done[e.Object] = true
		fmt.Fprintf(p.w, "%s %s\n", e.Op, e.Object)
	case op.total > 0 && time.Since(op.said) >= plainEvery:
		op.said = time.Now()
		fmt.Fprintln(p.w, op.line(e.Op))
	}
}

// grow makes or lengthens the bar of an operation.
func (p *progress) grow(name string, op *operation) {
	if p.mpb == nil {
		return
	}
	if op.bar != nil {
		op.bar.SetTotal(op.total, false)
		return
	}
	op.bar = p.mpb.AddBar(op.total,
		mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(name+" ")),
		mpb.AppendDecorators(
			decor.CountersKiloByte("% .1f / % .1f"),
			decor.Name("  "),
			decor.AverageSpeed(decor.SizeB1000(0), "% .1f"),
			decor.Name("  "),
			decor.AverageETA(decor.ET_STYLE_GO),
		))
}

// line is the plain form of a bar.
func (o *operation) line(name string) string {
	seconds := time.Since(o.start).Seconds()
	rate := float64(o.bytes) / max(seconds, 0.001)
	left := time.Duration(float64(o.total-o.bytes) / max(rate, 1) * float64(time.Second)).Round(time.Second)
	return fmt.Sprintf("%s %s of %s, %s/s, %s left", name, megabytes(o.bytes), megabytes(o.total), megabytes(int64(rate)), left)
}

func (p *progress) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, op := range p.ops {
		if op.bar != nil {
			op.bar.Abort(true)
		}
	}
	if p.mpb != nil {
		p.mpb.Wait()
	}
}

// megabytes writes a number of bytes for people, in decimal units.
func megabytes(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.2f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	default:
		return fmt.Sprintf("%d B", n)
	}
}
