package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// maxCheckpoints bounds checkpoints.jsonl: one line of 400 bytes a run.
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
	Checkpoints int  // how many there are, all good
	Signed      bool // signatures were checked
	Covered     bool // the last checkpoint covers the last entry
}

// VerifyState checks a state directory that is not in use: the ledger's chain,
// that it reaches what run.json knows, the data of every entry by digest, and
// every checkpoint against the entry it names. check verifies a checkpoint's
// signature; nil leaves signatures unchecked. What does not fit gives a
// *LedgerError.
func VerifyState(dir string, check func(keyID string, payload, sig []byte) error) (*Verification, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open state directory: %w", err)
	}
	defer root.Close()
	points, err := readCheckpoints(root)
	if err != nil {
		return nil, err
	}
	run, err := readSnapshot(root)
	if err != nil {
		return nil, err
	}
	known := make(map[int64][]string) // what other files say of an entry's hash
	if run != nil {
		known[run.Ledger.Seq] = append(known[run.Ledger.Seq], run.Ledger.Hash)
	}
	for _, c := range points {
		known[c.Seq] = append(known[c.Seq], c.Head)
	}
	delete(known, 0)
	head, err := verifyEntries(root, known)
	if err != nil {
		return nil, err
	}
	v := &Verification{Head: head, Checkpoints: len(points), Signed: check != nil && len(points) > 0}
	v.Covered = len(points) > 0 && points[len(points)-1].Seq == head.Seq
	return v, checkSignatures(points, check)
}

// verifyEntries checks the chain, the data behind it, and the hashes that are
// known from elsewhere.
func verifyEntries(root *os.Root, known map[int64][]string) (Head, error) {
	f, err := root.Open(fileLedger)
	if err != nil {
		return Head{}, fmt.Errorf("open ledger: %w", err)
	}
	defer f.Close()
	head, err := scanLedger(f, func(e Entry) error {
		for _, hash := range known[e.Seq] {
			if hash != e.Hash {
				return &LedgerError{Line: int(e.Seq), Text: "a checkpoint or " + fileRun + " names another entry: the ledger was rewritten"}
			}
		}
		delete(known, e.Seq)
		if len(e.Data) > 0 {
			return nil // checked with the line
		}
		if _, err := readArtifact(root, e.DataSHA256); err != nil {
			return &LedgerError{Line: int(e.Seq), Text: err.Error()}
		}
		return nil
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

func checkSignatures(points []Checkpoint, check func(keyID string, payload, sig []byte) error) error {
	if check == nil {
		return nil
	}
	for i, c := range points {
		payload, err := c.Payload()
		if err != nil {
			return err
		}
		if err := check(c.KeyID, payload, c.Sig); err != nil {
			return &LedgerError{Text: fmt.Sprintf("checkpoint %d at entry %d: %s", i+1, c.Seq, err)}
		}
	}
	return nil
}
