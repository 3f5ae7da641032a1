package install

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/airlock-project/airlock/manifests"
)

// StatementError says that a person cannot state something, or not like this.
type StatementError struct {
	Item string
	Text string
	// Probes says that the item's own checks failed or something it needs is not
	// done; nothing is wrong with the request then.
	Probes bool
}

func (e *StatementError) Error() string { return fmt.Sprintf("item %s: %s", e.Item, e.Text) }

// SignerError says that a key's signature would not count.
type SignerError struct {
	Item  string
	KeyID string
	Text  string
	Roles []string // whose signature would; none: anybody's whom the site lists
}

func (e *SignerError) Error() string {
	return fmt.Sprintf("sign for item %s with key %s: %s", e.Item, e.KeyID, e.Text)
}

// Draft is a statement that waits for its signatures.
type Draft struct {
	Item     string
	Title    string
	Kind     string
	Text     string          // what the signer states
	Why      string          // of an attestation: why a person has to say it
	Evidence []EvidenceProof // what goes with it
	Missing  string          // who has to sign, for people
	Until    time.Time       // how long it will hold; zero while nothing changes

	n      *node
	hash   string
	reason string
	risk   string
	files  []ProofFile
}

// Attest drafts the statement about an attest item: its probes are run first and
// must not fail.
func (d *Desk) Attest(ctx context.Context, id string, files []ProofFile) (*Draft, error) {
	r := d.r
	r.mu.Lock()
	defer r.mu.Unlock()
	n, err := r.find(id)
	if err != nil {
		return nil, err
	}
	if n.item.Kind != manifests.ItemAttest {
		return nil, &StatementError{Item: id, Text: "it is a " + n.item.Kind + ", nobody can attest it" + waivable(n)}
	}
	if err := r.reachable(n); err != nil {
		return nil, err
	}
	proofs, err := checkProofs(n.item, files)
	if err != nil {
		return nil, err
	}
	if was := r.rec[id]; !was.State.settled() { // a further signature needs no new look
		if err := r.lookAgain(ctx, n); err != nil {
			return nil, err
		}
	}
	text, err := r.asked(n)
	if err != nil {
		return nil, err
	}
	hash, err := r.restsOn(n)
	if err != nil {
		return nil, err
	}
	out := &Draft{Item: id, Title: title(n.item), Kind: KindAttestation, Text: text, Why: n.item.Attest.Reason, Evidence: proofs, n: n, hash: hash, files: files}
	out.Missing = r.judge(n, KindAttestation, hash).waits("it")
	if span := lasts(n.item.Attest); span > 0 {
		out.Until = r.opts.Now().UTC().Add(span).Truncate(time.Second)
	}
	return out, r.clean(out)
}

func waivable(n *node) string {
	if n.item.Waiver == nil {
		return ""
	}
	return "; it can be waived"
}

// Waive drafts the statement of two people who take the risk of an item that is
// not done. The second of them may leave reason and risk empty: they are those
// of the first.
func (d *Desk) Waive(id, reason, risk string, files []ProofFile) (*Draft, error) {
	r := d.r
	r.mu.Lock()
	defer r.mu.Unlock()
	n, err := r.find(id)
	if err != nil {
		return nil, err
	}
	switch {
	case n.item.Waiver == nil:
		return nil, &StatementError{Item: id, Text: "the checklist does not allow to waive it"}
	case n.item.Kind == manifests.ItemGroup:
		return nil, &StatementError{Item: id, Text: "it is a group: waive its items"}
	case r.rec[id].State.met():
		return nil, &StatementError{Item: id, Text: "it is " + string(r.rec[id].State) + ": there is nothing to waive"}
	}
	hash, err := r.restsOn(n)
	if err != nil {
		return nil, err
	}
	j := r.judge(n, KindWaiver, hash)
	if reason == "" && risk == "" && len(j.good) > 0 {
		reason, risk = j.good[0].Reason, j.good[0].Risk
	}
	if reason == "" || risk == "" {
		return nil, &StatementError{Item: id, Text: "a waiver needs a reason and the risk that is taken"}
	}
	proofs, err := checkProofs(&manifests.Item{ID: id}, files)
	if err != nil {
		return nil, err
	}
	out := &Draft{
		Item: id, Title: title(n.item), Kind: KindWaiver, Text: riskText(n, reason, risk), Evidence: proofs,
		n: n, hash: hash, reason: reason, risk: risk, files: files, Missing: j.waits("it"),
	}
	return out, r.clean(out)
}

// clean refuses a draft that would carry a secret of the site into the record.
func (r *run) clean(d *Draft) error {
	for name, ref := range r.answers.refs {
		if raw, err := r.opts.Secret(ref); err == nil && held(r.checklist.Inputs[name]) {
			r.redact.add(name, string(raw))
		}
	}
	for _, s := range []string{d.reason, d.risk} {
		if r.redact.text(s) != s {
			return &StatementError{Item: d.Item, Text: "reason or risk holds a secret of the site"}
		}
	}
	for _, f := range d.files {
		if s := string(f.Data); r.redact.text(s) != s {
			return &StatementError{Item: d.Item, Text: "evidence " + f.Name + " holds a secret of the site: black it out"}
		}
	}
	return nil
}

// find returns an item that applies here.
func (r *run) find(id string) (*node, error) {
	n := r.plan.byID[id]
	if n == nil {
		var have []string
		for _, n := range r.plan.nodes {
			have = append(have, n.item.ID)
		}
		return nil, &SelectionError{What: "item", Name: id, Have: have}
	}
	if rec := r.rec[id]; rec.State == StateSkipped {
		return nil, &StatementError{Item: id, Text: "it does not apply here: " + rec.Reason}
	}
	return n, nil
}

// reachable refuses a statement about what comes after something that is not
// done.
func (r *run) reachable(n *node) error {
	if unmet := r.unmet(n); len(unmet) > 0 {
		return &StatementError{Item: n.item.ID, Text: "it needs " + strings.Join(unmet, ", "), Probes: true}
	}
	if len(n.unknown) > 0 {
		return &StatementError{Item: n.item.ID, Text: "this version of Airlock has no step " + strings.Join(n.unknown, ", "), Probes: true}
	}
	return nil
}

// lookAgain runs the probes of an attest item, as a run does.
func (r *run) lookAgain(ctx context.Context, n *node) error {
	if err := r.execute(ctx, n); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return &InterruptedError{Product: r.checklist.Product, Item: n.item.ID, Err: err, Cause: context.Cause(ctx)}
	}
	rec := r.rec[n.item.ID]
	if rec.State != StateFail {
		return nil
	}
	return &StatementError{Item: n.item.ID, Text: "its checks fail: " + r.firstFinding(n, rec), Probes: true}
}

// firstFinding says what failed, and what to do.
func (r *run) firstFinding(n *node, rec *itemRecord) string {
	for _, f := range rec.Findings {
		if f.Severity != SeverityFail {
			continue
		}
		if m, ok := n.message(f.Code); ok {
			return fmt.Sprintf("%s: %s; %s", f.Code, m.cause.render(f.Fields), m.fix.render(f.Fields))
		}
		return f.Detail
	}
	return rec.Reason
}

// signerOf finds the person whose key that is, in a role that counts here.
func (d *Desk) signerOf(dr *Draft, keyID string) (By, error) {
	r := d.r
	roles, also := []string(nil), ""
	if dr.Kind == KindAttestation {
		roles = dr.n.item.Attest.Roles
	} else {
		also = dr.n.item.Waiver.Role
	}
	var by *By
	var others []string
	for _, who := range r.opts.People {
		if who.Fingerprint != keyID {
			continue
		}
		if who.gone(r.opts.Now()) {
			return By{}, &SignerError{Item: dr.Item, KeyID: keyID, Text: who.Name + " left on " + who.Left.Format(time.DateOnly), Roles: roles}
		}
		if len(roles) > 0 && !slices.Contains(roles, who.Role) {
			others = append(others, who.Role)
			continue
		}
		if by == nil || who.Role == also {
			by = &By{Name: who.Name, Role: who.Role, KeyFingerprint: keyID}
		}
	}
	switch {
	case by != nil:
		return *by, nil
	case len(others) > 0:
		return By{}, &SignerError{Item: dr.Item, KeyID: keyID, Text: "its role here is " + strings.Join(others, ", "), Roles: roles}
	}
	return By{}, &SignerError{Item: dr.Item, KeyID: keyID, Text: "the site does not list it", Roles: roles}
}

// Who says who would sign with that key, in which role. A key whose signature
// would not count gives a *SignerError.
func (d *Desk) Who(dr *Draft, keyID string) (By, error) { return d.signerOf(dr, keyID) }

// Sign signs a draft with each of the keys, keeps the statements with their
// evidence and ends the item where they are enough. The report says where
// everything stands then. A person who has signed already signs again: the newer
// statement takes the place of the older.
func (d *Desk) Sign(ctx context.Context, dr *Draft, signers ...Signer) (*Report, error) {
	r := d.r
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range signers {
		if _, err := d.signerOf(dr, s.KeyID); err != nil {
			return nil, err
		}
	}
	for _, f := range dr.files {
		if _, err := r.st.keep(f.Data); err != nil {
			return nil, err
		}
	}
	for _, s := range signers {
		if err := d.signOne(dr, s); err != nil {
			return nil, err
		}
	}
	if err := r.settle(ctx, dr); err != nil {
		return nil, err
	}
	for _, n := range r.plan.order { // groups, and what the item has made stale
		r.surveyItem(n)
	}
	report, err := r.finish(false)
	r.publish(ctx, report)
	return report, err
}

// signOne makes one statement: the signed document first, then the entry that
// names it. A process that dies in between leaves an artifact that nothing names.
func (d *Desk) signOne(dr *Draft, s Signer) error {
	r := d.r
	by, err := d.signerOf(dr, s.KeyID)
	if err != nil {
		return err
	}
	st := Statement{
		APIVersion: manifests.APIVersion, Kind: dr.Kind, Product: r.bundle.Info().Product, Site: r.opts.Site.Name, RunID: r.st.run.RunID,
		Item: dr.Item, Statement: dr.Text, StatementSHA256: sumOf([]byte(dr.Text)), InputHash: dr.hash, By: by,
		At: r.opts.Now().UTC().Format(time.RFC3339), Evidence: dr.Evidence, Reason: dr.reason, Risk: dr.risk, Ledger: r.st.ledger.head,
	}
	if !dr.Until.IsZero() {
		st.ValidUntil = dr.Until.Format(time.RFC3339)
	}
	payload, err := st.Payload()
	if err != nil {
		return err
	}
	if st.Sig, err = s.Sign(payload); err != nil {
		return fmt.Errorf("sign statement about %s: %w", dr.Item, err)
	}
	for _, who := range r.opts.People { // a key that does not fit its listed half must not get into the ledger
		if who.Fingerprint == s.KeyID {
			if err := who.Check(payload, st.Sig); err != nil {
				return &SignerError{Item: dr.Item, KeyID: s.KeyID, Text: "what it signs does not verify: " + err.Error()}
			}
		}
	}
	raw, err := canonical(st)
	if err != nil {
		return err
	}
	if _, err := r.st.keep(raw); err != nil {
		return err
	}
	event := eventAttested
	if dr.Kind == KindWaiver {
		event = eventWaived
	}
	return r.st.record(dr.Item, event, st)
}

// settle ends the item of a draft whose signatures are enough, and says who is
// missing where they are not.
func (r *run) settle(ctx context.Context, dr *Draft) error {
	n, rec := dr.n, *r.rec[dr.Item]
	rec.Seq = 0
	j := r.judge(n, dr.Kind, dr.hash)
	switch {
	case dr.Kind == KindWaiver && !j.complete():
		return nil // the item stays as it is, and says so itself
	case dr.Kind == KindWaiver:
		return r.conclude(n, &rec) // which waives it
	case j.complete() && len(n.item.Outputs) > 0:
		return r.execute(ctx, n) // which reads the outputs again
	case rec.State.settled():
		return nil
	}
	rec.State, rec.Reason, rec.InputHash, rec.FinishedAt = StateWaiting, j.waits(dr.Text), dr.hash, r.opts.Now().UTC()
	if j.complete() {
		rec.State, rec.Reason = StateAttested, "stated by "+j.names()
	}
	return r.conclude(n, &rec)
}
