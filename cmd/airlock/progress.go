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
	over bool // bars are gone; what still comes is not shown
	kept []*mpb.Bar
}

// keep hands over a bar that goes when the others go.
func (p *progress) keep(b *mpb.Bar) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept = append(p.kept, b)
}

// println writes a line that stays, above the bars.
func (p *progress) println(line string) {
	if p.mpb != nil {
		fmt.Fprintln(p.mpb, line)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintln(p.w, line)
}

type operation struct {
	bar  *mpb.Bar
	said time.Time

	// mu is held for arithmetic only: a bar asks for its pace while it is told
	// how far it is.
	mu    sync.Mutex
	total int64
	bytes int64 // moved or found to be there
	rate  window
}

// add counts what an event says.
func (o *operation) add(e bundle.Event, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.total += e.Total
	o.bytes += e.Bytes
	if !e.Reused {
		o.rate.add(now, e.Bytes)
	}
}

// plainEvery is how often a line is written off a terminal.
const plainEvery = 5 * time.Second

// listen returns a listener that shows events until progressDone.
func (a *app) listen() bundle.Listener {
	if a.output == "json" {
		return nil // programs read results, not bars
	}
	if a.bars == nil {
		a.bars = &progress{w: a.stderr, ops: map[string]*operation{}, done: map[string]bool{}}
		if isTerminal(a.stderr) {
			a.bars.mpb = mpb.New(mpb.WithOutput(a.stderr), mpb.WithRefreshRate(120*time.Millisecond))
		}
	}
	return a.bars.event
}

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
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
	if p.over {
		return
	}
	now := time.Now()
	op := p.ops[e.Op]
	if op == nil {
		op = &operation{rate: window{start: now}, said: now}
		p.ops[e.Op] = op
	}
	op.add(e, now)
	if e.Total > 0 {
		p.grow(e.Op, op)
	}
	if op.bar != nil {
		op.bar.IncrInt64(e.Bytes)
	}
	if p.mpb != nil {
		return
	}
	switch {
	case e.Op == "resolve" && e.Done && !p.done[e.Object]:
		p.done[e.Object] = true
		word := e.Op
		if e.Reused {
			word = "locked"
		}
		fmt.Fprintf(p.w, "%s %s\n", word, e.Object)
	case op.total > 0 && now.Sub(op.said) >= plainEvery:
		op.said = now
		fmt.Fprintln(p.w, op.line(e.Op, now))
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
			decor.Any(func(decor.Statistics) string { return op.pace(time.Now()) }),
		))
}

// line is the plain form of a bar.
func (o *operation) line(name string, now time.Time) string {
	if o.bytes > o.total { // some of it had no size before it came
		return fmt.Sprintf("%s %s, %s", name, megabytes(o.bytes), o.pace(now))
	}
	return fmt.Sprintf("%s %s of %s, %s", name, megabytes(o.bytes), megabytes(o.total), o.pace(now))
}

// pace is the rate, and the time left at that rate.
func (o *operation) pace(now time.Time) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	rate := o.rate.perSecond(now)
	if rate < 1 {
		return "waiting"
	}
	left := time.Duration(float64(max(o.total-o.bytes, 0)) / rate * float64(time.Second)).Round(time.Second)
	return fmt.Sprintf("%s/s, %s left", megabytes(int64(rate)), left)
}

// windowSpan is how far back a rate looks: long enough to be steady, short
// enough to show that the line became slow.
const windowSpan = 10

// window sums up bytes by second, for the last windowSpan seconds.
type window struct {
	start time.Time
	last  int64 // second since start that was added to last
	sums  [windowSpan]int64
}

func (w *window) add(now time.Time, n int64) {
	w.move(now)
	w.sums[w.last%windowSpan] += n
}

// move empties the seconds that have passed since the last call.
func (w *window) move(now time.Time) {
	second := max(int64(now.Sub(w.start)/time.Second), w.last)
	for s := max(w.last, second-windowSpan) + 1; s <= second; s++ {
		w.sums[s%windowSpan] = 0
	}
	w.last = second
}

// perSecond is the mean of the window, or of the time since start where that is
// shorter; a first half second counts whole, since it says little.
func (w *window) perSecond(now time.Time) float64 {
	w.move(now)
	var sum int64
	for _, n := range w.sums {
		sum += n
	}
	elapsed := now.Sub(w.start)
	first := max(w.last-windowSpan+1, 0)
	seconds := (elapsed - time.Duration(first)*time.Second).Seconds()
	return float64(sum) / max(seconds, 0.5)
}

func (p *progress) finish() {
	p.mu.Lock()
	p.over = true
	drawn := false
	for _, op := range p.ops {
		if op.bar != nil {
			drawn = true
			op.bar.Abort(true)
		}
	}
	for _, b := range p.kept {
		drawn = true
		b.Abort(true)
	}
	p.mu.Unlock()
	if p.mpb == nil {
		return
	}
	p.mpb.Wait()
	if drawn {
		// What the terminal echoed of an interrupt may have moved the cursor.
		fmt.Fprint(p.w, "\r\x1b[J")
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
