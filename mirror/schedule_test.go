package mirror

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/airlock-project/airlock/mirror/target"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// crowd counts the uploads that are under way at once.
type crowd struct {
	mu             sync.Mutex
	in, most, goal int
	full           chan struct{} // closed when goal are in
}

// hold keeps uploads until the goal is reached, or somebody gave up on it.
func (c *crowd) hold(reg *registry, giveUp <-chan struct{}) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !isUpload(r, http.MethodPut) {
			return false
		}
		c.mu.Lock()
		c.in++
		if c.most = max(c.most, c.in); c.in == c.goal {
			close(c.full)
			c.goal = -1
		}
		c.mu.Unlock()
		select {
		case <-c.full:
		case <-giveUp:
		}
		reg.handler.ServeHTTP(w, r)
		c.mu.Lock()
		c.in--
		c.mu.Unlock()
		return true
	}
}

// Small blobs wait for answers most of the time, so more of them are under way,
// unless somebody said how many.
func TestSmallBlobsAtOnce(t *testing.T) {
	tests := map[string]struct {
		workers int
		limits  target.Limits
		size    int
		want    int
	}{
		"by default":       {0, target.Limits{}, 100, defaultWorkers + extraWorkers},
		"large":            {0, target.Limits{}, smallBlob, defaultWorkers - 1 + 4}, // one of the 4 configs is with a worker that could take more
		"as asked":         {3, target.Limits{}, 100, 3},
		"as the target's":  {0, target.Limits{Workers: 10}, 100, 10},
		"fewer than usual": {0, target.Limits{Workers: 5}, 100, 5},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			reg := newOlareg(t, true)
			c := &crowd{goal: tt.want, full: make(chan struct{})}
			giveUp := make(chan struct{})
			timer := time.AfterFunc(time.Minute, func() { close(giveUp) })
			defer timer.Stop()
			reg.setFault(c.hold(reg, giveUp))
			f := newFake(t)
			for i := range 4 {
				layers := make([]ocispec.Descriptor, 12)
				for k := range layers {
					layers[k] = f.layer(uint64(i*100+k), tt.size+k+1)
				}
				name := fmt.Sprintf("x%d", i)
				f.root("quay.io/a/"+name+":1", f.image(name, layers...))
			}
			o := options(t, reg)
			o.Workers, o.Target = tt.workers, &fakeTarget{limits: tt.limits}
			if _, result, err := run(t.Context(), f, o); err != nil || result.Sent != 4*13 {
				t.Fatalf("%+v, %v", result, err)
			}
			if c.most != tt.want {
				t.Errorf("%d uploads at once, want %d", c.most, tt.want)
			}
		})
	}
}
