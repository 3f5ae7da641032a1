package offsite

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// registry is a registry in process; hook, if set, is called before each
// request.
type registry struct {
	host string
	mu   sync.Mutex
	hook func(r *http.Request)
}

func newRegistry(t *testing.T) *registry {
	t.Helper()
	reg := &registry{}
	inner := olareg.New(config.Config{Storage: config.ConfigStorage{StoreType: config.StoreMem}})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reg.mu.Lock()
		hook := reg.hook
		reg.mu.Unlock()
		if hook != nil {
			hook(r)
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	reg.host = strings.TrimPrefix(s.URL, "http://")
	return reg
}

func (reg *registry) onRequest(f func(*http.Request)) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	reg.hook = f
}

func (reg *registry) place(t *testing.T) Place {
	t.Helper()
	r, err := remote.NewRepository(reg.host + "/inside/" + Repository)
	if err != nil {
		t.Fatal(err)
	}
	r.PlainHTTP = true
	// Not the default transport: every test server that closes takes its
	// connections along.
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	r.Client = &auth.Client{Client: &http.Client{Transport: transport}}
	return r
}

func machine(n string) install.Lease {
	return install.Lease{Site: "site-a", Owner: "owner-" + n, Host: "host-" + n, PID: 7, Actor: "ops-" + n}
}

func (reg *registry) guard(t *testing.T) Guard {
	return Guard{Place: reg.place(t), Where: "registry/airlock-state", Settle: time.Millisecond}
}

func notLost(t *testing.T) func(error) { return func(err error) { t.Errorf("lost: %v", err) } }

func mustTake(t *testing.T, g Guard, who install.Lease) *install.Hold {
	t.Helper()
	h, err := g.Take(t.Context(), who, notLost(t))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func release(t *testing.T, h *install.Hold) {
	t.Helper()
	if err := h.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestLockKeepsOthersOut(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	a := mustTake(t, reg.guard(t), machine("a"))
	if a.Former != nil {
		t.Errorf("former %v", a.Former)
	}
	_, err := reg.guard(t).Take(t.Context(), machine("b"), notLost(t))
	held, ok := errors.AsType[*install.HeldError](err)
	if !ok || held.By.Host != "host-a" || held.By.PID != 7 || held.By.Actor != "ops-a" || held.By.Since.IsZero() || !strings.Contains(err.Error(), "process 7 of ops-a on host-a since 20") {
		t.Fatalf("error %v", err)
	}
	other := machine("b")
	other.Site = "site-b"
	release(t, mustTake(t, reg.guard(t), other)) // another site is another lock
	release(t, a)
	b := mustTake(t, reg.guard(t), machine("b"))
	if b.Former != nil {
		t.Errorf("what was given back is taken from %v", b.Former)
	}
	release(t, b)
}

func TestLockTakenOver(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		who    string
		later  time.Duration
		brk    string
		why    string // "" is refused
		broken bool
	}{
		"fresh":                   {"b", time.Minute, "", "", false},
		"just before its end":     {"b", 10*time.Minute - time.Second, "", "", false},
		"run out":                 {"b", 10*time.Minute + time.Second, "", "it ran out at", false},
		"broken":                  {"b", time.Minute, "host-a burnt", "host-a burnt", true},
		"the same directory":      {"a", time.Minute, "", "ended without giving it back", false},
		"the directory elsewhere": {"copy of a", time.Minute, "", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			reg := newRegistry(t)
			mustTake(t, reg.guard(t), machine("a")) // and dies
			g := reg.guard(t)
			g.Break, g.Now = c.brk, func() time.Time { return time.Now().Add(c.later) }
			who := machine("b")
			switch c.who {
			case "a":
				who = machine("a")
			case "copy of a":
				who.Owner = machine("a").Owner
			}
			h, err := g.Take(t.Context(), who, func(error) {})
			if c.why == "" {
				if _, ok := errors.AsType[*install.HeldError](err); !ok {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if h.Former == nil || h.Former.Host != "host-a" || !strings.Contains(h.Why, c.why) || h.Broken != c.broken {
				t.Errorf("%+v", h)
			}
			release(t, h)
		})
	}
}

// TestLockRace lets machines look at the same moment, so that each finds the
// lock free: one of them gets it, the others see that and withdraw.
func TestLockRace(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	const n = 4
	var looked, wrote sync.WaitGroup
	looked.Add(n)
	wrote.Add(n)
	// Who is slow to look may find the lock taken, and then never writes.
	var written [n]sync.Once
	wroteOrNot := func(agent string) { written[agent[0]-'a'].Do(wrote.Done) }
	seen := map[string]int{}
	var mu sync.Mutex
	reg.onRequest(func(r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/manifests/lock-site-a") {
			return
		}
		who := r.Header.Get("User-Agent")
		mu.Lock()
		seen[who+r.Method]++
		first := seen[who+r.Method] == 1
		second := seen[who+r.Method] == 2
		mu.Unlock()
		switch {
		case r.Method == http.MethodHead && first: // nobody writes before all have looked
			looked.Done()
			looked.Wait()
		case r.Method == http.MethodPut && first:
			wroteOrNot(who)
		case r.Method == http.MethodHead && second: // nobody looks again before all write
			wrote.Wait()
		}
	})
	type outcome struct {
		h   *install.Hold
		err error
	}
	out := make(chan outcome, n)
	for i := range n {
		place := reg.place(t)
		agent := string(rune('a' + i))
		place.(*remote.Repository).Client = withAgent(agent)
		go func() {
			g := reg.guard(t)
			g.Place, g.Settle = place, 100*time.Millisecond // the last write has begun, and must end
			h, err := g.Take(t.Context(), machine(agent), func(error) {})
			wroteOrNot(agent)
			out <- outcome{h, err}
		}()
	}
	won := 0
	for range n {
		o := <-out
		if o.err == nil {
			won++
			release(t, o.h)
			continue
		}
		if _, ok := errors.AsType[*install.HeldError](o.err); !ok {
			t.Error(o.err)
		}
	}
	if won != 1 {
		t.Errorf("%d machines hold the lock", won)
	}
}

type agentClient string

func withAgent(name string) remote.Client { return agentClient(name) }

func (a agentClient) Do(r *http.Request) (*http.Response, error) {
	r.Header.Set("User-Agent", string(a))
	return http.DefaultClient.Do(r)
}

// TestLockLost: a holder that somebody took the lock from finds out and stops.
func TestLockLost(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	taken := make(chan struct{})
	looks := 0
	reg.onRequest(func(r *http.Request) {
		if r.Header.Get("User-Agent") != "a" || r.Method != http.MethodHead || !strings.HasSuffix(r.URL.Path, "/manifests/lock-site-a") {
			return
		}
		if looks++; looks == 3 { // it has looked, written and looked again; this is the first look of a holder
			<-taken
		}
	})
	place := reg.place(t)
	place.(*remote.Repository).Client = withAgent("a")
	lost := make(chan error, 1)
	a := reg.guard(t)
	a.Place, a.Early = place, time.Millisecond
	h, err := a.Take(t.Context(), machine("a"), func(err error) { lost <- err })
	if err != nil {
		t.Fatal(err)
	}
	g := reg.guard(t)
	g.Break = "a is gone"
	b := mustTake(t, g, machine("b"))
	close(taken)
	if e, ok := errors.AsType[*install.LostError](<-lost); !ok || e.To.Host != "host-b" {
		t.Errorf("error %v", err)
	}
	release(t, h) // does not take it from the other
	if cur, err := g.read(t.Context(), "site-a"); err != nil || cur.Released || cur.Host != "host-b" {
		t.Errorf("%v, %v", cur, err)
	}
	release(t, b)
}

// TestLockRenewed: while it is held it does not run out.
func TestLockRenewed(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	g := reg.guard(t)
	g.TTL, g.Early = 100*time.Millisecond, time.Millisecond
	written := make(chan struct{}, 100)
	reg.onRequest(func(r *http.Request) {
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/manifests/lock-site-a") {
			select {
			case written <- struct{}{}:
			default:
			}
		}
	})
	h := mustTake(t, g, machine("a"))
	first, err := g.read(t.Context(), "site-a")
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		<-written
	}
	now, err := g.read(t.Context(), "site-a")
	if err != nil || !now.Expires.After(first.Expires) || now.Nonce != first.Nonce || !now.Since.Equal(first.Since) {
		t.Errorf("%+v, then %+v, %v", first, now, err)
	}
	release(t, h)
	if now, err = g.read(t.Context(), "site-a"); err != nil || !now.Released {
		t.Errorf("%+v, %v", now, err)
	}
}

func TestLockOfSomebodyElse(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	p := reg.place(t)
	put := func(artifactType string, content []byte) {
		layer, err := pushBytes(t.Context(), p, leaseLayer, content)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pushBytes(t.Context(), p, ocispec.MediaTypeEmptyJSON, ocispec.DescriptorEmptyJSON.Data); err != nil {
			t.Fatal(err)
		}
		desc, raw, err := packed(artifactType, []ocispec.Descriptor{layer}, time.Now(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.PushReference(t.Context(), desc, bytes.NewReader(raw), LockTag("site-a")); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		typ, content, want string
	}{
		"another artifact": {"application/vnd.example", "{}", "it is not Airlock's"},
		"no JSON":          {leaseType, "hello", "read lock"},
		"another site":     {leaseType, `{"site":"site-z","nonce":"x"}`, `is about site "site-z"`},
		"too large":        {leaseType, strings.Repeat(" ", maxLease+1), "at most"},
	} {
		put(c.typ, []byte(c.content))
		if _, err := reg.guard(t).Take(t.Context(), machine("a"), notLost(t)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
}

func TestTags(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 128)
	for _, tag := range []string{LockTag(long), LedgerTag(long, ""), LedgerTag(long, "01ARZ3NDEKTSV4RRFFQ69G5FAV"), LedgerTag(long[1:]+"b", "")} {
		if len(tag) > maxTag {
			t.Errorf("%q has %d characters", tag, len(tag))
		}
	}
	if LedgerTag(long, "") == LedgerTag(long[1:]+"b", "") || LedgerTag("site-a", "") != "ledger-site-a" || LockTag("site-a") != "lock-site-a" {
		t.Error("tags of sites are not told apart")
	}
}

// stateDir makes something like a state directory.
func stateDir(t *testing.T) (string, install.Published) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "artifacts"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"ledger.jsonl": "line\n", "run.json": "{}", "checkpoints.jsonl": "{}\n", "report.json": "{}", "hmac.key": "the key that hides secrets", "lock": "7 host",
		"artifacts/" + digest.FromString("evidence").Encoded(): "evidence", "artifacts/half.partial": "ev",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "secrets"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "secrets", "key"), []byte("a private key"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, install.Published{
		Dir: dir, Site: "site-a", RunID: "01ARZ3", Head: install.Head{Seq: 3, Hash: "cc"}, At: time.Unix(0, 0),
		Known: func(h install.Head) bool {
			return h == install.Head{Seq: 2, Hash: "bb"} || h == install.Head{Seq: 3, Hash: "cc"}
		},
	}
}

func TestRecordComesBack(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	p := reg.place(t)
	_, rec := stateDir(t)
	if w, err := Push(t.Context(), p, rec); err != nil || w != "" {
		t.Fatal(w, err)
	}
	for _, tag := range []string{"ledger-site-a", "ledger-site-a-01ARZ3"} {
		to := filepath.Join(t.TempDir(), "new")
		var checked string
		got, err := Restore(t.Context(), p, tag, to, func(dir string) error { checked = dir; return nil })
		if err != nil {
			t.Fatal(err)
		}
		if got.Site != "site-a" || got.RunID != "01ARZ3" || got.Files != 5 || checked == "" || checked == to {
			t.Errorf("%+v, checked %q", got, checked)
		}
		var have []string
		err = filepath.WalkDir(to, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				have = append(have, strings.TrimPrefix(path, to+"/"))
			}
			return err
		})
		want := "artifacts/" + digest.FromString("evidence").Encoded() + " checkpoints.jsonl ledger.jsonl report.json run.json"
		if err != nil || strings.Join(have, " ") != want {
			t.Errorf("restored %v, %v; want %s", have, err, want)
		}
		if fi, err := os.Stat(to); err != nil || fi.Mode().Perm() != 0o700 {
			t.Errorf("%v, %v", fi.Mode(), err)
		}
	}
	// What is there already is not sent again.
	uploads := 0
	reg.onRequest(func(r *http.Request) {
		if strings.Contains(r.URL.Path, "/blobs/uploads/") {
			uploads++
		}
	})
	if _, err := Push(t.Context(), p, rec); err != nil || uploads != 0 {
		t.Errorf("%d uploads, %v", uploads, err)
	}
}

func TestRecordOfAnotherDirectory(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	p := reg.place(t)
	_, rec := stateDir(t)
	if _, err := Push(t.Context(), p, rec); err != nil {
		t.Fatal(err)
	}
	later := rec
	later.RunID, later.Head = "01ARZ4", install.Head{Seq: 9, Hash: "ff"}
	if w, err := Push(t.Context(), p, later); err != nil || w != "" {
		t.Errorf("what continues it: %q, %v", w, err)
	}
	other := rec
	other.RunID, other.Known = "01ARZ5", func(install.Head) bool { return false }
	w, err := Push(t.Context(), p, other)
	if err != nil || !strings.Contains(w, "another state directory") || !strings.Contains(w, "ledger-site-a-01ARZ4") {
		t.Errorf("%q, %v", w, err)
	}
}

func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	p := reg.place(t)
	_, rec := stateDir(t)
	if _, err := Push(t.Context(), p, rec); err != nil {
		t.Fatal(err)
	}
	parent := t.TempDir()
	fine := func(string) error { return nil }
	if _, err := Restore(t.Context(), p, "ledger-site-a", parent, fine); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over what is there: %v", err)
	}
	if _, err := Restore(t.Context(), p, "ledger-site-z", filepath.Join(parent, "x"), fine); !errors.As(err, new(*MissingError)) {
		t.Errorf("what is not there: %v", err)
	}
	why := errors.New("forged")
	if _, err := Restore(t.Context(), p, "ledger-site-a", filepath.Join(parent, "x"), func(string) error { return why }); !errors.Is(err, why) {
		t.Errorf("what does not verify: %v", err)
	}
	for name, c := range map[string]struct {
		edit func(m *ocispec.Manifest)
		want string
	}{
		"a path":           {func(m *ocispec.Manifest) { m.Layers[0].Annotations[ocispec.AnnotationTitle] = "../ledger.jsonl" }, "no file"},
		"the key":          {func(m *ocispec.Manifest) { m.Layers[0].Annotations[ocispec.AnnotationTitle] = "hmac.key" }, "no file"},
		"twice":            {func(m *ocispec.Manifest) { m.Layers[1] = m.Layers[0] }, "twice"},
		"other content":    {func(m *ocispec.Manifest) { m.Layers[4].Digest = m.Layers[0].Digest }, "other content"},
		"no ledger":        {func(m *ocispec.Manifest) { m.Layers = m.Layers[1:] }, "it has no ledger.jsonl"},
		"too large":        {func(m *ocispec.Manifest) { m.Layers[0].Size = maxFile + 1 }, "at most"},
		"another size":     {func(m *ocispec.Manifest) { m.Layers[0].Size++ }, "ledger.jsonl"},
		"another artifact": {func(m *ocispec.Manifest) { m.ArtifactType = leaseType }, "not Airlock's"},
	} {
		t.Run(name, func(t *testing.T) {
			m, _, err := fetchManifest(t.Context(), p, "ledger-site-a", recordType)
			if err != nil {
				t.Fatal(err)
			}
			c.edit(m)
			raw, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			d := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
			if err := p.PushReference(t.Context(), d, bytes.NewReader(raw), "edited"); err != nil {
				t.Fatal(err)
			}
			if _, err := Restore(t.Context(), p, "edited", filepath.Join(parent, "y"), fine); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
	left, err := os.ReadDir(parent)
	if err != nil || len(left) != 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}

func TestTakeEndsWithItsContext(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	ctx, cancel := context.WithCancel(t.Context())
	reg.onRequest(func(r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/manifests/lock-site-a") && r.Method == http.MethodPut {
			cancel()
		}
	})
	g := reg.guard(t)
	g.Settle = time.Hour
	if _, err := g.Take(ctx, machine("a"), notLost(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// TestCompare: a copy that goes further than the record here, or is another, is
// not overtaken in silence.
func TestCompare(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	p := reg.place(t)
	_, rec := stateDir(t)
	if w, err := Compare(t.Context(), p, "registry", rec); err != nil || w != "" {
		t.Errorf("no copy: %q, %v", w, err)
	}
	if _, err := Push(t.Context(), p, rec); err != nil {
		t.Fatal(err)
	}
	if w, err := Compare(t.Context(), p, "registry", rec); err != nil || w != "" {
		t.Errorf("the same: %q, %v", w, err)
	}
	older := rec
	older.Head, older.Known = install.Head{Seq: 2, Hash: "bb"}, func(h install.Head) bool { return h == install.Head{Seq: 2, Hash: "bb"} }
	_, err := Compare(t.Context(), p, "registry", older)
	var fork *install.ForkError
	if !errors.As(err, &fork) || fork.Head.Seq != 3 || fork.Have.Seq != 2 || !strings.Contains(err.Error(), "goes further") || fork.RunID != "01ARZ3" {
		t.Errorf("ahead: %v", err)
	}
	other := rec
	other.Head, other.Known = install.Head{Seq: 9, Hash: "ff"}, func(install.Head) bool { return false }
	if _, err := Compare(t.Context(), p, "registry", other); !errors.As(err, &fork) || !strings.Contains(err.Error(), "of another state directory") {
		t.Errorf("another: %v", err)
	}
	fresh := other
	fresh.Head = install.Head{}
	if w, err := Compare(t.Context(), p, "registry", fresh); err != nil || !strings.Contains(w, "checklist restore") {
		t.Errorf("new: %q, %v", w, err)
	}
}
