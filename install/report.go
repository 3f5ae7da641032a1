package install

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/airlock-project/airlock/manifests"
)

// Status is the outcome of a run, for an exit code.
type Status string

// Outcomes. Only selected items that are required count; an optional item that
// failed makes a run partial.
const (
	StatusDone    Status = "done"
	StatusSoFar   Status = "done-so-far" // what was selected is done; Left names what was not selected
	StatusPlanned Status = "planned"     // a dry run found nothing in the way
	StatusFailed  Status = "failed"      // a required item failed
	StatusWaiting Status = "waiting"     // nothing failed; a person has to state something
	StatusPartial Status = "partial"     // nothing failed; something could not be run
)

// Report is what a run came to, in the checklist's own order. [Report.Text],
// [Report.JSON], [Report.Markdown] and [Report.HTML] write it; they depend on nothing else.
type Report struct {
	APIVersion  string        `json:"apiVersion"`
	Kind        string        `json:"kind"` // InstallReport
	Status      Status        `json:"status"`
	DryRun      bool          `json:"dryRun,omitempty"`
	Stopped     bool          `json:"stopped,omitempty"`     // the run was interrupted
	Interrupted string        `json:"interrupted,omitempty"` // the item that was being done then
	Product     string        `json:"product"`
	Version     string        `json:"version"`
	Release     int64         `json:"release"`
	Bundle      string        `json:"bundle"` // digest
	Policy      string        `json:"policy"`
	Signers     []Signatory   `json:"signers"`
	Checklist   string        `json:"checklist"` // digest
	Site        string        `json:"site"`
	Platform    string        `json:"platform"`
	Airgap      string        `json:"airgap"`
	RunID       string        `json:"runId,omitempty"`
	Actor       string        `json:"actor,omitempty"`
	Tool        string        `json:"tool,omitempty"`
	StartedAt   time.Time     `json:"startedAt"`
	FinishedAt  time.Time     `json:"finishedAt"`
	Phases      []PhaseReport `json:"phases"`
	Tree        *Tree         `json:"tree,omitempty"`       // what a GitOps controller has to apply
	Warnings    []string      `json:"warnings,omitempty"`   // of the run as a whole
	Left        []Todo        `json:"left"`                 // what remains of the whole checklist, in the order to do it
	Ledger      *Head         `json:"ledger,omitempty"`     // nil in a dry run and in report.json, whose digest the ledger holds
	Checkpoint  *Checkpoint   `json:"checkpoint,omitempty"` // Sig is empty where the site has no identity
}

// Signatory is a signer of the bundle.
type Signatory struct {
	Name        string `json:"name"`
	Role        string `json:"role"`
	Fingerprint string `json:"fingerprint"`
}

// PhaseReport is a phase of the checklist.
type PhaseReport struct {
	ID     string       `json:"id"`
	Number int          `json:"number"`
	Title  string       `json:"title"`
	Items  []ItemReport `json:"items"`
}

// ItemReport is a row of the checklist.
type ItemReport struct {
	ID         string            `json:"id"`
	Title      string            `json:"title"`
	SeedRow    string            `json:"seedRow,omitempty"`
	Kind       string            `json:"kind"`
	Need       string            `json:"need"`
	Group      string            `json:"group,omitempty"`
	State      State             `json:"state"`
	Reason     string            `json:"reason,omitempty"`
	Selected   bool              `json:"selected"`
	Reused     bool              `json:"reused,omitempty"` // passed in an earlier run and still valid
	Attempt    int               `json:"attempt,omitempty"`
	Who        string            `json:"who,omitempty"` // brought it to its state
	StartedAt  time.Time         `json:"startedAt,omitzero"`
	FinishedAt time.Time         `json:"finishedAt,omitzero"`
	Seconds    float64           `json:"seconds,omitempty"`
	Findings   []FindingReport   `json:"findings,omitempty"`
	Outputs    map[string]any    `json:"outputs,omitempty"` // small ones; secrets never
	Evidence   []EvidenceRef     `json:"evidence,omitempty"`
	Statements []StatementReport `json:"statements,omitempty"` // signed by people, the newest last
	Plan       []Change          `json:"plan,omitempty"`       // dry run
}

// FindingReport is a finding with what the checklist says of it.
type FindingReport struct {
	Step     string   `json:"step,omitempty"`
	Code     string   `json:"code,omitempty"`
	Severity Severity `json:"severity"`
	Cause    string   `json:"cause,omitempty"`
	Fix      string   `json:"fix,omitempty"`
	Doc      string   `json:"doc,omitempty"`
	Detail   string   `json:"detail,omitempty"`
}

// EvidenceRef names kept evidence by its digest.
type EvidenceRef struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
	Bytes  int    `json:"bytes"`
}

// Todo is something that remains to be done.
type Todo struct {
	Item  string `json:"item"`
	Title string `json:"title"`
	State State  `json:"state"`
	What  string `json:"what,omitempty"`
}

// report says where everything stands.
func (r *run) report(stopped bool) *Report {
	info, d, site := r.bundle.Info(), r.bundle.Decision(), r.opts.Site
	out := &Report{
		APIVersion: manifests.APIVersion, Kind: "InstallReport", DryRun: r.opts.DryRun, Stopped: stopped,
		Product: info.Product, Version: info.Version, Release: info.Release, Bundle: info.Digest.String(), Policy: d.Policy,
		Signers: []Signatory{}, Checklist: r.source, Site: site.Name, Platform: site.Platform, Airgap: site.Airgap,
		Actor: r.opts.Actor, Tool: r.opts.Tool, StartedAt: r.started, FinishedAt: r.opts.Now().UTC(), Left: []Todo{},
	}
	for _, s := range d.Signers {
		out.Signers = append(out.Signers, Signatory{Name: s.Name, Role: s.Role, Fingerprint: s.Fingerprint})
	}
	if r.st != nil && !r.opts.DryRun {
		out.RunID = r.st.run.RunID
	}
	phases := slices.SortedStableFunc(slices.Values(r.checklist.Phases), func(a, b manifests.Phase) int { return cmp.Compare(a.Number, b.Number) })
	for _, ph := range phases {
		pr := PhaseReport{ID: ph.ID, Number: ph.Number, Title: ph.Title, Items: []ItemReport{}}
		for _, n := range r.plan.nodes {
			if n.item.Phase == ph.ID {
				pr.Items = append(pr.Items, r.itemReport(n))
			}
		}
		out.Phases = append(out.Phases, pr)
	}
	out.Warnings = slices.Clone(r.warnings)
	if r.st != nil {
		out.Warnings = append(out.Warnings, r.st.notes...)
	}
	out.Tree, out.Left = r.tree, r.left()
	out.Status = r.status()
	switch {
	case out.Status != StatusDone:
	case r.opts.DryRun:
		out.Status = StatusPlanned
	case len(out.Left) > 0:
		out.Status = StatusSoFar
	}
	for _, n := range r.plan.order {
		if stopped && n.item.Kind != manifests.ItemGroup && r.rec[n.item.ID].State == StateRunning {
			out.Interrupted = n.item.ID
		}
	}
	return out
}

func (r *run) itemReport(n *node) ItemReport {
	rec := r.rec[n.item.ID]
	out := rec.reported(n.item.ID)
	out.Title, out.SeedRow, out.Kind, out.Need = title(n.item), n.item.SeedRow, n.item.Kind, cmp.Or(n.item.Need, needRequired)
	out.Statements = r.statementsOf(n)
	out.Selected, out.Reused = r.isSelected(n), r.reused[n.item.ID]
	if n.parent != nil {
		out.Group = n.parent.item.ID
	}
	for i, f := range rec.Findings {
		if m, ok := n.message(f.Code); ok {
			fr := &out.Findings[i]
			fr.Cause, fr.Fix, fr.Doc = m.cause.render(f.Fields), m.fix.render(f.Fields), m.doc
		}
	}
	return out
}

// left lists what remains, dependencies first, selected or not. Optional items
// are part of it only if they failed.
func (r *run) left() []Todo {
	out := []Todo{}
	for _, n := range r.plan.order {
		rec := r.rec[n.item.ID]
		if n.item.Kind == manifests.ItemGroup || rec.State.met() || !n.required() && rec.State != StateFail {
			continue
		}
		what := rec.Reason
		if rec.State == StateFail {
			what = r.firstFix(n, rec)
		}
		out = append(out, Todo{Item: n.item.ID, Title: title(n.item), State: rec.State, What: what})
	}
	return out
}

func (r *run) firstFix(n *node, rec *itemRecord) string {
	for _, f := range rec.Findings {
		if f.Severity != SeverityFail {
			continue
		}
		if m, ok := n.message(f.Code); ok {
			return f.Code + ": " + m.fix.render(f.Fields)
		}
		return f.Detail
	}
	return rec.Reason
}

// status is the outcome over the selected items.
func (r *run) status() Status {
	var waiting, open, optional bool
	for _, n := range r.plan.order {
		s := r.rec[n.item.ID].State
		switch {
		case !r.isSelected(n) || n.item.Kind == manifests.ItemGroup || s.met():
		case !n.required():
			optional = optional || s == StateFail
		case s == StateFail:
			return StatusFailed
		case s == StateWaiting:
			waiting = true
		case r.opts.DryRun && (s == StatePlanned || s == StatePending):
		case s == StateBlocked && r.onlyWaits(n):
		default:
			open = true
		}
	}
	switch {
	case waiting:
		return StatusWaiting
	case open || optional:
		return StatusPartial
	}
	return StatusDone
}

// onlyWaits reports whether a blocked item is blocked by nothing but people:
// then the run waits, and is not partial.
func (r *run) onlyWaits(n *node) bool {
	blocked := false
	for at := n; at != nil; at = at.parent {
		for _, d := range at.needs {
			switch s := r.rec[d.item.ID].State; {
			case s.met():
			case s == StateWaiting, s == StateBlocked && r.onlyWaits(d):
				blocked = true
			default:
				return false
			}
		}
	}
	return blocked
}

// attachPlans puts the plans of a dry run at their items.
func (rep *Report) attachPlans(plans map[string][]Change) {
	for i := range rep.Phases {
		for j := range rep.Phases[i].Items {
			item := &rep.Phases[i].Items[j]
			item.Plan = plans[item.ID]
		}
	}
}

// JSON writes the report as indented JSON with a final line end.
func (rep *Report) JSON() ([]byte, error) {
	raw, err := json.MarshalIndent(rep, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode report: %w", err)
	}
	return append(raw, '\n'), nil
}
