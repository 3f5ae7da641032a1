package mirror

import (
	"sync"

	"github.com/airlock-project/airlock/bundle"
)

// progress reports a blob's bytes. What an attempt sends again is not reported
// again.
type progress struct {
	engine *engine
	object string
	size   int64

	mu       sync.Mutex
	at, most int64 // of this attempt; of any attempt, as reported
}

func (p *progress) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = 0
}

func (p *progress) moved(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at += n
	if p.at-p.most >= eventEvery {
		p.engine.opts.Listener.Send(bundle.Event{Op: "push", Object: p.object, Bytes: p.at - p.most})
		p.most = p.at
	}
}

// finish reports the rest. A blob that was there counts with its size, so that
// what is reported adds up to the total.
func (p *progress) finish(reused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.engine.opts.Listener.Send(bundle.Event{
		Op: "push", Object: p.object, Bytes: p.size - p.most, Done: true, Reused: reused,
	})
}
