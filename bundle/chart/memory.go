package chart

import (
	"runtime/metrics"
	"time"
)

// look is how often a render's memory is measured: no loop of a template fills
// much more than a hundred megabytes in between.
const look = 20 * time.Millisecond

// outgrown says when the process has grown by more than limit since the call:
// garbage counts too, so it is not exact. stop ends the watch.
func outgrown(limit uint64) (full <-chan struct{}, stop func()) {
	out, done := make(chan struct{}), make(chan struct{})
	begin := inUse()
	go func() {
		tick := time.NewTicker(look)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			if inUse() > begin+limit {
				close(out)
				return
			}
		}
	}()
	return out, func() { close(done) }
}

// inUse is what heap and stacks hold, in bytes.
func inUse() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(s)
	var n uint64
	for _, m := range s {
		if m.Value.Kind() == metrics.KindUint64 {
			n += m.Value.Uint64()
		}
	}
	return n
}
