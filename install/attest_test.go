package install

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/manifests"
)

// pen is a person's key. The engine does not care what signs.
type pen struct {
	id   string
	priv ed25519.PrivateKey
}

func newPen(t *testing.T) pen {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return pen{"SHA256:" + sumOf(pub), priv}
}

func (p pen) signer() Signer {
	return Signer{KeyID: p.id, Sign: func(b []byte) ([]byte, error) { return ed25519.Sign(p.priv, b), nil }}
}

func (p pen) as(name, role string) Person {
	return Person{Name: name, Role: role, Fingerprint: p.id, Check: func(payload, sig []byte) error {
		if !ed25519.Verify(p.priv.Public().(ed25519.PublicKey), payload, sig) {
			return errors.New("bad signature")
		}
		return nil
	}}
}

const tasteLine = `{statement: "I drank from ${in.kettle.name}", roles: [brewer], reason: machines do not taste}`

// pub is a shop whose taste item asks for more, and the people of its site.
type pub struct {
	*shop
	alice, bob, carol pen
}

// newPub replaces parts of the brewery's checklist, "old", "new" in turns.
func newPub(t *testing.T, edits ...string) *pub {
	t.Helper()
	s := newShop(t)
	text := strings.NewReplacer(edits...).Replace(string(s.doc))
	if text == string(s.doc) && len(edits) > 0 {
		t.Fatal("nothing was replaced")
	}
	list, err := manifests.ParseChecklist("brewery.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	s.list, s.doc = list, []byte(text)
	p := &pub{s, newPen(t), newPen(t), newPen(t)}
	s.opts.People = []Person{p.alice.as("Alice", "brewer"), p.bob.as("Bob", "brewer"), p.bob.as("Bob", "owner"), p.carol.as("Carol", "guest")}
	s.opts.Resume = true
	return p
}

// withDesk opens the desk for f.
func (p *pub) withDesk(f func(*Desk)) {
	p.t.Helper()
	d, err := OpenDesk(p.t.Context(), nil, p.opts)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			p.t.Error(err)
		}
	}()
	f(d)
}

// attest signs taste with each of the pens.
func (p *pub) attest(files []ProofFile, pens ...pen) (*Report, error) {
	p.t.Helper()
	var rep *Report
	var err error
	p.withDesk(func(d *Desk) {
		var dr *Draft
		if dr, err = d.Attest(p.t.Context(), "taste", files); err != nil {
			return
		}
		rep, err = d.Sign(p.t.Context(), dr, signers(pens)...)
	})
	return rep, err
}

func (p *pub) mustAttest(pens ...pen) *Report {
	p.t.Helper()
	rep, err := p.attest(nil, pens...)
	if err != nil {
		p.t.Fatal(err)
	}
	return rep
}

func (p *pub) waive(id, reason, risk string, pens ...pen) (*Report, error) {
	p.t.Helper()
	var rep *Report
	var err error
	p.withDesk(func(d *Desk) {
		var dr *Draft
		if dr, err = d.Waive(id, reason, risk, nil); err != nil {
			return
		}
		rep, err = d.Sign(p.t.Context(), dr, signers(pens)...)
	})
	return rep, err
}

func signers(pens []pen) []Signer {
	var out []Signer
	for _, p := range pens {
		out = append(out, p.signer())
	}
	return out
}

func TestAttest(t *testing.T) {
	t.Parallel()
	p := newPub(t)
	p.run()
	rep := p.mustAttest(p.alice)
	wantStates(t, rep, map[string]State{"taste": StateAttested})
	if rep.Status != StatusDone {
		t.Errorf("status %s:\n%s", rep.Status, rep.Text())
	}
	got := item(t, rep, "taste").Statements
	if len(got) != 1 || !got[0].Counts || got[0].Name != "Alice" || got[0].Statement != "I drank from kettle.example.internal" {
		t.Errorf("statements %+v", got)
	}
	// It holds in every later run, with and without --resume.
	for _, resume := range []bool{true, false} {
		p.opts.Resume = resume
		if rep = p.run(); rep.Status != StatusDone {
			t.Errorf("resume %v: status %s:\n%s", resume, rep.Status, rep.Text())
		}
	}
	if again, err := ReadReport(p.opts.State); err != nil || again.Text() != rep.Text() {
		t.Errorf("read back: %v", err)
	}
	if _, err := VerifyState(p.opts.State, nil); err != nil {
		t.Error(err)
	}
	if err := VerifyStatements(p.opts.State, p.opts.People, nil); err != nil {
		t.Error(err)
	}
	p.opts.DryRun = true
	wantStates(t, p.run(), map[string]State{"taste": StateAttested})
}

func TestAttestNeedsSeveral(t *testing.T) {
	t.Parallel()
	p := newPub(t, "roles: [brewer],", "roles: [brewer], min_signers: 2,")
	p.run()
	rep := p.mustAttest(p.alice)
	wantStates(t, rep, map[string]State{"taste": StateWaiting})
	if want := "1 of 2 signed: Alice (brewer); brewer has to state: I drank"; !strings.Contains(item(t, rep, "taste").Reason, want) {
		t.Errorf("reason %q, want %q", item(t, rep, "taste").Reason, want)
	}
	// The same key again is the same person.
	wantStates(t, p.mustAttest(p.alice), map[string]State{"taste": StateWaiting})
	wantStates(t, p.mustAttest(p.alice, p.alice), map[string]State{"taste": StateWaiting})
	// So is another key of the same person.
	other := newPen(t)
	p.opts.People = append(p.opts.People, other.as("Alice", "brewer"))
	wantStates(t, p.mustAttest(other), map[string]State{"taste": StateWaiting})
	wantStates(t, p.mustAttest(p.bob), map[string]State{"taste": StateAttested})
	wantStates(t, p.run(), map[string]State{"taste": StateAttested})
}

func TestAttestRefused(t *testing.T) {
	t.Parallel()
	p := newPub(t)
	stranger := newPen(t)
	if _, err := OpenDesk(t.Context(), nil, p.opts); errors.As(err, new(*NoRunError)) == false {
		t.Errorf("before a run: %v", err)
	}
	if _, err := os.Stat(p.opts.State); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a desk made the state directory: %v", err)
	}
	p.run()
	before := ledgerLines(t, p.opts.State)
	for who, key := range map[string]pen{"wrong role": p.carol, "not listed": stranger} {
		_, err := p.attest(nil, key)
		if _, ok := errors.AsType[*SignerError](err); !ok {
			t.Errorf("%s: %v", who, err)
		}
	}
	liar := p.alice.signer()
	liar.Sign = stranger.signer().Sign
	p.withDesk(func(d *Desk) {
		dr, err := d.Attest(t.Context(), "taste", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Sign(t.Context(), dr, liar); !errors.As(err, new(*SignerError)) {
			t.Errorf("another's signature: %v", err)
		}
		if _, err := d.Attest(t.Context(), "mash", nil); !errors.As(err, new(*StatementError)) {
			t.Errorf("an action: %v", err)
		}
		if _, err := d.Attest(t.Context(), "cool", nil); !errors.As(err, new(*StatementError)) {
			t.Errorf("what does not apply: %v", err)
		}
		if _, err := d.Attest(t.Context(), "nope", nil); !errors.As(err, new(*SelectionError)) {
			t.Errorf("what is not there: %v", err)
		}
	})
	for _, line := range ledgerLines(t, p.opts.State)[len(before):] {
		if strings.Contains(line, `"event":"attested"`) {
			t.Errorf("it got into the ledger: %s", line)
		}
	}
}

func TestAttestAfterItsChecks(t *testing.T) {
	t.Parallel()
	p := newPub(t, "attestation: "+tasteLine, "probes: [{id: look, run: look, with: {name: glass}, codes: [KET-01]}]\n    messages: {KET-01: {cause: \"{{.name}} is dirty\", fix: \"wash {{.name}} with {{.tool}}\"}}\n    attestation: "+tasteLine)
	p.fail["glass"] = Finding{Code: "KET-01", Fields: map[string]string{"name": "glass", "tool": "soap"}}
	wantStates(t, p.run(), map[string]State{"taste": StateFail})
	_, err := p.attest(nil, p.alice)
	e, ok := errors.AsType[*StatementError](err)
	if !ok || !e.Probes || !strings.Contains(err.Error(), "KET-01: glass is dirty; wash glass with soap") {
		t.Fatalf("error %v", err)
	}
	delete(p.fail, "glass")
	wantStates(t, p.mustAttest(p.alice), map[string]State{"taste": StateAttested})
	// What it comes after must be done.
	p.fail["kettle.example.internal"] = Finding{Detail: "mould"}
	p.opts.Resume = false
	p.run()
	_, err = p.attest(nil, p.alice)
	if e, ok := errors.AsType[*StatementError](err); !ok || !e.Probes || !strings.Contains(err.Error(), "it needs brew") {
		t.Errorf("error %v", err)
	}
}

func TestStatementsGoStale(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(p *pub)
		want   string // in the reason; "" means it still counts
	}{
		"nothing":         {func(*pub) {}, ""},
		"an unused input": {func(p *pub) { p.opts.Site.Inputs["hops.kind"] = "saaz" }, ""},
		"an input":        {func(p *pub) { p.opts.Site.Inputs["kettle.name"] = "other.example.internal" }, "another statement"},
		"the definition": {func(p *pub) {
			p.list.Items[slices.IndexFunc(p.list.Items, func(i manifests.Item) bool { return i.ID == "taste" })].Attest.Reason = "another reason"
		}, "has changed"},
		"another bundle":      {func(p *pub) { p.bun.info.Digest = "sha256:" + "ab" }, "has changed"},
		"time":                {func(p *pub) { p.clock = p.clock.Add(25 * time.Hour) }, "it held until"},
		"almost the time":     {func(p *pub) { p.clock = p.clock.Add(23 * time.Hour) }, ""},
		"the clock went back": {func(p *pub) { p.clock = p.clock.Add(-time.Hour) }, "which is to come"},
		"the person left":     {func(p *pub) { p.opts.People = p.opts.People[1:] }, "the site does not list the key"},
		"another role":        {func(p *pub) { p.opts.People[0].Role = "guest" }, "another role"},
		"work changed":        {func(p *pub) { p.made["boil"], p.does["boil"] = false, true }, "boil has changed something since"},
		"work was as it was":  {func(p *pub) { p.made["boil"] = false }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPub(t, "roles: [brewer],", "roles: [brewer], valid_for: 24h,")
			p.run()
			p.mustAttest(p.alice)
			c.change(p)
			rep := p.run()
			got := item(t, rep, "taste")
			if c.want == "" {
				if got.State != StateAttested {
					t.Errorf("%s: %s", got.State, got.Reason)
				}
				return
			}
			if got.State != StateWaiting || !strings.Contains(got.Reason, c.want) {
				t.Errorf("%s: %q, want %q", got.State, got.Reason, c.want)
			}
			if !strings.Contains(strings.Join(ledgerLines(t, p.opts.State), ""), `"event":"stale"`) {
				t.Error("the ledger does not say stale")
			}
			// A later run without the change of work must not bring it back.
			if rep = p.run(); item(t, rep, "taste").State != StateWaiting {
				t.Error("it came back to life")
			}
		})
	}
}

func TestEvidence(t *testing.T) {
	t.Parallel()
	png := []byte("\x89PNG\r\n\x1a\n and the rest")
	for name, c := range map[string]struct {
		files []ProofFile
		want  string // of the error; "" is none
	}{
		"as asked":        {[]ProofFile{{"photo", png}, {"note", []byte("it tasted well")}}, ""},
		"optional absent": {[]ProofFile{{"photo", png}}, ""},
		"required absent": {[]ProofFile{{"note", []byte("x")}}, "it is required and missing"},
		"unknown name":    {[]ProofFile{{"photo", png}, {"video", png}}, "asks for no such evidence"},
		"twice":           {[]ProofFile{{"photo", png}, {"photo", png}}, "given twice"},
		"another type":    {[]ProofFile{{"photo", []byte("<html><body>no picture")}}, "the file is text/html, want image/png or image/jpeg"},
		"empty":           {[]ProofFile{{"photo", nil}}, "the file is empty"},
		"too large":       {[]ProofFile{{"photo", make([]byte, MaxProof+1)}}, "at most"},
		"a secret":        {[]ProofFile{{"photo", png}, {"note", []byte("the password is hunter2-and-more")}}, "holds a secret"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPub(t, "roles: [brewer],", "roles: [brewer], evidence: [{name: photo, media: [image/png, image/jpeg], required: true}, {name: note, media: [text/markdown]}],")
			p.run()
			rep, err := p.attest(c.files, p.alice)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %v, want %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for i, ev := range item(t, rep, "taste").Statements[0].Evidence {
				raw, err := os.ReadFile(filepath.Join(p.opts.State, dirArtifacts, ev.SHA256))
				if err != nil || string(raw) != string(c.files[i].Data) {
					t.Errorf("%+v: %v", ev, err)
				}
			}
		})
	}
}

func TestWaive(t *testing.T) {
	t.Parallel()
	p := newPub(t, "    freshness: 1h\n", "    freshness: 1h\n    waiver: {role: owner}\n")
	p.fail["kettle.example.internal"] = Finding{Detail: "mould"}
	wantStates(t, p.run(), map[string]State{"clean-kettle": StateFail, "mash": StateBlocked})
	if _, err := p.waive("clean-kettle", "", "", p.alice); !errors.As(err, new(*StatementError)) {
		t.Errorf("without a reason: %v", err)
	}
	if _, err := p.waive("mash", "r", "k", p.alice); err == nil || !strings.Contains(err.Error(), "does not allow to waive") {
		t.Errorf("without waiver: %v", err)
	}
	rep, err := p.waive("clean-kettle", "it boils anyway", "a bad taste", p.alice)
	if err != nil {
		t.Fatal(err)
	}
	wantStates(t, rep, map[string]State{"clean-kettle": StateFail, "mash": StateBlocked})
	// The same key twice is one person, and another risk is another waiver.
	if rep, err = p.waive("clean-kettle", "", "", p.alice, p.alice); err != nil {
		t.Fatal(err)
	}
	wantStates(t, rep, map[string]State{"clean-kettle": StateFail})
	// Two people, neither of them with the role that is asked for.
	if rep, err = p.waive("clean-kettle", "", "", p.carol); err != nil {
		t.Fatal(err)
	}
	wantStates(t, rep, map[string]State{"clean-kettle": StateFail})
	// Bob is an owner.
	if rep, err = p.waive("clean-kettle", "", "", p.bob); err != nil {
		t.Fatal(err)
	}
	wantStates(t, rep, map[string]State{"clean-kettle": StateWaived})
	if got := item(t, rep, "clean-kettle").Reason; !strings.Contains(got, "it is fail, and the risk is taken by") || !strings.Contains(got, "a bad taste") {
		t.Errorf("reason %q", got)
	}
	rep = p.run()
	wantStates(t, rep, map[string]State{"clean-kettle": StateWaived, "mash": StatePass, "taste": StateWaiting})
	if _, err := p.waive("clean-kettle", "r", "k", p.bob); err == nil || !strings.Contains(err.Error(), "nothing to waive") {
		t.Errorf("what is waived: %v", err)
	}
	p.opts.Site.Inputs["kettle.size"] = int64(11)
	wantStates(t, p.run(), map[string]State{"clean-kettle": StateFail, "mash": StateBlocked})
}

// TestWaivedWithoutAStep shows that a resumed run does not ask a step that this
// version lacks whether what nobody did is still there.
func TestWaivedWithoutAStep(t *testing.T) {
	t.Parallel()
	p := newPub(t, "    needs: [clean-kettle]\n    outputs:", "    needs: [clean-kettle]\n    waiver: {}\n    outputs:")
	delete(p.opts.Actions, "change")
	wantStates(t, p.run(), map[string]State{"mash": StateUnavailable})
	rep, err := p.waive("mash", "it was done by hand", "nobody looked", p.alice, p.bob)
	if err != nil {
		t.Fatal(err)
	}
	wantStates(t, rep, map[string]State{"mash": StateWaived})
	wantStates(t, p.run(), map[string]State{"mash": StateWaived})
}

func TestWaiverIsOfOneRisk(t *testing.T) {
	t.Parallel()
	p := newPub(t, "    freshness: 1h\n", "    freshness: 1h\n    waiver: {}\n")
	p.fail["kettle.example.internal"] = Finding{Detail: "mould"}
	p.run()
	if _, err := p.waive("clean-kettle", "it boils anyway", "a bad taste", p.alice); err != nil {
		t.Fatal(err)
	}
	rep, err := p.waive("clean-kettle", "it boils anyway", "none", p.bob)
	if err != nil {
		t.Fatal(err)
	}
	wantStates(t, rep, map[string]State{"clean-kettle": StateFail})
	rep, err = p.waive("clean-kettle", "", "", p.alice, p.carol)
	if err != nil {
		t.Fatal(err)
	}
	wantStates(t, rep, map[string]State{"clean-kettle": StateWaived})
}

// rewrite makes the ledger anew with one statement changed, chain and all, as
// somebody who can write the directory would.
func rewrite(t *testing.T, p *pub, edit func(e *Entry, s *Statement)) {
	t.Helper()
	head := Head{Hash: zeros}
	var out []string
	for _, line := range ledgerLines(t, p.opts.State) {
		var e Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if e.Event == eventAttested || e.Event == eventWaived {
			var s Statement
			if err := json.Unmarshal(e.Data, &s); err != nil {
				t.Fatal(err)
			}
			edit(&e, &s)
			raw, err := canonical(s)
			if err != nil {
				t.Fatal(err)
			}
			e.Data, e.DataSHA256 = raw, sumOf(raw)
			write(t, filepath.Join(p.opts.State, dirArtifacts), e.DataSHA256, string(raw))
		}
		e.Prev = head.Hash
		var err error
		if e.Hash, err = e.sum(); err != nil {
			t.Fatal(err)
		}
		raw, err := e.line()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(raw))
		head = Head{Seq: e.Seq, Hash: e.Hash}
	}
	write(t, p.opts.State, fileLedger, strings.Join(out, ""))
	patch(t, p.opts.State, func(s *snapshot) { s.Ledger = head })
	if err := os.Remove(filepath.Join(p.opts.State, fileReport)); err != nil {
		t.Fatal(err)
	}
}

func TestForgedStatements(t *testing.T) {
	t.Parallel()
	sign := func(t *testing.T, s *Statement, key pen) {
		payload, err := s.Payload()
		if err != nil {
			t.Fatal(err)
		}
		s.Sig = ed25519.Sign(key.priv, payload)
	}
	for name, c := range map[string]struct {
		edit func(t *testing.T, p *pub, e *Entry, s *Statement)
		want string
	}{
		"wrong key":       {func(t *testing.T, p *pub, _ *Entry, s *Statement) { sign(t, s, p.carol) }, "not by the key that it names"},
		"no signature":    {func(_ *testing.T, _ *pub, _ *Entry, s *Statement) { s.Sig = nil }, "not by the key that it names"},
		"signer edited":   {func(_ *testing.T, p *pub, _ *Entry, s *Statement) { s.By.Name = "Eve" }, "forged or edited"},
		"another's name":  {func(_ *testing.T, p *pub, _ *Entry, s *Statement) { s.By.KeyFingerprint = p.bob.id }, "forged or edited"},
		"role edited":     {func(_ *testing.T, p *pub, _ *Entry, s *Statement) { s.By.Role = "owner" }, "forged or edited"},
		"time edited":     {func(_ *testing.T, _ *pub, _ *Entry, s *Statement) { s.At = "2027-01-01T00:00:00Z" }, "forged or edited"},
		"end edited":      {func(_ *testing.T, _ *pub, _ *Entry, s *Statement) { s.ValidUntil = "" }, "forged or edited"},
		"hash edited":     {func(_ *testing.T, _ *pub, _ *Entry, s *Statement) { s.InputHash = sumOf(nil) }, "forged or edited"},
		"evidence edited": {func(_ *testing.T, _ *pub, _ *Entry, s *Statement) { s.Evidence = nil }, "forged or edited"},
		"statement edited": {func(_ *testing.T, _ *pub, _ *Entry, s *Statement) {
			s.Statement = "I drank nothing"
		}, "the statement's text does not fit its digest"},
		"statement and digest edited": {func(_ *testing.T, _ *pub, _ *Entry, s *Statement) {
			s.Statement, s.StatementSHA256 = "I drank nothing", sumOf([]byte("I drank nothing"))
		}, "forged or edited"},
		"another item": {func(_ *testing.T, _ *pub, e *Entry, _ *Statement) { e.Item = "mash" }, "it was copied"},
		"another item, edited": {func(_ *testing.T, _ *pub, e *Entry, s *Statement) {
			e.Item, s.Item = "mash", "mash"
		}, "forged or edited"},
		"another site":   {func(t *testing.T, p *pub, _ *Entry, s *Statement) { s.Site = "attic"; sign(t, s, p.alice) }, "it was copied"},
		"another ledger": {func(t *testing.T, p *pub, _ *Entry, s *Statement) { s.Ledger.Hash = sumOf(nil); sign(t, s, p.alice) }, "signed over another ledger"},
		"another kind": {func(t *testing.T, p *pub, _ *Entry, s *Statement) {
			s.Kind = KindWaiver
			sign(t, s, p.alice)
		}, "want Attestation"},
		"as a waiver": {func(_ *testing.T, p *pub, e *Entry, s *Statement) {
			e.Event, s.Kind = eventWaived, KindWaiver
		}, "forged or edited"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPub(t, "roles: [brewer],", "roles: [brewer], valid_for: 24h, evidence: [{name: photo}],")
			p.run()
			if _, err := p.attest([]ProofFile{{"photo", []byte("a glass")}}, p.alice); err != nil {
				t.Fatal(err)
			}
			rewrite(t, p, func(e *Entry, s *Statement) { c.edit(t, p, e, s) })
			p.refuses(c.want)
		})
	}
}

// refuses asserts that every way in finds the statement out.
func (p *pub) refuses(want string) {
	p.t.Helper()
	_, run := p.try(p.t.Context())
	ways := map[string]error{"run": run, "verify": VerifyStatements(p.opts.State, p.opts.People, nil)}
	_, ways["desk"] = OpenDesk(p.t.Context(), nil, p.opts)
	_, ways["look"] = LookDesk(p.t.Context(), p.opts)
	dry := p.opts.DryRun
	p.opts.DryRun = true
	_, ways["dry run"] = p.try(p.t.Context())
	p.opts.DryRun = dry
	for way, err := range ways {
		if _, ok := errors.AsType[*LedgerError](err); !ok || !strings.Contains(err.Error(), want) {
			p.t.Errorf("%s: error %v, want %q", way, err, want)
		}
	}
}

func TestEvidenceTampered(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit func(t *testing.T, artifact string)
		want string
	}{
		"swapped": {func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte("another glass"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "was changed"},
		"gone": {func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}, "is gone"},
	} {
		p := newPub(t, "roles: [brewer],", "roles: [brewer], evidence: [{name: photo}],")
		p.run()
		if _, err := p.attest([]ProofFile{{"photo", []byte("a glass")}}, p.alice); err != nil {
			t.Fatal(err)
		}
		c.edit(t, filepath.Join(p.opts.State, dirArtifacts, sumOf([]byte("a glass"))))
		t.Log(name)
		p.refuses(c.want)
	}
}

// TestRunJSONClaims: run.json is nobody's signature.
func TestRunJSONClaims(t *testing.T) {
	t.Parallel()
	for _, s := range []State{StateAttested, StateWaived, StatePass, StateWarn} {
		p := newPub(t)
		p.run()
		patch(t, p.opts.State, func(snap *snapshot) { snap.Items["taste"].State = s })
		_, err := p.try(t.Context())
		if _, ok := errors.AsType[*LedgerError](err); !ok || !strings.Contains(err.Error(), "nobody has signed that") {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func TestDeskAndRunExcludeEachOther(t *testing.T) {
	p := newPub(t)
	p.run()
	p.withDesk(func(*Desk) {
		_, err := p.try(context.WithoutCancel(t.Context()))
		if _, ok := errors.AsType[*LockedError](err); !ok {
			t.Errorf("error %v, want *LockedError", err)
		}
		look, err := LookDesk(t.Context(), p.opts)
		if err != nil {
			t.Fatal(err)
		}
		if rep := look.Report(); states(rep)["taste"] != StateWaiting || rep.Ledger.Seq == 0 {
			t.Errorf("%+v", rep)
		}
		if err := look.Close(); err != nil {
			t.Error(err)
		}
	})
}
