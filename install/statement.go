package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/airlock-project/airlock/manifests"
)

// Kinds of statement.
const (
	KindAttestation = "Attestation" // the fact that the item asks for is so
	KindWaiver      = "Waiver"      // the item is not done, and the signer takes the risk
)

// Statement is what a person signed about an item. Sig is a Sigstore bundle
// over the canonical JSON (RFC 8785) of all other fields. A signed statement
// lies in artifacts/ under its digest and in the ledger; its evidence lies in
// artifacts/ too.
type Statement struct {
	APIVersion      string          `json:"apiVersion"`
	Kind            string          `json:"kind"`
	Product         string          `json:"product"`
	Site            string          `json:"site"`
	RunID           string          `json:"run_id"`
	Item            string          `json:"item"`
	Statement       string          `json:"statement"` // as it was shown to the signer
	StatementSHA256 string          `json:"statement_sha256"`
	InputHash       string          `json:"input_hash"` // what the item rested on then
	By              By              `json:"by"`
	At              string          `json:"at"`                    // RFC 3339, UTC
	ValidUntil      string          `json:"valid_until,omitempty"` // "" while nothing changes
	Evidence        []EvidenceProof `json:"evidence,omitempty"`
	Reason          string          `json:"reason,omitempty"` // of a waiver
	Risk            string          `json:"risk,omitempty"`   // of a waiver
	// Ledger is the head of the ledger when it was signed: a statement counts in
	// that ledger only, and for what had happened by then.
	Ledger Head   `json:"ledger"`
	Sig    []byte `json:"sig,omitempty"`
}

// By is who signed, in which role, with which key.
type By struct {
	Name           string `json:"name"`
	Role           string `json:"role"`
	KeyFingerprint string `json:"key_fingerprint"`
}

func (b By) String() string { return fmt.Sprintf("%s (%s)", b.Name, b.Role) }

// EvidenceProof is a file that goes with a statement.
type EvidenceProof struct {
	Name   string `json:"name"`
	Media  string `json:"media"`
	SHA256 string `json:"sha256"`
	Bytes  int    `json:"bytes"`
}

// Payload returns the bytes that Sig covers.
func (s Statement) Payload() ([]byte, error) {
	s.Sig = nil
	return canonical(s)
}

// Person is a key and one role that it has at the site. Check verifies a
// signature by that key; it must be safe for concurrent use.
type Person struct {
	Name        string
	Role        string
	Fingerprint string
	Check       func(payload, sig []byte) error
	// Left is when the person left, the zero time while they are there: what the
	// key signed before that stays signed, nothing after it counts.
	Left time.Time
}

// gone reports whether the person had left by then.
func (p Person) gone(at time.Time) bool { return !p.Left.IsZero() && !at.Before(p.Left) }

// Signer is a key that signs a statement. KeyID is its fingerprint.
type Signer struct {
	KeyID string
	Sign  func(payload []byte) ([]byte, error)
}

// testimony is a signed statement as it stands in a ledger.
type testimony struct {
	Statement
	seq    int64
	entry  time.Time // when the ledger got it
	digest string    // of the signed statement
}

// memory is what a ledger says of people, and of change, which statements do
// not outlast.
type memory struct {
	statements map[string][]*testimony // by item, in the ledger's order
	changed    map[string]int64        // by item: the entry of its last step that changed something
	hashes     []string                // of the entries, from the first
	started    json.RawMessage         // the data of the last run-started
}

func newMemory() *memory {
	return &memory{statements: make(map[string][]*testimony), changed: make(map[string]int64)}
}

// add takes an entry in. data is that of the entry, wherever it lies; at is when
// it was written.
func (m *memory) add(head Head, at time.Time, item, event string, data []byte) error {
	m.hashes = append(m.hashes, head.Hash)
	switch event {
	case eventRunStarted:
		m.started = data
	case eventStep:
		var fact stepRecord
		if err := json.Unmarshal(data, &fact); err != nil {
			return &LedgerError{Line: int(head.Seq), Text: "decode data: " + err.Error()}
		}
		if fact.Changed {
			m.changed[item] = head.Seq
		}
	case eventAttested, eventWaived:
		t, err := decodeStatement(data)
		if err != nil {
			return &LedgerError{Line: int(head.Seq), Text: err.Error()}
		}
		t.seq, t.entry = head.Seq, at
		if err := m.fits(t, item, event); err != nil {
			return &LedgerError{Line: int(head.Seq), Text: err.Error()}
		}
		m.statements[item] = append(m.statements[item], t)
	}
	return nil
}

// decodeStatement reads a signed statement strictly: only the bytes that Airlock
// writes are one.
func decodeStatement(data []byte) (*testimony, error) {
	t := &testimony{digest: sumOf(data)}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&t.Statement); err != nil {
		return nil, fmt.Errorf("not a statement: %w", err)
	}
	written, err := canonical(t.Statement)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(written, data) {
		return nil, errors.New("not a statement written by Airlock: its bytes differ from its encoding")
	}
	return t, nil
}

// fits checks what a statement says of itself against where it stands.
func (m *memory) fits(t *testimony, item, event string) error {
	want := map[string]string{eventAttested: KindAttestation, eventWaived: KindWaiver}[event]
	switch {
	case t.Kind != want:
		return fmt.Errorf("it holds a statement of kind %q, want %s", t.Kind, want)
	case t.Item != item:
		return fmt.Errorf("the statement under item %s is about item %q: it was copied", item, t.Item)
	case slices.ContainsFunc(m.statements[item], func(o *testimony) bool { return o.digest == t.digest }):
		return errors.New("the same signed statement is in it before: it was copied")
	case t.StatementSHA256 != sumOf([]byte(t.Statement.Statement)):
		return errors.New("the statement's text does not fit its digest: it was edited")
	case t.Ledger.Seq < 1 || t.Ledger.Seq >= t.seq || m.hashes[t.Ledger.Seq-1] != t.Ledger.Hash:
		return errors.New("the statement was signed over another ledger: it was copied")
	}
	return nil
}

// check verifies every statement: that it is about this product and site, its
// signature where the site knows the key, and its evidence by digest. Whether a
// statement still counts is another question. What does not fit gives a
// *LedgerError.
func (m *memory) check(root *os.Root, people []Person, product, site string) error {
	for _, list := range m.statements {
		for _, t := range list {
			if err := t.check(root, people, product, site); err != nil {
				return &LedgerError{Line: int(t.seq), Text: fmt.Sprintf("statement of %s about item %s: %s", t.By, t.Item, err)}
			}
		}
	}
	return nil
}

func (t *testimony) check(root *os.Root, people []Person, product, site string) error {
	if t.Product != product || t.Site != site {
		return fmt.Errorf("it is about %s at %s: it was copied", t.Product, t.Site)
	}
	if t.APIVersion != manifests.APIVersion {
		return fmt.Errorf("its apiVersion is %q", t.APIVersion)
	}
	for _, who := range people {
		if who.Fingerprint != t.By.KeyFingerprint {
			continue
		}
		payload, err := t.Payload()
		if err != nil {
			return err
		}
		if err := who.Check(payload, t.Sig); err != nil {
			return errors.New("the signature is not by the key that it names: it was forged or edited")
		}
		break
	}
	if _, err := readArtifact(root, t.digest); err != nil {
		return err
	}
	for _, ev := range t.Evidence {
		data, err := readArtifact(root, ev.SHA256)
		if err != nil {
			return fmt.Errorf("evidence %s: %w", ev.Name, err)
		}
		if len(data) != ev.Bytes {
			return fmt.Errorf("evidence %s has %d bytes, signed were %d", ev.Name, len(data), ev.Bytes)
		}
	}
	return nil
}

// known returns the person who signed, in the role signed in; ok is false if
// the site knows no such person.
func known(people []Person, by By) (who Person, ok, otherRole bool) {
	for _, who := range people {
		if who.Fingerprint == by.KeyFingerprint {
			if who.Role == by.Role {
				return who, true, false
			}
			otherRole = true
		}
	}
	return Person{}, false, otherRole
}

// expiry is when a statement ends, the zero time if it does not. The signer
// cannot give it longer than the item does.
func (t *testimony) expiry(validFor time.Duration) (time.Time, error) {
	at, err := time.Parse(time.RFC3339, t.At)
	if err != nil {
		return at, fmt.Errorf("its time %q cannot be read", t.At)
	}
	var end time.Time
	if t.ValidUntil != "" {
		if end, err = time.Parse(time.RFC3339, t.ValidUntil); err != nil {
			return at, fmt.Errorf("its end %q cannot be read", t.ValidUntil)
		}
	}
	if validFor > 0 {
		if most := at.Add(validFor); end.IsZero() || most.Before(end) {
			end = most
		}
	}
	return end, nil
}
