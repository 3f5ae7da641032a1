package main

import (
	"fmt"
	"strings"
	"sync"

	"github.com/airlock-project/airlock/install"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// screen shows a running checklist: on a terminal a line for each item that is
// being done, with its time, and how far the whole is; what has ended stays
// above as a plain line. Elsewhere only those lines.
type screen struct {
	app   *app
	bars  *progress // those of app when it was last looked at
	items map[string]*mpb.Bar
	whole *mpb.Bar

	all, ended int // items

	// mu is held for arithmetic only: the bar of the whole asks while it is told
	// how far it is.
	mu                       sync.Mutex
	running, waiting, failed int
}

// installEvents shows items as they start and end, until progressDone. Bars of
// bytes, as a mirror has them, and items share the screen.
func (a *app) installEvents() install.Listener {
	if a.listen() == nil {
		return nil
	}
	s := &screen{app: a, items: map[string]*mpb.Bar{}}
	return s.event
}

// look takes up the bars that are shown now. Whatever was said in between has
// ended those before.
func (s *screen) look() {
	if s.app.listen(); s.bars == s.app.bars {
		return
	}
	s.bars, s.whole = s.app.bars, nil
	clear(s.items)
	s.begin()
}

// event is called for one event at a time.
func (s *screen) event(e install.Event) {
	s.look()
	switch e.Op {
	case "run-started":
		s.all = e.Items
		s.begin()
	case "item-started":
		s.start(e)
	case "step-planned":
		s.plan(e)
	case "item-finished":
		s.end(e)
	}
}

// begin shows how far the whole is.
func (s *screen) begin() {
	if s.bars.mpb == nil || s.all == 0 {
		return
	}
	s.whole = s.bars.mpb.AddBar(int64(s.all), mpb.BarPriority(1<<20), // below the items
		mpb.PrependDecorators(decor.Name("checklist "), decor.CountersNoUnit("%d of %d")),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return s.standing() }), decor.Name("  "), decor.Elapsed(decor.ET_STYLE_GO)))
	s.whole.SetCurrent(int64(s.ended))
	s.bars.keep(s.whole)
}

func (s *screen) start(e install.Event) {
	s.count(1, "")
	if s.bars.mpb == nil {
		s.bars.println(fmt.Sprintf("%-11s %d %s", "…", e.Phase, e.Title))
		return
	}
	bar := s.bars.mpb.New(0, mpb.SpinnerStyle().PositionLeft(), mpb.BarWidth(2), mpb.BarRemoveOnComplete(),
		mpb.AppendDecorators(decor.Name(fmt.Sprintf("%d %s  ", e.Phase, e.Title)), decor.Elapsed(decor.ET_STYLE_GO)))
	s.items[e.Item] = bar
	s.bars.keep(bar)
}

// plan writes what is about to change.
func (s *screen) plan(e install.Event) {
	lines := []string{fmt.Sprintf("%-11s %d %s: %s", "change", e.Phase, e.Title, e.Plan.Summary)}
	for _, d := range e.Plan.Details {
		lines = append(lines, "            "+strings.ReplaceAll(d, "\n", "\n            "))
	}
	s.bars.println(strings.Join(lines, "\n"))
}

// end writes the line that stays. An item may end without having started.
func (s *screen) end(e install.Event) {
	if bar := s.items[e.Item]; bar != nil {
		bar.Abort(true)
		delete(s.items, e.Item)
	}
	line := fmt.Sprintf("%-11s %d %s", e.State, e.Phase, e.Title)
	if e.Text != "" {
		line += ": " + e.Text
	}
	s.bars.println(line)
	started := 0
	if e.Started {
		started = -1
	}
	s.count(started, e.State)
	s.ended++
	if s.whole != nil {
		s.whole.Increment()
	}
}

func (s *screen) count(running int, state install.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running += running
	switch state {
	case install.StateWaiting:
		s.waiting++
	case install.StateFail:
		s.failed++
	}
}

func (s *screen) standing() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := fmt.Sprintf("%d running", s.running)
	if s.failed > 0 {
		text += fmt.Sprintf(", %d failed", s.failed)
	}
	if s.waiting > 0 {
		text += fmt.Sprintf(", %d waiting", s.waiting)
	}
	return text
}
