package offsite

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Types of the lock.
const (
	leaseType  = "application/vnd.airlock.lease.v1"
	leaseLayer = "application/vnd.airlock.lease.v1+json"
)

// Guard is a lock in a registry: an artifact under a tag that names its holder,
// written again while it is held. Its Take is an [install.Guard].
//
// A registry has no conditional write. Whoever takes the lock looks, writes, waits
// and looks again: of machines that write at the same time the last one's tag
// stays, and the others see it and withdraw. A machine whose write is on its way
// for longer than the wait of another can still take the lock from one that thinks
// that it holds it; that one finds out when it looks next, after early or a
// quarter of TTL, and stops. Two machines can work for so long side by side. How
// old a lock is tells its holder's clock: machines whose clocks differ by more
// than TTL take each other's locks.
type Guard struct {
	Place Place
	Where string // the place's name, for people
	Break string // why a lock that is held is taken; "" leaves it
	Now   func() time.Time

	// TTL is how long a lock outlasts its holder; 0 means ten minutes. Settle is
	// the least time between writing and looking again; 0 means 250 ms, to which
	// four times the duration of the write is added. Early is when a holder looks
	// for the first time; 0 means ten seconds.
	TTL, Settle, Early time.Duration
}

func (g Guard) withDefaults() Guard {
	if g.TTL == 0 {
		g.TTL = 10 * time.Minute
	}
	if g.Settle == 0 {
		g.Settle = 250 * time.Millisecond
	}
	if g.Early == 0 {
		g.Early = 10 * time.Second
	}
	if g.Now == nil {
		g.Now = time.Now
	}
	return g
}

// Take takes the lock of who.Site.
func (g Guard) Take(ctx context.Context, who install.Lease, lost func(error)) (*install.Hold, error) {
	g = g.withDefaults()
	who.APIVersion, who.Kind, who.Nonce = manifests.APIVersion, "Lease", rand.Text()
	who.Since = g.Now().UTC()
	who.Expires = who.Since.Add(g.TTL)
	// Its blobs go first, so that between the look and the write lies one request.
	put, err := g.prepare(ctx, who)
	if err != nil {
		return nil, err
	}
	cur, err := g.read(ctx, who.Site)
	if err != nil {
		return nil, err
	}
	hold, err := g.judge(cur, who)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := put(ctx); err != nil {
		return nil, err
	}
	if err := sleep(ctx, g.Settle+4*time.Since(began)); err != nil {
		return nil, err
	}
	if cur, err = g.read(ctx, who.Site); err != nil {
		return nil, err
	}
	if cur == nil || cur.Nonce != who.Nonce {
		if cur == nil {
			return nil, fmt.Errorf("the lock written to %s is not there", g.Where)
		}
		return nil, &install.HeldError{By: *cur, Where: g.Where}
	}
	hold.Release = g.keep(ctx, who, lost)
	return hold, nil
}

// judge says whether the lock may be taken, and from whom.
func (g Guard) judge(cur *install.Lease, who install.Lease) (*install.Hold, error) {
	switch {
	case cur == nil || cur.Released:
		return new(install.Hold), nil
	case cur.Owner == who.Owner && cur.Host == who.Host:
		// Who takes it holds the directory's own lock, so that process is gone.
		return &install.Hold{Former: cur, Why: "a run of this state directory ended without giving it back"}, nil
	case !g.Now().Before(cur.Expires):
		return &install.Hold{Former: cur, Why: "it ran out at " + cur.Expires.UTC().Format(time.RFC3339)}, nil
	case g.Break != "":
		return &install.Hold{Former: cur, Why: g.Break, Broken: true}, nil
	}
	return nil, &install.HeldError{By: *cur, Where: g.Where}
}

// keep writes the lock again until the returned function gives it back.
func (g Guard) keep(ctx context.Context, who install.Lease, lost func(error)) func(context.Context) error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	var taken bool // read after wg.Wait
	wg.Go(func() {
		for wait := min(g.Early, g.TTL/4); sleep(ctx, wait) == nil; wait = g.TTL / 4 {
			cur, err := g.read(ctx, who.Site)
			if err != nil || ctx.Err() != nil {
				continue // it cannot be told now; the next look may
			}
			if cur == nil || cur.Nonce != who.Nonce {
				taken = true
				e := &install.LostError{Where: g.Where}
				if e.To = (install.Lease{Site: who.Site, Host: "an unknown host", Actor: "somebody"}); cur != nil {
					e.To = *cur
				}
				lost(e)
				return
			}
			who.Expires = g.Now().UTC().Add(g.TTL)
			if put, err := g.prepare(ctx, who); err == nil {
				_ = put(ctx) // the next turn tries again, long before it runs out
			}
		}
	})
	return func(end context.Context) error {
		cancel()
		wg.Wait()
		if taken {
			return nil
		}
		cur, err := g.read(end, who.Site)
		if err != nil {
			return err
		}
		if cur == nil || cur.Nonce != who.Nonce {
			return nil // it is another's by now
		}
		who.Released = true
		put, err := g.prepare(end, who)
		if err != nil {
			return err
		}
		return put(end)
	}
}

// prepare pushes the content of a lock and returns what puts its tag there.
func (g Guard) prepare(ctx context.Context, l install.Lease) (func(context.Context) error, error) {
	raw, err := json.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("encode lock: %w", err)
	}
	layer, err := pushBytes(ctx, g.Place, leaseLayer, raw)
	if err != nil {
		return nil, err
	}
	if _, err := pushBytes(ctx, g.Place, ocispec.MediaTypeEmptyJSON, ocispec.DescriptorEmptyJSON.Data); err != nil {
		return nil, err
	}
	desc, manifest, err := packed(leaseType, []ocispec.Descriptor{layer}, l.Since, map[string]string{annotationSite: l.Site})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		if err := g.Place.PushReference(ctx, desc, bytes.NewReader(manifest), LockTag(l.Site)); err != nil {
			return fmt.Errorf("write lock %s: %w", LockTag(l.Site), err)
		}
		return nil
	}, nil
}

// read returns the lock that is there, nil if there is none.
func (g Guard) read(ctx context.Context, site string) (*install.Lease, error) {
	m, _, err := fetchManifest(ctx, g.Place, LockTag(site), leaseType)
	if err != nil || m == nil {
		return nil, err
	}
	if len(m.Layers) != 1 {
		return nil, fmt.Errorf("lock %s has %d layers, want one", LockTag(site), len(m.Layers))
	}
	raw, err := fetch(ctx, g.Place, m.Layers[0], maxLease)
	if err != nil {
		return nil, err
	}
	l := new(install.Lease)
	if err := json.Unmarshal(raw, l); err != nil {
		return nil, fmt.Errorf("read lock %s: %w", LockTag(site), err)
	}
	if l.Site != site || l.Nonce == "" {
		return nil, fmt.Errorf("lock %s is about site %q", LockTag(site), l.Site)
	}
	return l, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
