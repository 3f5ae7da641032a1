package install

import (
	"fmt"
	"slices"
	"strings"
)

// StatementReport is what a person signed about an item.
type StatementReport struct {
	Kind        string          `json:"kind"`
	Name        string          `json:"name"`
	Role        string          `json:"role"`
	Fingerprint string          `json:"fingerprint"`
	At          string          `json:"at"`
	ValidUntil  string          `json:"validUntil,omitempty"`
	Statement   string          `json:"statement"`
	Reason      string          `json:"reason,omitempty"` // of a waiver
	Risk        string          `json:"risk,omitempty"`   // of a waiver
	SHA256      string          `json:"sha256"`           // of the signed document in artifacts/
	Evidence    []EvidenceProof `json:"evidence,omitempty"`
	Counts      bool            `json:"counts"`
	Against     string          `json:"against,omitempty"` // why it does not count
}

// Line is a statement in one line, without control characters.
func (s StatementReport) Line() string {
	verb := "stated"
	if s.Kind == KindWaiver {
		verb = "risk taken"
	}
	var text strings.Builder
	text.WriteString(fmt.Sprintf("%s by %s (%s) %s, key %s", verb, s.Name, s.Role, s.At, s.Fingerprint))
	if s.ValidUntil != "" {
		text.WriteString(", until " + s.ValidUntil)
	}
	if s.Risk != "" {
		text.WriteString(fmt.Sprintf("; reason: %s; risk: %s", s.Reason, s.Risk))
	}
	for _, ev := range s.Evidence {
		text.WriteString(fmt.Sprintf("; evidence %s sha256:%s", ev.Name, ev.SHA256))
	}
	if !s.Counts {
		text.WriteString("; does not count: " + s.Against)
	}
	return printable(text.String())
}

// statementsOf lists what people signed about an item, the newest last.
func (r *run) statementsOf(n *node) []StatementReport {
	if r.st == nil || len(r.st.memory.statements[n.item.ID]) == 0 {
		return nil
	}
	hash, err := r.restsOn(n)
	if err != nil || len(r.st.key) == 0 { // what it rests on cannot be seen here: take what was recorded
		hash = r.rec[n.item.ID].InputHash
	}
	good := append(r.judge(n, KindAttestation, hash).good, r.judge(n, KindWaiver, hash).good...)
	var out []StatementReport
	for _, t := range r.st.memory.statements[n.item.ID] {
		s := StatementReport{
			Kind: t.Kind, Name: t.By.Name, Role: t.By.Role, Fingerprint: t.By.KeyFingerprint, At: t.At, ValidUntil: t.ValidUntil,
			Statement: t.Statement.Statement, Reason: t.Reason, Risk: t.Risk, SHA256: t.digest, Evidence: t.Evidence,
			Counts: slices.Contains(good, t),
		}
		if !s.Counts {
			roles, span := []string(nil), lasts(n.item.Attest)
			if t.Kind == KindAttestation && n.item.Attest != nil {
				roles = n.item.Attest.Roles
			} else {
				span = 0
			}
			if s.Against = r.against(n, t, hash, span, roles); s.Against == "" {
				s.Against = "another statement takes its place"
			}
		}
		out = append(out, s)
	}
	return out
}
