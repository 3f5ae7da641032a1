package mirror

import (
	"bytes"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/airlock-project/airlock/mirror/target"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

var blobPut = regexp.MustCompile(`digest=sha256(%3A|:)([0-9a-f]{64})`)

// blobsSent counts the uploads that were ended, by digest.
func blobsSent(log []request) map[string]int {
	sent := map[string]int{}
	for _, r := range log {
		if m := blobPut.FindStringSubmatch(r.query); m != nil && r.method == http.MethodPut && r.status == http.StatusCreated {
			sent[m[2]]++
		}
	}
	return sent
}

// namesSet lists the manifests that were written, repository and reference.
func namesSet(log []request) map[string]bool {
	set := map[string]bool{}
	for _, r := range log {
		if r.method == http.MethodPut && strings.Contains(r.path, "/manifests/") {
			set[r.path] = true
		}
	}
	return set
}

// Processes that know nothing of each other send every blob once; the closing
// run names everything and sends none.
func TestShardProcesses(t *testing.T) {
	const n = 3
	registries(t, func(t *testing.T, reg *registry) {
		order := realBundle(t)
		order.Host = reg.host
		runShards(t, order, n)
		log := reg.requests()
		sent := blobsSent(log)
		if len(sent) < 8 {
			t.Fatalf("%d blobs sent", len(sent))
		}
		for d, times := range sent {
			if times != 1 {
				t.Errorf("blob %s was sent %d times", d, times)
			}
		}
		if names := namesSet(log); len(names) != 0 {
			t.Errorf("shards named %v", names)
		}
		closing := order
		closing.Closing = true
		result, err := closing.run(t.Context())
		if err != nil || result.Sent != 0 || result.Pushed != 4 {
			t.Fatalf("closing: %+v, %v", result, err)
		}
		closed := reg.requests()
		if again := blobsSent(closed); len(again) != 0 {
			t.Errorf("the closing run sent %v", again)
		}
		single := newOlareg(t, true)
		order.Host = single.host
		if _, err := order.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		log = single.requests()
		if diff := cmp.Diff(namesSet(log), namesSet(closed)); diff != "" {
			t.Errorf("names (-single run +shards):\n%s", diff)
		}
		if diff := cmp.Diff(blobsSent(log), sent); diff != "" {
			t.Errorf("blobs (-single run +shards):\n%s", diff)
		}
	})
}

func runShards(t *testing.T, order childOrder, n int) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		o := order
		o.Shard = Shard{Index: i, Count: n}
		cmd := o.command(t)
		var out bytes.Buffer
		cmd.Stderr = &out
		wg.Go(func() {
			if err := cmd.Run(); err != nil {
				t.Errorf("shard %d: %v: %s", i, err, &out)
			}
		})
	}
	wg.Wait()
}

// Without mounts the closing run sends a shared blob to the repositories that
// no shard sent it to, and only there.
func TestShardWithoutMount(t *testing.T) {
	reg := newOlareg(t, true)
	reg.setFault(func(_ http.ResponseWriter, r *http.Request) bool {
		q := r.URL.Query()
		if q.Has("mount") {
			q.Del("mount")
			q.Del("from")
			r.URL.RawQuery = q.Encode()
		}
		return false
	})
	f := newFake(t)
	shared := f.layer(1, 5000)
	f.root("quay.io/a/x:1", f.image("x", shared))
	f.root("quay.io/a/y:1", f.image("y", shared))
	o := options(t, reg)
	o.Target = &fakeTarget{state: target.State{CrossMount: target.MountTry}}
	for i := range 2 {
		o.Shard = Shard{Index: i, Count: 2}
		m, _, err := run(t.Context(), f, o)
		if err != nil || len(m.Entries) != 0 {
			t.Fatalf("%+v, %v", m, err)
		}
	}
	if sent := blobsSent(reg.requests()); len(sent) != 3 || sent[shared.Digest.Encoded()] != 1 {
		t.Errorf("shards sent %v", sent)
	}
	o.Shard, o.Closing = Shard{}, true
	_, result, err := run(t.Context(), f, o)
	if err != nil || result.Pushed != 2 {
		t.Fatalf("%+v, %v", result, err)
	}
	if diff := cmp.Diff(map[string]int{shared.Digest.Encoded(): 1}, blobsSent(reg.requests())); diff != "" {
		t.Errorf("closing sent (-want +got):\n%s", diff)
	}
}

// A shard that failed says which blobs are missing; the closing run sends them.
func TestShardFails(t *testing.T) {
	reg := newOlareg(t, true)
	f := newFake(t)
	bad := f.layer(1, 5000)
	f.root("quay.io/a/x:1", f.image("x", bad, f.layer(2, 10)))
	reg.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		if isUpload(r, http.MethodPut) && strings.Contains(r.URL.RawQuery, bad.Digest.Encoded()) {
			answerWith(http.StatusForbidden, "DENIED")(w, r)
			return true
		}
		return false
	})
	o := options(t, reg)
	o.Shard = Shard{Index: 0, Count: 1}
	_, result, err := run(t.Context(), f, o)
	if err == nil || !strings.Contains(err.Error(), bad.Digest.String()) || result.Sent != 2 {
		t.Errorf("%+v, %v", result, err)
	}
	e := as[*PartialError](t, err)
	if e.Of != "blobs" || e.Done != 2 || len(e.Missing) != 1 || e.Missing[0] != o.To+"/a/x@"+bad.Digest.String() {
		t.Errorf("%+v", e)
	}
	reg.setFault(nil)
	o.Shard, o.Closing = Shard{}, true
	if _, result, err = run(t.Context(), f, o); err != nil || result.Sent != 1 {
		t.Errorf("closing: %+v, %v", result, err)
	}
}

func TestShardsCover(t *testing.T) {
	const n = 7
	var count [n]int
	for i := range 2000 {
		d := digest.FromString(strings.Repeat("x", i))
		holders := 0
		for k := range n {
			if (Shard{Index: k, Count: n}).has(d) {
				holders++
				count[k]++
			}
		}
		if holders != 1 {
			t.Fatalf("%s is in %d shards", d, holders)
		}
	}
	for k, c := range count {
		if c < 200 || c > 370 {
			t.Errorf("shard %d has %d of 2000", k, c)
		}
	}
}

func TestParseShard(t *testing.T) {
	for s, want := range map[string]Shard{"0/1": {0, 1}, "3/4": {3, 4}, "0/4096": {0, 4096}} {
		if got, err := ParseShard(s); err != nil || got != want {
			t.Errorf("ParseShard(%q) = %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "1", "0/0", "4/4", "-1/4", "1/-4", "0/4097", "a/b", "1/2/3"} {
		if got, err := ParseShard(s); err == nil {
			t.Errorf("ParseShard(%q) = %v, want an error", s, got)
		}
	}
	o := options(t, newOlareg(t, true))
	o.Shard, o.Closing = Shard{0, 2}, true
	if _, _, err := run(t.Context(), newFake(t), o); err == nil {
		t.Error("a closing shard is accepted")
	}
}

// A dry run of a shard is about its blobs only, and all shards together are
// about each blob once.
func TestShardDryRun(t *testing.T) {
	reg := newOlareg(t, true)
	f := newFake(t)
	signed(f)
	f.root("ghcr.io/b/y:1", f.image("y", f.layer(1, 3<<20)))
	o := options(t, reg)
	whole := saved(t, f, o)
	seen := map[digest.Digest]int{}
	for i := range 3 {
		o.Shard = Shard{i, 3}
		d := saved(t, f, o)
		if d.Shard != o.Shard.String() || d.Totals.Mounts != 0 || d.Totals.Requests != 2*d.Totals.Blobs {
			t.Errorf("%+v", d)
		}
		for _, b := range d.Blobs {
			seen[b.Digest]++
		}
		_, result, err := runPlan(t.Context(), f, d, forPlan(o))
		if err != nil || result.Sent != d.Totals.Blobs {
			t.Errorf("%+v, %v", result, err)
		}
	}
	for _, b := range whole.Blobs {
		if seen[b.Digest] != 1 {
			t.Errorf("%s is in %d shards", b.Digest, seen[b.Digest])
		}
	}
	if len(seen) != len(whole.Blobs) {
		t.Errorf("%d blobs in shards, %d in all", len(seen), len(whole.Blobs))
	}
}
