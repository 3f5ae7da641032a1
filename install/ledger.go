package install

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// Events of the ledger.
const (
	eventRunStarted  = "run-started"     // the trust decision, bundle, checklist and site
	eventRunFinished = "run-finished"    // the outcome
	eventStarted     = "started"         // an item begins; its input hash
	eventStep        = "step"            // a step or probe has run
	eventKeeps       = "keeps"           // a step is about to put objects into a cluster; the data is their list
	eventFinished    = "finished"        // an item ends; state, findings, outputs
	eventInterrupted = "interrupted"     // an item was found running: the process had died
	eventStale       = "stale"           // a result no longer holds, and why
	eventRepaired    = "repaired"        // a torn last line was cut off
	eventClockBack   = "clock-went-back" // the wall clock is behind the last entry
	eventAttested    = "attested"        // a person signed a statement; the data is it
	eventWaived      = "waived"          // a person signed a waiver; the data is it
	eventUnsigned    = "unsigned"        // the last run ended, and died before it signed that
	eventLease       = "lease"           // the lock against other machines was taken over, or could not be taken
)

const (
	// maxLine bounds one line of the ledger; a real one has about a kilobyte.
	maxLine = 256 << 10
	// maxInline is the largest data written into a line; larger data lies in
	// artifacts/.
	maxInline = maxLine / 4
)

// zeros stands for the entry before the first.
var zeros = strings.Repeat("0", 64)

// Entry is one line of ledger.jsonl. Hash is the SHA-256 of the canonical JSON
// (RFC 8785) of the entry without hash and data; Prev is the hash of the line
// before, 64 zeros on the first. Data says what happened; DataSHA256 is the
// digest of its canonical JSON. Large data is not in the line but in artifacts/
// under that digest.
type Entry struct {
	Seq        int64           `json:"seq"` // from 1, without gaps
	Prev       string          `json:"prev"`
	At         string          `json:"at"` // RFC 3339, UTC; advisory, Seq is the order
	RunID      string          `json:"run_id"`
	Item       string          `json:"item,omitempty"`
	Event      string          `json:"event"`
	Actor      Actor           `json:"actor"`
	DataSHA256 string          `json:"data_sha256"`
	Hash       string          `json:"hash,omitempty"`
	Data       json.RawMessage `json:"data,omitempty"`
}

// Actor is who did something, where.
type Actor struct {
	Name string `json:"name"`
	UID  int    `json:"uid"`
	Host string `json:"host"`
}

// Head is the end of a ledger. Known from elsewhere (a checkpoint, a printed
// report), it shows a cut.
type Head struct {
	Seq  int64  `json:"seq"`
	Hash string `json:"hash"`
}

// time is when e was written, the zero time where it does not say.
func (e Entry) time() time.Time {
	at, err := time.Parse(time.RFC3339Nano, e.At)
	if err != nil {
		return time.Time{}
	}
	return at
}

// sum returns the hash of e.
func (e Entry) sum() (string, error) {
	e.Hash, e.Data = "", nil
	raw, err := canonical(e)
	if err != nil {
		return "", err
	}
	return sumOf(raw), nil
}

// line returns e as it stands in the file, with the line end. Data keeps its
// bytes: they are canonical, and escaping for HTML would change them.
func (e Entry) line() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, fmt.Errorf("encode ledger entry: %w", err)
	}
	return b.Bytes(), nil
}

// VerifyLedger reads a ledger to its end, recomputes every hash and returns its
// head. An entry that was edited, removed, added or moved gives a *LedgerError
// with its line; so does a torn last line. Whether entries were cut off at the
// end only a known head can tell: compare, or use [VerifyState].
func VerifyLedger(r io.Reader) (Head, error) {
	return scanLedger(r, func(Entry) error { return nil })
}

// scanLedger verifies a ledger and gives each good entry to visit.
func scanLedger(r io.Reader, visit func(Entry) error) (Head, error) {
	head := Head{Hash: zeros}
	br := bufio.NewReaderSize(r, maxLine)
	for n := 1; ; n++ {
		line, err := br.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return head, &LedgerError{Line: n, Text: fmt.Sprintf("longer than %d bytes", maxLine)}
		case errors.Is(err, io.EOF) && len(line) == 0:
			return head, nil
		case errors.Is(err, io.EOF):
			return head, &LedgerError{Line: n, Text: "the line is torn: it does not end", Torn: true}
		case err != nil:
			return head, fmt.Errorf("read ledger: %w", err)
		}
		e, err := checkLine(line, head)
		if err != nil {
			return head, &LedgerError{Line: n, Text: err.Error()}
		}
		if err := visit(e); err != nil {
			return head, err
		}
		head = Head{Seq: e.Seq, Hash: e.Hash}
	}
}

// checkLine decodes the line that follows head and checks it against it.
func checkLine(line []byte, head Head) (Entry, error) {
	var e Entry
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return e, fmt.Errorf("not an entry: %w", err)
	}
	// The decoder is lenient (case, duplicates, trailing data); only the bytes
	// that append writes are an entry.
	written, err := e.line()
	if err != nil {
		return e, err
	}
	if !bytes.Equal(written, line) {
		return e, errors.New("not written by Airlock: the bytes differ from the entry's encoding")
	}
	sum, err := e.sum()
	switch {
	case err != nil:
		return e, err
	case e.Seq != head.Seq+1:
		return e, fmt.Errorf("sequence number %d follows %d: an entry was removed, added or moved", e.Seq, head.Seq)
	case e.Prev != head.Hash:
		return e, errors.New("it does not continue the line before: one of the two was changed")
	case e.Hash != sum:
		return e, errors.New("its hash does not fit: the entry was changed")
	case len(e.Data) > 0 && sumOf(e.Data) != e.DataSHA256:
		return e, errors.New("its data does not fit its digest: the data was changed")
	}
	return e, nil
}

// ledger appends to ledger.jsonl.
type ledger struct {
	f     *os.File
	head  Head
	last  time.Time // of the last entry
	runID string
	actor Actor
	now   func() time.Time

	broken error // why nothing more can be written
}

// append writes one entry and makes it durable. data is nil where it lies in
// artifacts/.
func (l *ledger) append(item, event, dataSHA256 string, data []byte) error {
	at := l.now().UTC()
	e := Entry{
		Seq: l.head.Seq + 1, Prev: l.head.Hash, At: at.Format(time.RFC3339Nano),
		RunID: l.runID, Item: item, Event: event, Actor: l.actor, DataSHA256: dataSHA256, Data: data,
	}
	sum, err := e.sum()
	if err != nil {
		return err
	}
	e.Hash = sum
	line, err := e.line()
	if err != nil {
		return err
	}
	// Half a line in front of the next one would look like a forgery: after a
	// write that failed nothing more is written. The next start cuts it off.
	if l.broken != nil {
		return fmt.Errorf("append to ledger: %w", l.broken)
	}
	if _, l.broken = l.f.Write(line); l.broken != nil {
		return fmt.Errorf("append to ledger: %w", l.broken)
	}
	if l.broken = l.f.Sync(); l.broken != nil {
		return fmt.Errorf("sync ledger: %w", l.broken)
	}
	l.head, l.last = Head{Seq: e.Seq, Hash: e.Hash}, at
	return nil
}

// tornTail returns the bytes after the last line end of f, and where they
// start. A kill in the middle of an append leaves them.
func tornTail(f *os.File) (tail []byte, at int64, err error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, 0, fmt.Errorf("read ledger: %w", err)
	}
	size := min(fi.Size(), maxLine)
	buf := make([]byte, size)
	if _, err := f.ReadAt(buf, fi.Size()-size); err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, fmt.Errorf("read ledger: %w", err)
	}
	tail = buf[bytes.LastIndexByte(buf, '\n')+1:]
	if len(tail) == maxLine {
		return nil, 0, &LedgerError{Text: fmt.Sprintf("its last line is longer than %d bytes", maxLine)}
	}
	return tail, fi.Size() - int64(len(tail)), nil
}
