package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/airlock-project/airlock/manifests"
)

// maxReport bounds report.json when it is read back.
const maxReport = 64 << 20

// ReadReport returns the report of the last run in a state directory, after
// checking the ledger as [VerifyState] does without a key, and that the report
// is the one whose digest the ledger holds. Where the last run did not end, the
// report is made of what the ledger knows, with Stopped set. What does not fit
// gives a *LedgerError.
func ReadReport(dir string) (*Report, error) {
	return steady(func() (*Report, error) { return readReport(dir) })
}

func readReport(dir string) (*Report, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open state directory: %w", err)
	}
	defer root.Close()
	h := &history{items: make(map[string]*itemRecord)}
	var torn bool
	v, points, err := verifyState(root, &torn, h.add)
	if err != nil {
		return nil, err
	}
	if h.ended == nil || torn {
		return h.unfinished(v.Head)
	}
	raw, err := readFrom(root, fileReport, maxReport)
	if (err != nil || sumOf(raw) != h.ended.Report) && diedAt(root, v.Head.Seq) {
		if kept, keptErr := readArtifact(root, h.ended.Report); keptErr == nil {
			raw, err = kept, nil // a kill between the entry and the file
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &LedgerError{Line: int(v.Head.Seq), Text: "it names a report, but " + fileReport + " is gone"}
	case err != nil:
		return nil, fmt.Errorf("read report: %w", err)
	case sumOf(raw) != h.ended.Report:
		return nil, &LedgerError{Line: int(v.Head.Seq), Text: "it names another digest than that of " + fileReport + ": the report was changed"}
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	rep := new(Report)
	if err := d.Decode(rep); err != nil {
		return nil, fmt.Errorf("decode %s: %w", fileReport, err)
	}
	rep.Ledger, rep.Checkpoint = &v.Head, &Checkpoint{Seq: v.Head.Seq, Head: v.Head.Hash, Count: v.Head.Seq, At: h.last, KeyID: h.ended.KeyID}
	if v.Covered {
		rep.Checkpoint = &points[len(points)-1]
	}
	return rep, nil
}

// history is what a ledger says of the last run.
type history struct {
	started Entry                  // of the last run
	ended   *runEnd                // nil while it has not
	last    string                 // time of the last entry
	items   map[string]*itemRecord // as they stand after all runs
	order   []string               // of items, by their first entry
}

// runEnd is the data of a run-finished entry.
type runEnd struct {
	Report string `json:"report"` // digest
	KeyID  string `json:"key_id"`
}

// runStart is the data of a run-started entry.
type runStart struct {
	Decision struct {
		Policy  string      `json:"policy"`
		Signers []Signatory `json:"signers"`
	} `json:"decision"`
	Bundle struct {
		Digest  string `json:"digest"`
		Product string `json:"product"`
		Version string `json:"version"`
		Release int64  `json:"release"`
	} `json:"bundle"`
	Checklist string   `json:"checklist"`
	Groups    []string `json:"groups"` // ids of the checklist's groups, null where the run did not write them down
	Site      struct {
		Name     string `json:"name"`
		Platform string `json:"platform"`
		Airgap   string `json:"airgap"`
	} `json:"site"`
	Tool string `json:"tool"`
}

func decodeStart(data []byte) (runStart, error) {
	var fact runStart
	if err := json.Unmarshal(data, &fact); err != nil {
		return fact, fmt.Errorf("decode data: %w", err)
	}
	return fact, nil
}

// add takes an entry in.
func (h *history) add(e Entry) error {
	h.ended, h.last = nil, e.At
	if e.Item != "" && h.items[e.Item] == nil {
		h.items[e.Item] = &itemRecord{State: StatePending}
		h.order = append(h.order, e.Item)
	}
	var err error
	switch e.Event {
	case eventRunStarted:
		h.started = e
	case eventRunFinished:
		h.ended = new(runEnd)
		err = json.Unmarshal(e.Data, h.ended)
	case eventStarted:
		h.items[e.Item] = &itemRecord{State: StateRunning, Reason: "it was started and has not ended"}
	case eventInterrupted:
		h.items[e.Item] = &itemRecord{State: StatePending, Reason: "the run ended in the middle of it"}
	case eventStale:
		var fact struct {
			Reason string `json:"reason"`
		}
		err = json.Unmarshal(e.Data, &fact)
		h.items[e.Item].State, h.items[e.Item].Reason = StateStale, fact.Reason
	case eventFinished:
		rec := new(itemRecord)
		err = json.Unmarshal(e.Data, rec)
		h.items[e.Item] = rec
	}
	if err != nil {
		return &LedgerError{Line: int(e.Seq), Text: "decode data: " + err.Error()}
	}
	return nil
}

// unfinished reports a run that did not end: it was killed, or is not over. The
// ledger knows no titles, no causes and nothing of items that were not begun.
func (h *history) unfinished(head Head) (*Report, error) {
	if h.started.Seq == 0 {
		return nil, errors.New("no run has been started in this state directory")
	}
	fact, err := decodeStart(h.started.Data)
	if err != nil {
		return nil, &LedgerError{Line: int(h.started.Seq), Text: err.Error()}
	}
	at, err := time.Parse(time.RFC3339Nano, h.started.At)
	if err != nil {
		return nil, &LedgerError{Line: int(h.started.Seq), Text: err.Error()}
	}
	rep := &Report{
		APIVersion: manifests.APIVersion, Kind: "InstallReport", Status: StatusPartial, Stopped: true,
		Product: fact.Bundle.Product, Version: fact.Bundle.Version, Release: fact.Bundle.Release, Bundle: fact.Bundle.Digest,
		Policy: fact.Decision.Policy, Signers: fact.Decision.Signers, Checklist: fact.Checklist,
		Site: fact.Site.Name, Platform: fact.Site.Platform, Airgap: fact.Site.Airgap,
		RunID: h.started.RunID, Actor: h.started.Actor.Name, Tool: fact.Tool, StartedAt: at, Left: []Todo{}, Ledger: &head,
	}
	ph := PhaseReport{Title: "The last run did not end. What the ledger knows", Items: []ItemReport{}}
	for _, id := range h.order {
		item := h.items[id].reported(id)
		if item.State == StateRunning {
			rep.Interrupted = id
		}
		ph.Items = append(ph.Items, item)
	}
	rep.Phases = []PhaseReport{ph}
	return rep, nil
}

// reported is what a record alone tells of an item.
func (rec *itemRecord) reported(id string) ItemReport {
	out := ItemReport{
		ID: id, Title: id, State: rec.State, Reason: rec.Reason, Attempt: rec.Attempt, Who: rec.Actor.Name, StartedAt: rec.StartedAt, FinishedAt: rec.FinishedAt,
	}
	if !rec.StartedAt.IsZero() && !rec.FinishedAt.IsZero() {
		out.Seconds = rec.FinishedAt.Sub(rec.StartedAt).Round(time.Millisecond).Seconds()
	}
	for _, f := range rec.Findings {
		out.Findings = append(out.Findings, FindingReport{Step: f.Step, Code: f.Code, Severity: f.Severity, Detail: f.Detail})
	}
	for _, ev := range rec.Evidence {
		out.Evidence = append(out.Evidence, EvidenceRef{Name: ev.Name, SHA256: ev.SHA256, Bytes: ev.Bytes})
	}
	for _, name := range slices.Sorted(maps.Keys(rec.Outputs)) {
		val, err := decodeOutput(rec.Outputs[name].Value)
		if err != nil {
			continue // kept as an artifact, or a secret
		}
		if out.Outputs == nil {
			out.Outputs = make(map[string]any)
		}
		out.Outputs[name] = val
	}
	return out
}
