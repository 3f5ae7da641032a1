package mirror

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

func recordFile(t *testing.T, dir string) string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "mirror-*.jsonl"))
	if err != nil || len(list) != 1 {
		t.Fatalf("records %v, %v", list, err)
	}
	return list[0]
}

func uploads(log []request) (posts, puts int) {
	for _, r := range log {
		switch {
		case !strings.Contains(r.path, "/blobs/uploads/"):
		case r.method == http.MethodPost:
			posts++
		case r.method == http.MethodPut:
			puts++
		}
	}
	return posts, puts
}

// A run that ended before it named anything leaves a record; the next one asks
// for none of the blobs again.
func TestRecordSavesRequests(t *testing.T) {
	registries(t, func(t *testing.T, reg *registry) {
		f := newFake(t)
		signed(f)
		o := options(t, reg)
		o.Record = t.TempDir()
		reg.setFault(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/manifests/v1") {
				answerWith(http.StatusForbidden, "DENIED")(w, r)
				return true
			}
			return false
		})
		if _, _, err := run(t.Context(), f, o); err == nil {
			t.Fatal("the tag was refused")
		}
		reg.setFault(nil)
		reg.requests()
		_, result, err := run(t.Context(), f, o)
		if err != nil || result.Pushed != 1 || result.Sent != 0 || result.Reused == 0 {
			t.Fatalf("%+v, %v", result, err)
		}
		log := reg.requests()
		if posts, puts := uploads(log); posts != 0 || puts != 0 {
			t.Errorf("%d POST and %d PUT for recorded blobs", posts, puts)
		}
		for path := range namesSet(log) {
			if strings.Contains(path, "/manifests/sha256:") {
				t.Errorf("recorded manifest written again: %s", path)
			}
		}
		// Without the record it costs requests and nothing else.
		if err := os.Remove(recordFile(t, o.Record)); err != nil {
			t.Fatal(err)
		}
		if _, result, err = run(t.Context(), f, o); err != nil || result.Unchanged != 1 {
			t.Errorf("without record: %+v, %v", result, err)
		}
	})
}

// The record says what the registry does not have: it is sent again.
func TestRecordIsNoProof(t *testing.T) {
	registries(t, func(t *testing.T, reg *registry) {
		f := newFake(t)
		index, sbom, sbomSig, cosign := signed(f)
		other := f.layer(9, 5000)
		f.root("quay.io/jetstack/x:other", f.image("other", other))
		o := options(t, reg)
		o.Record = t.TempDir()
		rec, err := openRecord(o.Record, f.Info().Digest, o.To)
		if err != nil {
			t.Fatal(err)
		}
		for d := range f.blobs {
			kind := factBlob
			if _, ok := f.manifests[d]; ok {
				kind = factManifest
			}
			rec.add(fact{Kind: kind, Repository: "airlock/jetstack/x", Digest: d, How: "sent"})
		}
		if err := rec.close(); err != nil {
			t.Fatal(err)
		}
		m, result, err := run(t.Context(), f, o)
		if err != nil || result.Pushed != 2 || len(m.Entries) != 2 {
			t.Fatalf("%+v, %v", result, err)
		}
		checkPulled(t, reg.repository(t, "airlock/jetstack/x"), index, sbom, sbomSig, cosign)
		for d, n := range f.fetched {
			if n != 1 {
				t.Errorf("%s was sent %d times", d, n)
			}
		}
		raw, err := os.ReadFile(recordFile(t, o.Record))
		if err != nil || !bytes.Contains(raw, []byte(`"gone":true`)) {
			t.Errorf("the record keeps what was wrong: %v", err)
		}
	})
}

func TestRecordFile(t *testing.T) {
	d, blob := digest.FromString("bundle"), fact{Kind: factBlob, Repository: "a/b", Digest: digest.FromString("blob"), How: "sent"}
	open := func(t *testing.T, dir, to string) *record {
		t.Helper()
		r, err := openRecord(dir, d, to)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.close() }) // closed before where it matters
		return r
	}
	tests := []struct {
		name  string
		spoil func([]byte) []byte
		known bool
	}{
		{"whole", func(b []byte) []byte { return b }, true},
		{"cut in a line", func(b []byte) []byte { return append(b, `{"kind":"blob","repos`...) }, true},
		{"rubbish after", func(b []byte) []byte { return append(b, "\x00\x00\x00\n{}\n"...) }, true},
		{"line too long", func(b []byte) []byte { return append(b, bytes.Repeat([]byte("x"), maxRecordLine+1)...) }, true},
		{"taken back", func(b []byte) []byte {
			return append(b, bytes.Replace(b[bytes.IndexByte(b, '\n')+1:], []byte("}"), []byte(`,"gone":true}`), 1)...)
		}, false},
		{"other version", func(b []byte) []byte { return bytes.Replace(b, []byte(`"version":1`), []byte(`"version":9`), 1) }, false},
		{"other bundle", func(b []byte) []byte { return bytes.Replace(b, []byte(d.Encoded()[:8]), []byte("00000000"), 1) }, false},
		{"evil name", func(b []byte) []byte { return bytes.Replace(b, []byte("a/b"), []byte("../"), 1) }, false},
		{"empty", func([]byte) []byte { return nil }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			r := open(t, dir, "r.test/x")
			r.add(blob)
			if r.recalled(blob) {
				t.Error("what this run did counts as hearsay")
			}
			if err := r.close(); err != nil {
				t.Fatal(err)
			}
			name := recordFile(t, dir)
			raw, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, tt.spoil(raw), 0o600); err != nil {
				t.Fatal(err)
			}
			r = open(t, dir, "r.test/x")
			if r.recalled(blob) != tt.known {
				t.Errorf("recalled = %v, want %v", !tt.known, tt.known)
			}
			next := fact{Kind: factBlob, Repository: "a/c", Digest: blob.Digest}
			r.add(next)
			if err := r.close(); err != nil {
				t.Fatal(err)
			}
			if r = open(t, dir, "r.test/x"); !r.recalled(next) {
				t.Error("what was added after damage is lost")
			}
		})
	}
	dir := t.TempDir()
	open(t, dir, "r.test/x")
	_, err := openRecord(dir, d, "r.test/x")
	if busy := as[*BusyError](t, err); busy.Record == "" {
		t.Error("the record has no name")
	}
	open(t, dir, "r.test/y") // another target is another file
}

// Killed in the middle, a run leaves what the next one needs.
func TestRecordAfterKill(t *testing.T) {
	reg := newOlareg(t, true)
	order := realBundle(t)
	order.Host, order.Record, order.Workers = reg.host, t.TempDir(), 1
	const before = 4
	reached := make(chan struct{})
	var puts int
	reg.setFault(func(_ http.ResponseWriter, r *http.Request) bool {
		if isUpload(r, http.MethodPut) {
			if puts++; puts == before+1 {
				close(reached)
			}
			if puts > before {
				_, _ = io.Copy(io.Discard, r.Body) // so that the server notices the end
				<-r.Context().Done()               // the fifth blob never gets there
				panic(http.ErrAbortHandler)
			}
		}
		return false
	})
	cmd := order.command(t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-reached:
	case <-time.After(time.Minute):
		t.Error("the child sends nothing")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the child ended well")
	}
	reg.setFault(nil)
	first := blobsSent(reg.requests())
	raw, err := os.ReadFile(recordFile(t, order.Record))
	if err != nil {
		t.Fatal(err)
	}
	known := bytes.Count(raw, []byte(`"kind":"blob"`))
	result, err := order.run(t.Context())
	if err != nil || result.Pushed != 4 {
		t.Fatalf("%+v, %v", result, err)
	}
	log := reg.requests()
	for d := range blobsSent(log) {
		if first[d] != 0 {
			t.Errorf("blob %s was sent again", d)
		}
	}
	if len(first) != before {
		t.Errorf("%d blobs before the kill, want %d", len(first), before)
	}
	posts, _ := uploads(log)
	sent := len(blobsSent(log)) // the upload that was cut may be logged late
	if want := result.Sent + result.Reused - known; known < before || posts != want || sent != result.Sent {
		t.Errorf("%d POST and %d PUT for %+v, want %d POST", posts, sent, result, want)
	}
}

// Trouble with the record's disk does not stop a run and is said at its end; a
// directory that cannot be used is said before anything is sent.
func TestRecordTrouble(t *testing.T) {
	reg := newOlareg(t, true)
	f := newFake(t)
	f.root("quay.io/a/x:1", f.image("x"))
	o := options(t, reg)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	o.Record = file
	if _, _, err := run(t.Context(), f, o); err == nil || len(reg.requests()) != 0 {
		t.Errorf("error %v", err)
	}
	r, err := openRecord(t.TempDir(), f.Info().Digest, o.To)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.file.Close()); err != nil {
		t.Fatal(err)
	}
	r.add(fact{Kind: factBlob, Repository: "a", Digest: digest.FromString("x")})
	r.add(fact{Kind: factBlob, Repository: "b", Digest: digest.FromString("x")})
	if e := as[*RecordError](t, r.close()); !e.Ended || !errors.Is(e, os.ErrClosed) {
		t.Errorf("close = %v", e)
	}
	if err := r.close(); err != nil {
		t.Errorf("close again = %v", err)
	}
}

func FuzzRecord(f *testing.F) {
	head := `{"version":1,"bundle":"` + digest.FromString("bundle").String() + `","target":"r.test"}` + "\n"
	f.Add([]byte(head + `{"kind":"blob","repository":"a/b","digest":"` + digest.FromString("x").String() + `"}` + "\n"))
	f.Add([]byte(head + `{"kind":"tag","repository":"a","tag":"x"}` + "\n"))
	f.Add([]byte(head))
	f.Fuzz(func(t *testing.T, raw []byte) {
		name := filepath.Join(t.TempDir(), "r")
		if err := os.WriteFile(name, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		r := &record{file: file, known: map[fact]bool{}}
		end, err := r.load(recordHead{Version: 1, Bundle: digest.FromString("bundle").String(), Target: "r.test"})
		if err != nil || end > int64(len(raw)) || end > 0 && raw[end-1] != '\n' {
			t.Errorf("load = %d, %v", end, err)
		}
		for k := range r.known {
			if !k.sound() {
				t.Errorf("fact %+v", k)
			}
		}
	})
}

// A link in the record's place is refused, and what it points to is left alone.
func TestRecordIsNoLink(t *testing.T) {
	dir := t.TempDir()
	d := digest.FromString("bundle")
	r, err := openRecord(dir, d, "r.test/a")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	name := recordFile(t, dir)
	inside, outside := filepath.Join(dir, "notes"), filepath.Join(t.TempDir(), "notes")
	for _, file := range []string{inside, outside} {
		if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		to := file
		if file == inside {
			to = "notes"
		}
		if err := os.Symlink(to, name); err != nil {
			t.Fatal(err)
		}
		_, err := openRecord(dir, d, "r.test/a")
		if e := as[*RecordError](t, err); e.Record != name || !errors.Is(err, errNotRegular) {
			t.Errorf("error %v", err)
		}
		if raw, err := os.ReadFile(file); err != nil || string(raw) != "mine" {
			t.Errorf("%s holds %q, %v", file, raw, err)
		}
	}
}
