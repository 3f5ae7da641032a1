package main

import (
	"net"
	"sync"
	"time"
)

// oneWay is how much later everything arrives behind a relay: 50 ms for a round
// trip, as between two continents.
const oneWay = 25 * time.Millisecond

// relay passes TCP connections on and holds every byte for oneWay in each
// direction. Its buffers have no bound, so that it adds time and nothing else.
type relay struct {
	net.Listener
	to string
}

func startRelay(to string) (*relay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &relay{l, to}
	go r.run()
	return r, nil
}

func (r *relay) run() {
	for {
		near, err := r.Accept()
		if err != nil {
			return // closed
		}
		go func() {
			far, err := net.Dial("tcp", r.to)
			if err != nil {
				_ = near.Close() // nothing was sent
				return
			}
			var wg sync.WaitGroup
			wg.Go(func() { delay(far, near) })
			wg.Go(func() { delay(near, far) })
			wg.Wait()
		}()
	}
}

// late is what arrived, and when it may go on.
type late struct {
	data []byte
	at   time.Time
}

// delay copies from src to dst, each byte oneWay after it came.
func delay(dst, src net.Conn) {
	var mu sync.Mutex
	var queue []late
	more := sync.NewCond(&mu)
	done := false
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := src.Read(buf)
			mu.Lock()
			if n > 0 {
				queue = append(queue, late{append([]byte(nil), buf[:n]...), time.Now().Add(oneWay)})
			}
			done = err != nil
			more.Signal()
			mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	for {
		mu.Lock()
		for len(queue) == 0 && !done {
			more.Wait()
		}
		if len(queue) == 0 {
			mu.Unlock()
			break
		}
		next := queue[0]
		queue = queue[1:]
		mu.Unlock()
		time.Sleep(time.Until(next.at))
		if _, err := dst.Write(next.data); err != nil {
			break
		}
	}
	// Closing is how the other side learns; what it says does not matter.
	_, _ = dst.Close(), src.Close()
}
