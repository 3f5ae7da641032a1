package archive

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"sync"
	"time"

	"github.com/airlock-project/airlock/bundle/flock"
	"github.com/opencontainers/go-digest"
)

// BusyError says that another process writes the same bundle.
type BusyError struct{ Path string }

func (e *BusyError) Error() string {
	return fmt.Sprintf("write %s: another process is writing it", e.Path)
}

// journalRecord is one line of the journal. The first holds Record, the others
// one blob each: Blob for META and PLACED, Packed with its frames for PACKED.
type journalRecord struct {
	Record string   `json:"record,omitempty"`
	Blob   string   `json:"blob,omitempty"`
	Packed string   `json:"packed,omitempty"`
	Offset int64    `json:"offset,omitempty"`
	Frames []uint32 `json:"frames,omitempty"`
}

// journal remembers which blobs lie durably in the partial file. Data is synced
// before its line is written, in batches, because a sync of the data file waits
// for everything written so far.
type journal struct {
	f       *os.File
	mu      sync.Mutex
	pending []journalRecord
	bytes   int64
	done    map[string]bool // blobs recorded, pending or not
	last    time.Time
	syncing sync.Mutex
}

// Syncs happen when this much is pending, or this long after the last.
const (
	journalBytes = 256 << 20
	journalEvery = 2 * time.Second
)

// openJournal opens and locks the journal. Where its first record is not the
// given one it belongs to another plan, and starts over empty.
func openJournal(path, record string) (*journal, []journalRecord, error) {
	f, err := lockFile(path)
	if err != nil {
		return nil, nil, err
	}
	records, end := readJournal(f)
	if len(records) == 0 || records[0].Record != record {
		records, end = nil, 0
	}
	j := &journal{f: f, last: time.Now(), done: map[string]bool{}}
	if err := j.startAt(end, record); err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return j, records, nil
}

// lockFile opens path and locks it for this process. Whoever held the lock
// before may have removed the file just then, so what is locked must still be
// what has the name.
func lockFile(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, err
		}
		if err := flock.TryLock(f); errors.Is(err, flock.ErrHeld) {
			return nil, errors.Join(&BusyError{Path: path}, f.Close())
		} else if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		same, err := stillNamed(f, path)
		if err == nil && same {
			return f, nil
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
}

func stillNamed(f *os.File, path string) (bool, error) {
	held, err := f.Stat()
	if err != nil {
		return false, err
	}
	named, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(held, named), err
}

// readJournal returns the whole lines and where they end: a line torn by a
// crash is dropped.
func readJournal(f *os.File) (records []journalRecord, end int64) {
	r := bufio.NewReader(f)
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return records, end
		}
		var rec journalRecord
		if json.Unmarshal(line, &rec) != nil {
			return records, end
		}
		records = append(records, rec)
		end += int64(len(line))
	}
}

func (j *journal) startAt(end int64, record string) error {
	if err := j.f.Truncate(end); err != nil {
		return err
	}
	if _, err := j.f.Seek(end, io.SeekStart); err != nil {
		return err
	}
	if end > 0 {
		return nil
	}
	return j.write([]journalRecord{{Record: record}})
}

func (j *journal) write(records []journalRecord) error {
	var out []byte
	for _, r := range records {
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		out = append(append(out, line...), '\n')
	}
	if _, err := j.f.Write(out); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return j.f.Sync()
}

// record notes that a blob was written to data; the line follows the next sync.
func (j *journal) record(data *os.File, r journalRecord, size int64) error {
	j.mu.Lock()
	j.pending = append(j.pending, r)
	j.bytes += size
	j.done[r.Blob+r.Packed] = true
	due := j.bytes >= journalBytes || time.Since(j.last) >= journalEvery
	j.mu.Unlock()
	if !due || !j.syncing.TryLock() {
		return nil
	}
	defer j.syncing.Unlock()
	return j.flushLocked(data)
}

// flush syncs data and writes the pending lines.
func (j *journal) flush(data *os.File) error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	return j.flushLocked(data)
}

func (j *journal) flushLocked(data *os.File) error {
	j.mu.Lock()
	pending := j.pending
	j.pending, j.bytes, j.last = nil, 0, time.Now()
	j.mu.Unlock()
	if len(pending) == 0 {
		return nil
	}
	if err := data.Sync(); err != nil {
		return fmt.Errorf("sync bundle: %w", err)
	}
	return j.write(pending)
}

// count returns how many distinct blobs are recorded.
func (j *journal) count() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.done)
}

// forget takes a blob back that is about to be written again.
func (j *journal) forget(digest string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.done, digest)
}

func (j *journal) close() error { return flock.Close(j.f) }

// resume takes over what the journal records, after reading it back: a record
// is a claim, the bytes decide.
func (w *Writer) resume(records []journalRecord) error {
	if len(records) < 2 {
		return w.f.Truncate(0)
	}
	fi, err := w.f.Stat()
	if err != nil {
		return err
	}
	dec, err := newFrameDecoder()
	if err != nil {
		return err
	}
	defer dec.Close()
	r := &Reader{f: w.f, size: fi.Size(), layout: w.layout, frames: make([]int64, w.layout.frames+1), dec: dec}
	for _, rec := range records[1:] {
		switch {
		case rec.Blob != "":
			w.resumePlaced(r, rec)
		case rec.Packed != "":
			w.resumePacked(r, rec)
		}
	}
	maps.Copy(w.journal.done, w.resumed)
	return nil
}

func (w *Writer) resumePlaced(r *Reader, rec journalRecord) {
	i, ok := w.layout.byName[digest.Digest(rec.Blob)]
	if ok && w.layout.order[i].region != regionPacked && readBack(r, w.layout.order[i].blob) == nil {
		w.resumed[rec.Blob] = true
	}
}

// resumePacked takes over a packed blob only in order: a gap ends it.
func (w *Writer) resumePacked(r *Reader, rec journalRecord) {
	b, ok := w.NextPacked()
	if !ok || b.Digest.String() != rec.Packed || rec.Offset != w.end || len(rec.Frames) != packedFrames(b.Size) {
		return
	}
	at := w.end
	for i, n := range rec.Frames {
		if n > packedMaxFrame {
			return
		}
		r.frames[len(w.sizes)+i] = at
		at += int64(n)
	}
	r.frames[len(w.sizes)+len(rec.Frames)] = at
	if readBack(r, b) != nil {
		return
	}
	w.sizes, w.end = append(w.sizes, rec.Frames...), at
	w.packed++
	w.resumed[rec.Packed] = true
}

func readBack(r *Reader, b Blob) error {
	rc, err := r.Open(b)
	if err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(h, rc)
	if err := errors.Join(err, rc.Close()); err != nil {
		return err
	}
	return checkDigest(b, n, h)
}
