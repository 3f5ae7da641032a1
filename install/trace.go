package install

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/manifests"
)

// trace is where a ledger says that items stand. run.json says it too, and is
// nobody's signature.
type trace struct {
	items   map[string]*itemRecord // by id; of items with an entry
	started json.RawMessage        // the data of the last run-started
	ended   *runEnd                // the data of the last run-finished
	groups  map[string]bool        // ids of groups in the checklists of all runs
	untold  bool                   // some run did not say its groups
	// open says that the last end of a run with a key has no checkpoint that the
	// ledger speaks of: it was signed, or the process died before; missing, that
	// there was one before it, which must have been signed.
	open, missing bool
}

func newTrace() *trace {
	return &trace{items: make(map[string]*itemRecord), groups: make(map[string]bool)}
}

// add takes in an entry, with its data wherever that lies.
func (t *trace) add(e Entry) error {
	switch e.Event {
	case eventRunStarted:
		t.started = e.Data
		start, err := decodeStart(e.Data)
		if err != nil {
			return &LedgerError{Line: int(e.Seq), Text: err.Error()}
		}
		t.untold = t.untold || start.Groups == nil
		for _, id := range start.Groups {
			t.groups[id] = true
		}
	case eventRunFinished:
		t.ended = new(runEnd)
		if err := json.Unmarshal(e.Data, t.ended); err != nil {
			return &LedgerError{Line: int(e.Seq), Text: "decode data: " + err.Error()}
		}
		if t.ended.KeyID != "" {
			t.missing, t.open = t.missing || t.open, true
		}
	case eventUnsigned:
		t.open = false
	}
	if e.Item == "" {
		return nil
	}
	rec, err := e.applied(t.items[e.Item])
	if err != nil {
		return &LedgerError{Line: int(e.Seq), Text: "decode data: " + err.Error()}
	}
	if rec != nil {
		t.items[e.Item] = rec
	}
	return nil
}

// applied is an item's record after e, nil where e does not change it. old may
// be nil and stays as it is.
func (e Entry) applied(old *itemRecord) (*itemRecord, error) {
	rec := new(itemRecord)
	if old != nil {
		*rec = *old
	}
	var fact struct {
		Attempt   int    `json:"attempt"`
		InputHash string `json:"input_hash"`
		Was       State  `json:"was"`
		Reason    string `json:"reason"`
	}
	switch e.Event {
	case eventStarted:
		if err := json.Unmarshal(e.Data, &fact); err != nil {
			return nil, err
		}
		*rec = itemRecord{State: StateRunning, Attempt: fact.Attempt, InputHash: fact.InputHash, Actor: e.Actor}
	case eventFinished:
		*rec = itemRecord{}
		if err := json.Unmarshal(e.Data, rec); err != nil {
			return nil, err
		}
		rec.Seq = e.Seq
	case eventStale:
		if err := json.Unmarshal(e.Data, &fact); err != nil {
			return nil, err
		}
		if fact.Was == StateSkipped {
			*rec = itemRecord{State: StatePending, Attempt: rec.Attempt}
			break
		}
		rec.State, rec.Reason = StateStale, fact.Reason
	case eventInterrupted:
		rec.State, rec.Reason = StatePending, "the run ended in the middle of it"
	default:
		return nil, nil
	}
	return rec, nil
}

// agrees refuses a run.json whose items do not stand where the ledger says. That
// an item is skipped is told anew by whoever asks, and so are groups.
func (t *trace) agrees(root *os.Root, run *snapshot) error {
	var kinds map[string]string // reading a checklist takes long
	if t.untold {
		kinds = t.kinds(root)
	}
	ids := maps.Clone(run.Items)
	for id := range t.items {
		ids[id] = run.Items[id]
	}
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		have, said := run.Items[id], t.items[id]
		edited := func(format string, args ...any) error {
			return &LedgerError{Text: fmt.Sprintf("%s and the ledger differ about item %s: ", fileRun, id) + fmt.Sprintf(format, args...) + "; it was edited"}
		}
		switch {
		case have == nil:
			return edited("it is missing, the ledger has it %s", said.State)
		case have.State == StateSkipped:
		case said == nil:
			group := t.groups[id] || t.untold && (kinds[id] == manifests.ItemGroup || kinds[id] == "")
			if have.State != StatePending && (!group || have.InputHash != "" || have.Seq != 0) {
				return edited("it is %s, the ledger has no such entry", have.State)
			}
		case have.State != said.State:
			return edited("it is %s, the ledger has it %s", have.State, said.State)
		case have.State == StateRunning, have.State == StatePending:
		default:
			same, err := equalRecords(have, said)
			if err != nil {
				return err
			}
			if !same {
				return edited("it is %s in both, with another result", have.State)
			}
		}
	}
	return nil
}

func equalRecords(a, b *itemRecord) (bool, error) {
	x, err := canonical(a)
	if err != nil {
		return false, err
	}
	y, err := canonical(b)
	return bytes.Equal(x, y), err
}

// kinds are the kinds of the items of the last run's checklist, none where this
// version cannot read it.
func (t *trace) kinds(root *os.Root) map[string]string {
	out := make(map[string]string)
	start, err := decodeStart(t.started)
	if err != nil {
		return out
	}
	document, err := readArtifact(root, strings.TrimPrefix(start.Checklist, "sha256:"))
	if err != nil {
		return out
	}
	c, err := manifests.ParseChecklist("checklist of the last run", document)
	if err != nil {
		return out
	}
	for _, i := range c.Items {
		out[i.ID] = i.Kind
	}
	return out
}
