package install

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/airlock-project/airlock/bundle/flock"
)

// State is where an item stands.
type State string

// States of an item.
const (
	StatePending     State = "pending" // never run
	StateRunning     State = "running"
	StatePass        State = "pass"
	StateWarn        State = "warn" // passed, with something to know
	StateFail        State = "fail"
	StateAttested    State = "attested"
	StateWaived      State = "waived"
	StateSkipped     State = "skipped"     // its condition is false
	StateBlocked     State = "blocked"     // something it needs has not passed
	StateStale       State = "stale"       // it passed, and what it rests on has changed since
	StateWaiting     State = "waiting"     // a person has to state it, or a GitOps controller to apply it
	StateUnavailable State = "unavailable" // this version of Airlock has no such step
	StatePlanned     State = "planned"     // dry run: what would be done is listed
)

// settled reports whether the item was done and what it did counts.
func (s State) settled() bool {
	return s == StatePass || s == StateWarn || s == StateAttested || s == StateWaived
}

// met reports whether items that need this one may run.
func (s State) met() bool { return s.settled() || s == StateSkipped }

// Files of the state directory.
const (
	fileRun         = "run.json"
	fileLedger      = "ledger.jsonl"
	fileCheckpoints = "checkpoints.jsonl"
	fileLock        = "lock"
	fileReport      = "report.json"
	fileKey         = "hmac.key"
	dirArtifacts    = "artifacts"
	dirSecrets      = "secrets" // what steps made and must not be shown; never read back by the engine
)

// Limits on what is read back from a state directory.
const (
	maxRun      = 64 << 20
	maxArtifact = 64 << 20
	// inlineOutput is the largest output kept in run.json; a larger one, such
	// as a relocation map, lies in artifacts/.
	inlineOutput = 4 << 10
)

// snapshot is run.json.
type snapshot struct {
	APIVersion string                 `json:"apiVersion"`
	Kind       string                 `json:"kind"`
	RunID      string                 `json:"run_id"`
	Product    string                 `json:"product"`
	Site       string                 `json:"site"`
	Platform   string                 `json:"platform"`
	Airgap     string                 `json:"airgap_mode"`
	Bundle     string                 `json:"bundle"`                // digest
	BundleFile string                 `json:"bundle_file,omitempty"` // where the last run had it from
	Release    int64                  `json:"release"`               // the highest that ran here
	Checklist  string                 `json:"checklist"`             // digest
	Tool       string                 `json:"tool,omitempty"`
	StartedAt  time.Time              `json:"started_at"`
	Ledger     Head                   `json:"ledger"`
	Items      map[string]*itemRecord `json:"items"`
}

// itemRecord is what is known of an item.
type itemRecord struct {
	State      State                   `json:"status"`
	Reason     string                  `json:"reason,omitempty"`
	InputHash  string                  `json:"input_hash,omitempty"`
	Attempt    int                     `json:"attempt,omitempty"`
	StartedAt  time.Time               `json:"started_at,omitzero"`
	FinishedAt time.Time               `json:"finished_at,omitzero"`
	Seq        int64                   `json:"ledger_seq,omitempty"` // of its finished entry
	Steps      []stepRecord            `json:"steps,omitempty"`
	Findings   []findingRecord         `json:"findings,omitempty"`
	Outputs    map[string]outputRecord `json:"outputs,omitempty"`
	Evidence   []evidenceRecord        `json:"evidence,omitempty"`
	Actor      Actor                   `json:"actor"`
}

type stepRecord struct {
	ID      string `json:"id"`
	Run     string `json:"run"`
	State   State  `json:"status"`
	Changed bool   `json:"changed,omitempty"`
}

type findingRecord struct {
	Step     string            `json:"step"`
	Code     string            `json:"code,omitempty"`
	Severity Severity          `json:"severity"`
	Fields   map[string]string `json:"fields,omitempty"`
	Detail   string            `json:"detail,omitempty"`
}

// says reports whether another finding tells the same, of whatever step.
func (f findingRecord) says(g findingRecord) bool {
	return f.Code == g.Code && f.Severity == g.Severity && f.Detail == g.Detail && maps.Equal(f.Fields, g.Fields)
}

// outputRecord holds an output: Value as JSON, or Ref as the digest of the
// artifact that does, or for a secret nothing but its HMAC.
type outputRecord struct {
	Value json.RawMessage `json:"value,omitempty"`
	Ref   string          `json:"ref,omitempty"`
	HMAC  string          `json:"secret_hmac,omitempty"`
}

type evidenceRecord struct {
	Name   string `json:"name"`
	Media  string `json:"media,omitempty"`
	SHA256 string `json:"sha256"`
	Bytes  int    `json:"bytes"`
}

// store is an open state directory. One process holds it at a time.
type store struct {
	dir    string
	root   *os.Root
	lock   *os.File
	key    []byte
	ledger *ledger
	run    *snapshot
	memory *memory
	traced *trace // of the ledger as it was opened
	cut    []byte // a torn line found at open, no longer in the file

	notes []string // what to say of the record as a whole

	onWrite func() error // for tests, see Options
}

// writes tells a test that a write begins or has ended.
func (s *store) writes() error {
	if s.onWrite == nil {
		return nil
	}
	return s.onWrite()
}

// openStore opens or creates a state directory, takes its lock and checks that
// its ledger is whole.
func openStore(dir string, actor Actor, now func() time.Time) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create state directory: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open state directory: %w", err)
	}
	s := &store{dir: dir, root: root}
	if err := s.open(actor, now); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *store) open(actor Actor, now func() time.Time) error {
	fi, err := s.root.Stat(".")
	if err != nil {
		return fmt.Errorf("open state directory: %w", err)
	}
	if fi.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("state directory %s is open to other users (mode %04o); chmod 700 it", s.dir, fi.Mode().Perm())
	}
	if err := s.takeLock(); err != nil {
		return err
	}
	if err := s.root.Mkdir(dirArtifacts, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create state directory: %w", err)
	}
	if err := s.loadKey(); err != nil {
		return err
	}
	if s.run, err = readSnapshot(s.root); err != nil {
		return err
	}
	return s.openLedger(actor, now)
}

// takeLock locks the directory and leaves this process's id and host for
// whoever finds it locked.
func (s *store) takeLock() error {
	f, err := s.root.OpenFile(fileLock, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("lock state directory: %w", err)
	}
	if err := flock.TryLock(f); err != nil {
		defer f.Close()
		if !errors.Is(err, flock.ErrHeld) {
			return err
		}
		held := &LockedError{Dir: s.dir}
		// A lock just taken has no text yet: then the holder stays unnamed.
		if raw, err := io.ReadAll(io.LimitReader(f, 512)); err == nil {
			pid, host, _ := strings.Cut(strings.TrimSpace(string(raw)), " ")
			if n, err := strconv.Atoi(pid); err == nil {
				held.PID, held.Host = n, host
			}
		}
		return held
	}
	s.lock = f
	text := fmt.Sprintf("%d %s\n", os.Getpid(), hostname())
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("lock state directory: %w", err)
	}
	if _, err := f.WriteAt([]byte(text), 0); err != nil {
		return fmt.Errorf("lock state directory: %w", err)
	}
	return nil
}

func hostname() string {
	h, err := os.Hostname()
	if err != nil {
		return "unknown-host"
	}
	return h
}

func newKey() []byte {
	key := make([]byte, 32)
	rand.Read(key)
	return key
}

// loadKey reads the key that hides secrets in hashes, or makes it.
func (s *store) loadKey() error {
	raw, err := s.root.ReadFile(fileKey)
	if errors.Is(err, fs.ErrNotExist) {
		s.key = newKey()
		return s.writeFile(fileKey, s.key)
	}
	if err != nil {
		return fmt.Errorf("read state: %w", err)
	}
	if len(raw) != 32 {
		return fmt.Errorf("read state: %s has %d bytes, want 32", fileKey, len(raw))
	}
	s.key = raw
	return nil
}

// readSnapshot returns run.json, nil if there is none.
func readSnapshot(root *os.Root) (*snapshot, error) {
	raw, err := readFrom(root, fileRun, maxRun)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	run := new(snapshot)
	if err := d.Decode(run); err != nil {
		return nil, fmt.Errorf("read state: decode %s: %w", fileRun, err)
	}
	if run.Items == nil {
		run.Items = make(map[string]*itemRecord)
	}
	for id, rec := range run.Items {
		if rec == nil {
			return nil, fmt.Errorf("read state: item %q of %s is empty", id, fileRun)
		}
	}
	return run, nil
}

func readFrom(root *os.Root, name string, limit int64) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return raw, nil
}

// openLedger verifies the ledger, cuts a torn last line off and compares what
// is left with run.json's head.
func (s *store) openLedger(actor Actor, now func() time.Time) error {
	f, err := s.root.OpenFile(fileLedger, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open ledger: %w", err)
	}
	s.ledger, s.memory, s.traced = &ledger{f: f, now: now, actor: actor}, newMemory(), newTrace()
	tail, at, err := tornTail(f)
	if err != nil {
		return err
	}
	want := Head{Hash: zeros}
	if s.run != nil {
		want = s.run.Ledger
	}
	reached := want.Seq == 0
	head, err := scanLedger(io.NewSectionReader(f, 0, at), func(e Entry) error {
		if e.Seq == want.Seq {
			reached = true
			if e.Hash != want.Hash {
				return &LedgerError{Line: int(e.Seq), Text: "it is not the entry that " + fileRun + " names: the ledger was rewritten"}
			}
		}
		s.ledger.last = e.time()
		return s.remember(e)
	})
	if err != nil {
		return err
	}
	if !reached {
		return &LedgerError{Text: fmt.Sprintf("it ends at entry %d, %s knows entry %d: the end was cut off", head.Seq, fileRun, want.Seq)}
	}
	if s.run == nil && head.Seq > 0 { // run.json is written before the first entry
		return &LedgerError{Text: fmt.Sprintf("it has %d entries, but %s is gone", head.Seq, fileRun)}
	}
	s.ledger.head = head
	if len(tail) > 0 {
		if err := f.Truncate(at); err != nil {
			return fmt.Errorf("repair ledger: %w", err)
		}
		s.cut = tail
	}
	return nil
}

// close releases the lock and the files.
func (s *store) close() error {
	var errs []error
	if s.ledger != nil {
		errs = append(errs, s.ledger.f.Close())
	}
	if s.lock != nil {
		errs = append(errs, flock.Close(s.lock))
	}
	return errors.Join(append(errs, s.root.Close())...)
}

// save makes run.json say what s.run says.
func (s *store) save() error {
	s.run.Ledger = s.ledger.head
	raw, err := json.MarshalIndent(s.run, "", "  ")
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	return s.writeFile(fileRun, append(raw, '\n'))
}

// writeFile gives name the content data, whole or not at all, also across a
// power cut.
func (s *store) writeFile(name string, data []byte) (err error) {
	if err := s.writes(); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	defer func() { err = errors.Join(err, s.writes()) }()
	tmp := name + ".partial"
	f, err := s.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil { // what is half there would keep a full disk full
		return fmt.Errorf("write state: %w", errors.Join(err, s.root.Remove(tmp)))
	}
	if err := s.root.Rename(tmp, name); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	parent := "."
	if dir, _, ok := strings.Cut(name, "/"); ok {
		parent = dir
	}
	return s.syncDir(parent)
}

// syncDir makes a rename durable.
func (s *store) syncDir(name string) error {
	d, err := s.root.Open(name)
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync state directory: %w", err)
	}
	return nil
}

// mendReport puts the last report in its place where a process died between the
// entry that names it and the file. An older record has no copy of it.
func (s *store) mendReport() error {
	if s.traced == nil || s.traced.ended == nil {
		return nil
	}
	if raw, err := readFrom(s.root, fileReport, maxReport); err == nil && sumOf(raw) == s.traced.ended.Report {
		return nil
	}
	raw, err := s.artifact(s.traced.ended.Report)
	if err != nil {
		return nil //nolint:nilerr // whoever verifies the record says it
	}
	return s.writeFile(fileReport, raw)
}

// keep stores data under its digest and returns the digest.
func (s *store) keep(data []byte) (string, error) {
	sum := sumOf(data)
	name := dirArtifacts + "/" + sum
	if fi, err := s.root.Stat(name); err == nil && fi.Size() == int64(len(data)) {
		return sum, nil
	}
	return sum, s.writeFile(name, data)
}

// artifact reads kept data back and checks it.
func (s *store) artifact(sum string) ([]byte, error) { return readArtifact(s.root, sum) }

func readArtifact(root *os.Root, sum string) ([]byte, error) {
	if b, err := hex.DecodeString(sum); err != nil || len(b) != sha256.Size {
		return nil, fmt.Errorf("artifact %q: not a digest", sum)
	}
	data, err := readFrom(root, dirArtifacts+"/"+sum, maxArtifact)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &ArtifactError{SHA256: sum, Gone: true}
	case err != nil:
		return nil, fmt.Errorf("read artifact: %w", err)
	case sumOf(data) != sum:
		return nil, &ArtifactError{SHA256: sum}
	}
	return data, nil
}

// clockSlack is how far a clock may go back without being told of: time
// synchronisation moves it by less.
const clockSlack = time.Second

// record appends an entry whose data is v, and one more where the entry shows
// that the clock went back.
func (s *store) record(item, event string, v any) error {
	raw, err := canonical(v)
	if err != nil {
		return err
	}
	sum, inline := sumOf(raw), raw
	if len(raw) > maxInline {
		if _, err := s.keep(raw); err != nil {
			return err
		}
		inline = nil
	}
	before := s.ledger.last
	if err := s.writes(); err != nil {
		return fmt.Errorf("append to ledger: %w", err)
	}
	if err := s.ledger.append(item, event, sum, inline); err != nil {
		return err
	}
	if err := s.writes(); err != nil {
		return fmt.Errorf("append to ledger: %w", err)
	}
	if err := s.memory.add(s.ledger.head, s.ledger.last, item, event, raw); err != nil {
		return err
	}
	if now := s.ledger.last; before.Sub(now) > clockSlack {
		s.notes = append(s.notes, fmt.Sprintf("the clock went back from %s to %s: times of the record are not in order, entries of the ledger are by their number",
			before.Format(time.RFC3339), now.Format(time.RFC3339)))
		return s.record("", eventClockBack, map[string]any{"last": before.Format(time.RFC3339), "now": now.Format(time.RFC3339)})
	}
	return nil
}

// remember takes an entry that was read into memory. What run.json does not know
// yet, because the process died before it was written, is put into it: an item
// that the ledger calls finished is finished.
func (s *store) remember(e Entry) error {
	if len(e.Data) == 0 {
		var err error
		if e.Data, err = s.artifact(e.DataSHA256); err != nil {
			return &LedgerError{Line: int(e.Seq), Text: err.Error()}
		}
	}
	if s.run != nil && e.Seq > s.run.Ledger.Seq && e.Item != "" {
		if err := s.replay(e); err != nil {
			return &LedgerError{Line: int(e.Seq), Text: "decode data: " + err.Error()}
		}
	}
	if err := s.traced.add(e); err != nil {
		return err
	}
	return s.memory.add(Head{Seq: e.Seq, Hash: e.Hash}, e.time(), e.Item, e.Event, e.Data)
}

// replay does to run.json what the process did after it wrote e, had it lived.
func (s *store) replay(e Entry) error {
	rec, err := e.applied(s.run.Items[e.Item])
	if err != nil || rec == nil {
		return err
	}
	s.run.Items[e.Item] = rec
	return nil
}

// seal returns the HMAC of a secret under this state's own key, so that equal
// secrets of two sites do not show as equal.
func (s *store) seal(value []byte) string {
	m := hmac.New(sha256.New, s.key)
	m.Write(value)
	return hex.EncodeToString(m.Sum(nil))
}

// Floor returns the highest release that a state directory has seen: going
// below it is a rollback. It is 0 where nothing was installed yet.
func Floor(dir string) (int64, error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("open state directory: %w", err)
	}
	defer root.Close()
	run, err := readSnapshot(root)
	if err != nil || run == nil {
		return 0, err
	}
	return run.Release, nil
}
