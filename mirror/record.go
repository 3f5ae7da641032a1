package mirror

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/airlock-project/airlock/bundle/flock"
	"github.com/opencontainers/go-digest"
)

const (
	recordVersion = 1
	// maxRecord bounds a record; a bundle of 65536 manifests writes about 40 MiB.
	maxRecord = 256 << 20
	// maxRecordLine bounds a line: repository, tag and digest are each bounded.
	maxRecordLine = 4 << 10
	// A batch is on disk after so many facts or so much time: what is lost in a
	// crash costs one request per fact.
	recordBatch = 64
	recordEvery = time.Second
)

// errNotRegular is why a link or a device is no record.
var errNotRegular = errors.New("it is not a regular file")

// fact is a line of a record. Gone takes an earlier one back.
type fact struct {
	Kind       factKind      `json:"kind"`
	Repository string        `json:"repository"`
	Tag        string        `json:"tag,omitempty"`
	Digest     digest.Digest `json:"digest,omitempty"`
	How        string        `json:"how,omitempty"` // of a blob: sent, or found (there, or mounted)
	Gone       bool          `json:"gone,omitempty"`
}

type factKind string

// Facts. Blobs and manifests save requests. Repositories and tags are for
// people: both are always asked for again, because others change them.
const (
	factRepository factKind = "repository" // it was made
	factBlob       factKind = "blob"
	factManifest   factKind = "manifest" // written under its digest
	factTag        factKind = "tag"      // written, and seen afterwards
)

func (f fact) key() fact {
	f.How, f.Gone = "", false
	return f
}

// recordHead is the first line: which run the facts are about.
type recordHead struct {
	Version int    `json:"version"`
	Bundle  string `json:"bundle"`
	Target  string `json:"target"`
}

// record remembers what a registry took, one file for each bundle and target:
// JSON lines, only ever appended to. It saves requests and proves nothing. The
// nil record remembers nothing. It is safe for concurrent use.
type record struct {
	name string

	mu      sync.Mutex
	file    *os.File
	known   map[fact]bool // true: from an earlier run
	ended   error         // why nothing more is noted
	pending int
	synced  time.Time
}

// openRecord opens or starts the record of a bundle and a target in dir. A line
// that cannot be read, and all after it, is dropped: a crash may have cut it.
func openRecord(dir string, bundle digest.Digest, to string) (*record, error) {
	if dir == "" {
		return nil, nil
	}
	head := recordHead{Version: recordVersion, Bundle: bundle.String(), Target: to}
	sum := sha256.Sum256([]byte(head.Bundle + "\n" + head.Target))
	name := "mirror-" + hex.EncodeToString(sum[:8]) + ".jsonl"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open record: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open record: %w", err)
	}
	defer root.Close()
	f, err := openRegular(root, name)
	if err != nil {
		return nil, &RecordError{Record: filepath.Join(dir, name), Err: err}
	}
	r := &record{name: filepath.Join(dir, name), file: f, known: map[fact]bool{}, synced: time.Now()}
	if err := r.start(head); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return r, nil
}

// openRegular opens or makes a file that is one by its own name: a link could
// have something else cut to nothing, and opening a pipe may never end.
func openRegular(root *os.Root, name string) (*os.File, error) {
	f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if !errors.Is(err, fs.ErrExist) {
		return f, err
	}
	before, err := root.Lstat(name)
	switch {
	case err != nil:
		return nil, err
	case !before.Mode().IsRegular():
		return nil, errNotRegular
	}
	if f, err = root.OpenFile(name, os.O_RDWR, 0); err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err != nil || !os.SameFile(fi, before) {
		return nil, errors.Join(errNotRegular, err, f.Close())
	}
	return f, nil
}

// start locks the file, reads it and leaves it ready for appending.
func (r *record) start(head recordHead) error {
	if err := flock.TryLock(r.file); err != nil {
		if errors.Is(err, flock.ErrHeld) {
			return &BusyError{Record: r.name}
		}
		return fmt.Errorf("record %s: %w", r.name, err)
	}
	end, err := r.load(head)
	if err != nil {
		return fmt.Errorf("read record %s: %w", r.name, err)
	}
	if err := r.file.Truncate(end); err != nil {
		return fmt.Errorf("record %s: %w", r.name, err)
	}
	if _, err := r.file.Seek(end, io.SeekStart); err != nil {
		return fmt.Errorf("record %s: %w", r.name, err)
	}
	if end > 0 {
		return nil
	}
	if err := r.write(head); err != nil {
		return fmt.Errorf("write record %s: %w", r.name, err)
	}
	return nil
}

// load reads facts and returns where the last good line ends: 0 if the file is
// not about this run.
func (r *record) load(head recordHead) (end int64, err error) {
	in := bufio.NewReaderSize(io.LimitReader(r.file, maxRecord), maxRecordLine)
	for {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, io.EOF) || errors.Is(err, bufio.ErrBufferFull) {
			return end, nil
		}
		if err != nil {
			return 0, err
		}
		if end == 0 {
			if !head.is(line) {
				return 0, nil
			}
		} else if !r.learn(line) {
			return end, nil
		}
		end += int64(len(line))
	}
}

// is reports whether a line is this head.
func (h recordHead) is(line []byte) bool {
	var got recordHead
	return json.Unmarshal(line, &got) == nil && got == h
}

// learn takes in a line, unless it is no fact.
func (r *record) learn(line []byte) bool {
	var f fact
	if json.Unmarshal(line, &f) != nil || !f.sound() {
		return false
	}
	if f.Gone {
		delete(r.known, f.key())
	} else {
		r.known[f.key()] = true
	}
	return true
}

// sound checks a fact that was read.
func (f fact) sound() bool {
	if !repositoryName.MatchString(f.Repository) && f.Kind != factRepository {
		return false
	}
	switch f.Kind {
	case factRepository:
		return f.Repository != ""
	case factBlob, factManifest:
		return f.Tag == "" && f.Digest.Validate() == nil
	case factTag:
		return tagName.MatchString(f.Tag) && f.Digest.Validate() == nil
	}
	return false
}

func (r *record) write(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = r.file.Write(append(line, '\n'))
	return err
}

// add notes a fact. Disk trouble ends the record and not the run: all it costs
// is requests of a later run. Close reports it.
func (r *record) add(f fact) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.known[f.key()]; ok {
		r.known[f.key()] = false // seen in this run, so no longer hearsay
		return
	}
	r.known[f.key()] = false
	r.append(f)
}

// forget takes back a fact that turned out to be wrong.
func (r *record) forget(f fact) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, f.key())
	f.Gone = true
	r.append(f)
}

func (r *record) append(f fact) {
	if r.file == nil {
		return
	}
	err := r.write(f)
	if r.pending++; err == nil && (r.pending >= recordBatch || time.Since(r.synced) >= recordEvery) {
		err = r.file.Sync()
		r.pending, r.synced = 0, time.Now()
	}
	if err != nil {
		_ = r.file.Close() // the record has ended already
		r.file, r.ended = nil, err
	}
}

// recalled reports whether an earlier run noted the fact and this one has not
// seen it for itself.
func (r *record) recalled(f fact) bool {
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known[f.key()]
}

// close writes what is pending and lets go of the lock. It reports what ended
// the record early as a *RecordError.
func (r *record) close() error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.ended
	if r.file != nil {
		err = errors.Join(r.file.Sync(), flock.Close(r.file))
	}
	r.file, r.ended = nil, nil
	if err != nil {
		return &RecordError{Record: r.name, Ended: true, Err: err}
	}
	return nil
}
