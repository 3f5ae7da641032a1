package install

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/airlock-project/airlock/manifests"
)

// roleOperator is the role of whoever runs the installation; a waiver by two
// people needs no other.
const roleOperator = "operator"

// waiverSigners is how many people take a risk together.
const waiverSigners = 2

// skew is how far ahead a signer's clock may be.
const skew = 5 * time.Minute

// judgement is what the statements about an item come to.
type judgement struct {
	kind    string
	roles   []string // whose signature counts; none: anybody's whom the site lists
	want    int
	also    string       // a role that one of the signers has; "" is any
	good    []*testimony // those that count, by different people with different keys
	against []string     // why others do not count: "alice (security): it has expired"
}

func (j judgement) complete() bool { return len(j.good) >= j.want && j.hasRole() }

func (j judgement) hasRole() bool {
	return j.also == "" || slices.ContainsFunc(j.good, func(t *testimony) bool { return t.By.Role == j.also })
}

// names says who has signed what counts.
func (j judgement) names() string {
	var out []string
	for _, t := range j.good {
		out = append(out, t.By.String())
	}
	return strings.Join(out, ", ")
}

// waits says who has to do what; text is what is to be stated.
func (j judgement) waits(text string) string {
	who := "a person"
	switch {
	case len(j.roles) > 0:
		who = strings.Join(j.roles, " or ")
	case j.also != "" && !j.hasRole() && len(j.good) == j.want-1:
		who = "somebody with role " + j.also
	}
	if j.kind == KindWaiver && len(j.good) > 0 {
		who = "another person"
		if !j.hasRole() {
			who = "another person, with role " + j.also
		}
	}
	words := who + " has to state: " + text
	if len(j.good) > 0 {
		words = fmt.Sprintf("%d of %d signed: %s; %s", len(j.good), j.want, j.names(), words)
	} else if j.want > 1 {
		words = fmt.Sprintf("%d people with different keys are needed; %s", j.want, words)
	}
	if len(j.against) > 0 {
		words += "; what does not count: " + strings.Join(j.against, "; ")
	}
	return words
}

// judge weighs the statements of a kind about an item that now rests on hash.
// It is called with mu held.
func (r *run) judge(n *node, kind, hash string) judgement {
	j := judgement{kind: kind, want: 1}
	var validFor time.Duration
	switch {
	case kind == KindWaiver:
		j.want = waiverSigners
		if n.item.Waiver != nil {
			j.also = n.item.Waiver.Role
		}
	case n.item.Attest != nil:
		j.roles, j.want = n.item.Attest.Roles, max(1, n.item.Attest.MinSigners)
		validFor = lasts(n.item.Attest)
	}
	var same *testimony // the newest waiver that counts: others must be of the same risk
	list := r.st.memory.statements[n.item.ID]
	for _, t := range slices.Backward(list) {
		if t.Kind != kind {
			continue
		}
		why := r.against(n, t, hash, validFor, j.roles)
		if why == "" && same != nil && (t.Reason != same.Reason || t.Risk != same.Risk) {
			why = "it gives another reason or risk than the newest one"
		}
		switch {
		case slices.ContainsFunc(j.good, func(g *testimony) bool {
			return g.By.KeyFingerprint == t.By.KeyFingerprint || g.By.Name == t.By.Name
		}): // said again since
		case why != "":
			j.against = append(j.against, t.By.String()+": "+why)
		default:
			j.good = append(j.good, t)
			if kind == KindWaiver && same == nil {
				same = t
			}
		}
	}
	slices.Reverse(j.good)
	return j
}

func lasts(a *manifests.Attestation) time.Duration {
	if a == nil || a.ValidFor == "" {
		return 0
	}
	d, err := time.ParseDuration(a.ValidFor)
	if err != nil || d <= 0 { // refused when the checklist was loaded
		return time.Nanosecond
	}
	return d
}

// against says why a statement whose signature was checked does not count now,
// "" if it does.
func (r *run) against(n *node, t *testimony, hash string, validFor time.Duration, roles []string) string {
	who, ok, other := known(r.opts.People, t.By)
	now := r.opts.Now()
	end, err := t.expiry(validFor)
	at, _ := time.Parse(time.RFC3339, t.At) // expiry has parsed it
	text, textErr := r.said(n, t)
	switch {
	case !ok && other:
		return "the site gives that key another role"
	case !ok:
		return "the site does not list the key " + t.By.KeyFingerprint
	case err == nil && (who.gone(at) || who.gone(t.entry)): // whoever signs can give an earlier date, the ledger's is another's
		return "it was signed after " + who.Left.Format(time.DateOnly) + ", when " + who.Name + " left"
	case len(roles) > 0 && !slices.Contains(roles, t.By.Role):
		return fmt.Sprintf("role %s may not state it", t.By.Role)
	case err != nil:
		return err.Error()
	case at.After(now.Add(skew)):
		return "it is dated " + t.At + ", which is to come"
	case !end.IsZero() && !now.Before(end):
		return "it held until " + end.UTC().Format(time.RFC3339)
	case textErr != nil:
		return textErr.Error()
	case text != t.Statement.Statement:
		return "the checklist asks for another statement now"
	case t.InputHash != hash:
		return "what it rests on has changed: inputs, the item's definition, outputs it uses, where it works, or the bundle"
	}
	for _, d := range n.basis() {
		if r.st.memory.changed[d.item.ID] > t.Ledger.Seq {
			return d.item.ID + " has changed something since"
		}
	}
	if err := r.proven(n, t); err != nil {
		return err.Error()
	}
	return ""
}

// proven checks a statement's evidence against what the item asks for, by its
// content.
func (r *run) proven(n *node, t *testimony) error {
	var files []ProofFile
	for _, ev := range t.Evidence {
		data, err := r.st.artifact(ev.SHA256)
		if err != nil {
			return err
		}
		files = append(files, ProofFile{Name: ev.Name, Data: data})
	}
	item := n.item
	if t.Kind == KindWaiver { // its evidence is free
		item = &manifests.Item{ID: item.ID}
	}
	_, err := checkProofs(item, files)
	return err
}

// said is what a statement about n has to say now.
func (r *run) said(n *node, t *testimony) (string, error) {
	if t.Kind == KindWaiver {
		return riskText(n, t.Reason, t.Risk), nil
	}
	return r.asked(n)
}

// asked is what the checklist asks a person to state.
func (r *run) asked(n *node) (string, error) {
	if n.statement == nil {
		return "", fmt.Errorf("item %s asks nobody for a statement", n.item.ID)
	}
	val, _, err := n.statement.Eval(r.answers.vars(nil, r.outputs))
	if err != nil {
		return "", fmt.Errorf("statement of item %s: %w", n.item.ID, err)
	}
	return r.redact.text(fmt.Sprint(val)), nil
}

// riskText is what two people state who waive an item.
func riskText(n *node, reason, risk string) string {
	return fmt.Sprintf("The item %q (%s) is not done, and I take the risk. Reason: %s. Risk: %s.",
		title(n.item), n.item.ID, strings.TrimSuffix(reason, "."), strings.TrimSuffix(risk, "."))
}

// people is the state of an item whose probes have passed and that a person
// has to state.
func (a *attempt) people() (State, string) {
	j := a.judge(a.n, KindAttestation, a.rec.InputHash)
	if j.complete() {
		return StateAttested, "stated by " + j.names()
	}
	text, err := a.asked(a.n)
	if err != nil {
		text = a.n.item.Attest.Statement
	}
	return StateWaiting, j.waits(text)
}

// wouldBe is people in a dry run, which hashes nothing and records nothing.
func (a *attempt) wouldBe() (State, string) {
	if st := a.st; st == nil || len(st.key) == 0 {
		a.st = &store{memory: newMemory()}
		defer func() { a.st = st }()
	} else if hash, err := a.inputHash(a.n, a.secrets); err == nil {
		a.rec.InputHash = hash
	}
	return a.people()
}

// stated says whether what people signed about a settled item still holds, and
// if not why. hash is what the item rests on now.
func (r *run) stated(n *node, rec *itemRecord, hash string) (bool, string) {
	kind := KindAttestation
	if rec.State == StateWaived {
		kind = KindWaiver
	}
	j := r.judge(n, kind, hash)
	switch {
	case j.complete():
		return true, ""
	case len(j.against) > 0:
		return false, "what people signed does not count any more: " + strings.Join(j.against, "; ")
	}
	return false, "what people signed is not enough: " + j.waits("it")
}

// takeRisk makes an item that is not done waived, where people took the risk.
func (r *run) takeRisk(n *node, rec *itemRecord) {
	if n.item.Waiver == nil || rec.State.met() || len(r.st.memory.statements[n.item.ID]) == 0 {
		return
	}
	hash, err := r.restsOn(n)
	if err != nil {
		return // without it nothing counts; the item's own state says more
	}
	if j := r.judge(n, KindWaiver, hash); j.complete() {
		rec.Reason = fmt.Sprintf("it is %s, and the risk is taken by %s: %s", rec.State, j.names(), j.good[0].Risk)
		rec.State, rec.InputHash = StateWaived, hash
	}
}

// restsOn is the hash of what an item rests on now.
func (r *run) restsOn(n *node) (string, error) {
	secrets, err := r.secretsOf(n)
	if err != nil {
		return "", err
	}
	return r.inputHash(n, secrets)
}

// checkPeople refuses a state directory in which a statement was forged, or
// whose run.json claims what its ledger does not say.
func (r *run) checkPeople() error {
	if err := r.st.memory.check(r.st.root, r.opts.People, r.bundle.Info().Product, r.opts.Site.Name); err != nil {
		return err
	}
	for _, n := range r.plan.nodes {
		rec := r.st.run.Items[n.item.ID]
		if rec == nil || n.item.Kind == manifests.ItemGroup {
			continue
		}
		kind := map[State]string{StateAttested: KindAttestation, StateWaived: KindWaiver}[rec.State]
		if n.item.Kind == manifests.ItemAttest && (rec.State == StatePass || rec.State == StateWarn) {
			kind = KindAttestation
		}
		said := slices.ContainsFunc(r.st.memory.statements[n.item.ID], func(t *testimony) bool { return t.Kind == kind })
		if kind != "" && !said {
			return &LedgerError{Text: fmt.Sprintf("%s says that item %s is %s, and nobody has signed that: it was edited", fileRun, n.item.ID, rec.State)}
		}
	}
	if err := r.st.traced.agrees(r.st.root, r.st.run); err != nil || r.opts.Site.Identity == nil {
		return err
	}
	_, err := r.checkSigned()
	return err
}
