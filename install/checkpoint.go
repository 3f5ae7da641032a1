package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"
)

// maxCheckpoints bounds checkpoints.jsonl: one line of 400 bytes a run and for
// each action that it has done.
const maxCheckpoints = 16 << 20

// Checkpoint fixes the head of a ledger. Outside the machine (printed, in a
// report) it shows that entries were cut off. Sig covers the canonical JSON
// (RFC 8785) of the other fields.
type Checkpoint struct {
	Seq   int64  `json:"seq"`
	Head  string `json:"head"`
	Count int64  `json:"count"`
	At    string `json:"at"` // RFC 3339, UTC
	KeyID string `json:"key_id"`
	Sig   []byte `json:"sig,omitempty"`
}

// Payload returns the bytes that Sig covers.
func (c Checkpoint) Payload() ([]byte, error) {
	c.Sig = nil
	return canonical(c)
}

// checkpoint signs the head of the ledger and keeps the signature. Without a
// signer the checkpoint is returned unsigned and not kept.
func (s *store) checkpoint(o Options, at time.Time) (*Checkpoint, error) {
	head := s.ledger.head
	c := &Checkpoint{Seq: head.Seq, Head: head.Hash, Count: head.Seq, At: at.UTC().Format(time.RFC3339), KeyID: o.KeyID}
	if o.Sign == nil {
		return c, nil
	}
	payload, err := c.Payload()
	if err != nil {
		return nil, err
	}
	if c.Sig, err = o.Sign(payload); err != nil {
		return nil, fmt.Errorf("sign ledger checkpoint: %w", err)
	}
	line, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode ledger checkpoint: %w", err)
	}
	before, err := readFrom(s.root, fileCheckpoints, maxCheckpoints)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read checkpoints: %w", err)
	}
	return c, s.writeFile(fileCheckpoints, append(append(before, line...), '\n'))
}

// Verification is what VerifyState found.
type Verification struct {
	Head        Head
	Checkpoints int      // how many there are
	Good        int      // those whose signatures were checked
	Unlisted    []string // the keys of the others, where signatures were checked
	Signed      bool     // signatures were checked
	Covered     bool     // a checkpoint covers the last entry, a good one where they were checked
	CoveredTo   int64    // the last entry that a good one covers
	Missing     bool     // the last run ended, and nothing signed says so
	ClockBack   int      // how often the clock went back: times are not in order there, entries are
}

// ErrUnlisted is what a check of signatures gives for a key that it does not
// know: nothing is said of the signature then.
var ErrUnlisted = errors.New("the site does not list that key")

// UnlistedError is a record that is signed by keys which the site does not list,
// so that nobody can say whether it is as it was written.
type UnlistedError struct{ Keys []string }

func (e *UnlistedError) Error() string {
	return "ledger: it is signed by " + strings.Join(e.Keys, ", ") + ", which the site does not list: nothing can be said of it"
}

// CheckBy returns a check of checkpoints by the keys of people. A person who has
// left signed what is older than that.
func CheckBy(people []Person) func(keyID string, payload, sig []byte) error {
	return func(keyID string, payload, sig []byte) error {
		for _, who := range people {
			if who.Fingerprint != keyID {
				continue
			}
			if err := who.Check(payload, sig); err != nil {
				return err
			}
			var c Checkpoint
			if err := json.Unmarshal(payload, &c); err != nil {
				return err
			}
			if at, err := time.Parse(time.RFC3339, c.At); err != nil || who.gone(at) {
				return fmt.Errorf("%s signed it at %s, and left on %s", who.Name, c.At, who.Left.Format(time.DateOnly))
			}
			return nil
		}
		return ErrUnlisted
	}
}

// VerifyState checks a state directory that is not in use: the ledger's chain,
// that it reaches what run.json knows and says the same of each item, the data of every entry by digest, the
// last report, and every checkpoint against the entry it names. check verifies a checkpoint's
// signature, and says [ErrUnlisted] of a key that it does not know; with it the last entry must be covered by a
// checkpoint that is good. Nil leaves signatures unchecked: then whoever can write the directory can also
// have written all of it anew, unless a head that was kept elsewhere, as on a
// printed report, is given with kept. What does not fit gives a *LedgerError.
func VerifyState(dir string, check func(keyID string, payload, sig []byte) error, kept ...Head) (*Verification, error) {
	v, points, _, err := examine(dir, check, kept...)
	switch {
	case err != nil:
		return nil, err
	case check == nil:
		return v, nil
	case len(points) == 0:
		return nil, &LedgerError{Text: "it has no signed checkpoint, so the key says nothing of it: the site has no identity, or " + fileCheckpoints + " was removed"}
	case v.Covered:
		return v, nil
	case len(v.Unlisted) > 0 && points[len(points)-1].Seq == v.Head.Seq:
		return nil, &UnlistedError{Keys: v.Unlisted}
	}
	return nil, &LedgerError{Text: fmt.Sprintf("the last signed checkpoint is of entry %d, the ledger has %d: what came after is not signed, as after a killed run, or checkpoints were removed", v.CoveredTo, v.Head.Seq)}
}

// VerifyListed is [VerifyState] for a site that lists keys: what they can check
// has to be good, and the end may be uncovered, as a killed run leaves it. Where
// identity says that the site has one, the ledger must have a checkpoint by a
// listed key as soon as it shows that there was one; keys that are not listed
// give an *UnlistedError then.
func VerifyListed(dir string, identity bool, check func(keyID string, payload, sig []byte) error, kept ...Head) (*Verification, error) {
	v, _, t, err := examine(dir, check, kept...)
	switch {
	case err != nil:
		return nil, err
	case !identity || v.Good > 0:
		return v, nil
	case len(v.Unlisted) > 0:
		return nil, &UnlistedError{Keys: v.Unlisted}
	case t.missing:
		return nil, &LedgerError{Text: "it has no signed checkpoint, although runs with an identity have ended: " + fileCheckpoints + " was removed"}
	}
	return v, nil
}

// examine is what VerifyState and VerifyListed have in common.
func examine(dir string, check func(keyID string, payload, sig []byte) error, kept ...Head) (*Verification, []Checkpoint, *trace, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("open state directory: %w", err)
	}
	defer root.Close()
	t, last := newTrace(), Entry{}
	v, points, err := verifyState(root, nil, func(e Entry) error {
		last = e
		if err := t.add(e); err != nil {
			return err
		}
		return checkKept(root, e)
	}, kept...)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := checkReport(root, t.ended, last); err != nil {
		return nil, nil, nil, err
	}
	s, err := checkSignatures(points, check)
	if err != nil {
		return nil, nil, nil, err
	}
	v.Missing = t.open && !v.Covered && len(points) == 0
	if check != nil {
		v.Signed, v.Good, v.Unlisted, v.CoveredTo = true, s.good, s.unlisted, s.to
		v.Covered = s.to > 0 && s.to == v.Head.Seq
	}
	return v, points, t, nil
}

// checkKept checks the artifacts that the end of an item names.
func checkKept(root *os.Root, e Entry) error {
	if e.Event != eventFinished {
		return nil
	}
	var rec itemRecord
	err := json.Unmarshal(e.Data, &rec)
	for _, ev := range rec.Evidence {
		if err == nil {
			_, err = readArtifact(root, ev.SHA256)
		}
	}
	for _, out := range rec.Outputs {
		if err == nil && out.Ref != "" {
			_, err = readArtifact(root, out.Ref)
		}
	}
	if err != nil {
		return &LedgerError{Line: int(e.Seq), Text: "item " + e.Item + ": " + err.Error()}
	}
	return nil
}

// checkReport checks report.json against the end of the last run that had one.
// A process that dies between that entry and the file leaves the one before; its
// own lies in artifacts/ already, and the next start puts it in its place.
func checkReport(root *os.Root, end *runEnd, last Entry) error {
	if end == nil {
		return nil
	}
	raw, err := readFrom(root, fileReport, maxReport)
	switch {
	case err == nil && sumOf(raw) == end.Report:
		return nil
	case last.Event == eventRunFinished && diedAt(root, last.Seq):
		if _, kept := readArtifact(root, end.Report); kept == nil {
			return nil
		}
	}
	if err == nil {
		err = errors.New("the report was changed")
	}
	return &LedgerError{Line: int(last.Seq), Text: fileReport + ": " + err.Error()}
}

// diedAt reports whether a process died after it wrote entry seq and before
// run.json said so.
func diedAt(root *os.Root, seq int64) bool {
	run, err := readSnapshot(root)
	return err == nil && run != nil && run.Ledger.Seq < seq
}

// verifyState checks everything but signatures and gives each entry to visit.
// Where torn is given, it is set to whether the last line does not end, as a
// killed run can leave it; nil makes that an error.
func verifyState(root *os.Root, torn *bool, visit func(Entry) error, kept ...Head) (*Verification, []Checkpoint, error) {
	points, err := readCheckpoints(root)
	if err != nil {
		return nil, nil, err
	}
	run, err := readSnapshot(root)
	if err != nil {
		return nil, nil, err
	}
	known := make(map[int64][]string) // what other files say of an entry's hash
	if run != nil {
		known[run.Ledger.Seq] = append(known[run.Ledger.Seq], run.Ledger.Hash)
	}
	for _, c := range points {
		known[c.Seq] = append(known[c.Seq], c.Head)
	}
	for _, h := range kept {
		known[h.Seq] = append(known[h.Seq], h.Hash)
	}
	delete(known, 0)
	t, back := newTrace(), 0
	head, err := verifyEntries(root, torn, known, func(e Entry) error {
		if e.Event == eventClockBack {
			back++
		}
		if run != nil && e.Seq <= run.Ledger.Seq { // a run that goes on may have written more since
			if err := t.add(e); err != nil {
				return err
			}
		}
		return visit(e)
	})
	if err != nil {
		return nil, nil, err
	}
	if run == nil && head.Seq > 0 { // run.json is written before the first entry
		return nil, nil, &LedgerError{Text: fmt.Sprintf("it has %d entries, but %s is gone", head.Seq, fileRun)}
	}
	if run != nil {
		if err := t.agrees(root, run); err != nil {
			return nil, nil, err
		}
	}
	v := &Verification{Head: head, Checkpoints: len(points), ClockBack: back}
	v.Covered = len(points) > 0 && points[len(points)-1].Seq == head.Seq
	return v, points, nil
}

// verifyEntries checks the chain, the data behind it, and the hashes that are
// known from elsewhere. visit gets each entry with its data.
func verifyEntries(root *os.Root, torn *bool, known map[int64][]string, visit func(Entry) error) (Head, error) {
	f, err := root.Open(fileLedger)
	if err != nil {
		return Head{}, fmt.Errorf("open ledger: %w", err)
	}
	defer f.Close()
	var r io.Reader = f
	if torn != nil {
		tail, at, err := tornTail(f)
		if err != nil {
			return Head{}, err
		}
		*torn = len(tail) > 0
		r = io.NewSectionReader(f, 0, at)
	}
	head, err := scanLedger(r, func(e Entry) error {
		for _, hash := range known[e.Seq] {
			if hash != e.Hash {
				return &LedgerError{Line: int(e.Seq), Text: "a checkpoint, " + fileRun + " or a head that was kept names another entry: the ledger was rewritten"}
			}
		}
		delete(known, e.Seq)
		if len(e.Data) == 0 { // data in the line was checked with the line
			if e.Data, err = readArtifact(root, e.DataSHA256); err != nil {
				return &LedgerError{Line: int(e.Seq), Text: err.Error()}
			}
		}
		return visit(e)
	})
	if err != nil {
		return Head{}, err
	}
	for seq := range known {
		return Head{}, &LedgerError{Text: fmt.Sprintf("it ends at entry %d, entry %d is known: the end was cut off", head.Seq, seq)}
	}
	return head, nil
}

func readCheckpoints(root *os.Root) ([]Checkpoint, error) {
	raw, err := readFrom(root, fileCheckpoints, maxCheckpoints)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read checkpoints: %w", err)
	}
	var out []Checkpoint
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	for {
		var c Checkpoint
		err := d.Decode(&c)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, &LedgerError{Text: fmt.Sprintf("checkpoint %d: %s", len(out)+1, err)}
		}
		if c.Count != c.Seq {
			return nil, &LedgerError{Text: fmt.Sprintf("checkpoint %d counts %d entries up to entry %d", len(out)+1, c.Count, c.Seq)}
		}
		out = append(out, c)
	}
}

// signatures is what a check of checkpoints found.
type signatures struct {
	good     int
	to       int64    // the last entry that a good one covers
	unlisted []string // the keys of others
}

// checkSignatures checks every checkpoint whose key is known. One that is bad
// gives a *LedgerError.
func checkSignatures(points []Checkpoint, check func(keyID string, payload, sig []byte) error) (signatures, error) {
	var s signatures
	if check == nil {
		return s, nil
	}
	for i, c := range points {
		payload, err := c.Payload()
		if err != nil {
			return s, err
		}
		switch err := check(c.KeyID, payload, c.Sig); {
		case errors.Is(err, ErrUnlisted):
			if !slices.Contains(s.unlisted, c.KeyID) {
				s.unlisted = append(s.unlisted, c.KeyID)
			}
		case err != nil:
			return s, &LedgerError{Text: fmt.Sprintf("checkpoint %d at entry %d: %s", i+1, c.Seq, err)}
		default:
			s.good++
			s.to = max(s.to, c.Seq)
		}
	}
	return s, nil
}
