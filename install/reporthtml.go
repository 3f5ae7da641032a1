package install

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"strconv"
	"time"

	"github.com/airlock-project/airlock/install/internal/qr"
)

//go:embed report.html.tmpl
var reportPage string

// page is what the template of the HTML report sees.
type page struct {
	*Report
	Words   string
	Counts  []stateCount
	Phases  []pagePhase
	Head    string // as text
	QR      string // path of the code of Head
	QRSize  int
	Checked bool // the head is signed
}

type stateCount struct {
	State State
	N     int
}

type pagePhase struct {
	PhaseReport
	Done, Of int
	Rows     []pageRow
}

type pageRow struct {
	ItemReport
	Row  string // as the checklist's document names it
	Mark string
	When string
}

// marks are the signs of states, which say the same as their words: on paper
// there is no colour.
var marks = map[State]string{
	StatePass: "✓", StateWarn: "!", StateFail: "✗", StateAttested: "✍", StateWaived: "≈", StateSkipped: "–", StateBlocked: "⊘",
	StateStale: "↻", StateWaiting: "…", StateUnavailable: "?", StatePlanned: "→", StateRunning: "▸", StatePending: "○",
}

// HTML writes the report as one page without outside references, readable on a
// phone and on paper, in dark and light. The ledger's head is on it as text and
// as a QR code, so that it leaves the machine with the paper.
func (rep *Report) HTML() ([]byte, error) {
	t, err := template.New("report").Funcs(template.FuncMap{
		"printable": printable,
		"treeLines": (*Tree).lines,
	}).Parse(reportPage)
	if err != nil {
		return nil, fmt.Errorf("read report page: %w", err)
	}
	p := page{Report: rep, Words: rep.statusWords()}
	counts := make(map[State]int)
	for _, ph := range rep.Phases {
		pp := pagePhase{PhaseReport: ph}
		for _, item := range ph.Items {
			counts[item.State]++
			pp.Of++
			if item.State.met() {
				pp.Done++
			}
			pp.Rows = append(pp.Rows, item.onPage())
		}
		p.Phases = append(p.Phases, pp)
	}
	for _, s := range []State{
		StatePass, StateWarn, StateAttested, StateWaived, StateSkipped, StateFail, StateWaiting, StateBlocked,
		StateStale, StateUnavailable, StatePlanned, StateRunning, StatePending,
	} {
		if counts[s] > 0 {
			p.Counts = append(p.Counts, stateCount{s, counts[s]})
		}
	}
	if rep.Ledger != nil {
		code, err := qr.Encode(rep.headText())
		if err != nil {
			return nil, err
		}
		p.Head, p.QR, p.QRSize = rep.headText(), code.Path(), len(code)
		p.Checked = rep.Checkpoint != nil && len(rep.Checkpoint.Sig) > 0
	}
	var b bytes.Buffer
	if err := t.Execute(&b, p); err != nil {
		return nil, fmt.Errorf("write report page: %w", err)
	}
	return b.Bytes(), nil
}

// headText is the head of the ledger in one line, with what it is the head of.
func (rep *Report) headText() string {
	return "airlock ledger " + rep.Product + " " + rep.Site + " " + strconv.FormatInt(rep.Ledger.Seq, 10) + " " + rep.Ledger.Hash
}

// HeadQR draws the head of the ledger as a QR code for a terminal, "" where
// there is no ledger.
func (rep *Report) HeadQR() string {
	if rep.Ledger == nil {
		return ""
	}
	code, err := qr.Encode(rep.headText())
	if err != nil {
		return "" // the head is in the report as text
	}
	return code.Text()
}

func (item ItemReport) onPage() pageRow {
	r := pageRow{ItemReport: item, Row: item.SeedRow, Mark: marks[item.State]}
	if r.Row == "" {
		r.Row = item.Title
	}
	switch {
	case item.State == StateSkipped, item.State == StateBlocked, item.State == StatePending:
		r.Who = "" // nobody did anything
	case !item.FinishedAt.IsZero():
		r.When = item.FinishedAt.Format(time.RFC3339)
	}
	return r
}
