// Package install runs a product's installation checklist out of a verified
// bundle and keeps a record that shows if anybody changed it.
//
// The checklist is data: typed inputs, phases, items with conditions, probes,
// actions and attestations. The engine knows no product. What a step does is a
// [Probe] or an [Action], which the caller registers by kind; a kind that is
// not registered leaves its item unavailable, never passed.
//
// A run writes a state directory: run.json (where the installation stands),
// ledger.jsonl (what happened, hash-chained), artifacts/ (the checklist, evidence,
// signed statements and large data, by digest), checkpoints.jsonl (signatures over the ledger's head),
// report.json (the last report, whose digest the ledger holds) and lock. Secrets
// are held by reference; their values reach the step that needs them and nothing
// else.
package install

import (
	"context"
	"fmt"
	"time"

	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/verify"
)

// Options say how a checklist is run. Site is required, and so is State except
// in a dry run.
type Options struct {
	Site    *manifests.Site
	SiteDir string // relative paths in Site are relative to it; "" is the working directory
	State   string // the state directory; created with mode 0700
	Render  string // where steps put rendered files; "" is State/render
	// GitOps leaves the cluster to something else that applies what is in Render:
	// Argo CD, Flux, a person. Steps that are a [Renderer] change nothing. Their
	// objects are written into a tree there, with a kustomization, and their items
	// wait until the cluster holds them. Render has to be given.
	GitOps bool
	// Values are merged into the values of charts, after everything else. Kinds
	// that use them let them count through Grounds.
	Values []ValuesFile

	Phases string   // "1-4", "p2,5"; with Items, what either names; both empty means everything
	Items  []string // ids; a group stands for its children

	// KeepGoing lets actions start although a required item has failed. Checks
	// that do not depend on the failed item run in either case.
	KeepGoing bool
	DryRun    bool // run checks, show what actions would do, change nothing
	// Resume keeps what has passed and is still valid: what it rests on is
	// unchanged, and of an action, Plan finds nothing to do.
	Resume bool

	Probes  map[string]Probe
	Actions map[string]Action

	// Secret resolves env:NAME and file:PATH. Nil means [SecretsFrom] SiteDir.
	Secret func(ref string) ([]byte, error)

	// Sign signs ledger checkpoints with the operator's key; KeyID is that
	// key's fingerprint. Nil leaves checkpoints unsigned, and the report says so.
	Sign  func(payload []byte) ([]byte, error)
	KeyID string

	// People are those whose statements and waivers count. Without them none
	// does.
	People []Person

	// Guard keeps a second machine from installing the site at the same time;
	// Compare holds the record against its copy before anything is done, and may
	// warn or refuse with a *ForkError, any other error is a warning;
	// Publish copies the record to where it survives this machine, and may warn.
	// Each may be nil. A dry run calls none.
	Guard   Guard
	Compare func(ctx context.Context, p Published) (warning string, err error)
	Publish func(ctx context.Context, p Published) (warning string, err error)

	Actor    string           // who runs this, for the ledger
	Tool     string           // version of Airlock, for the ledger
	Bundle   string           // path of the bundle's file, for those who go on later; may be empty
	Now      func() time.Time // nil means time.Now
	Listener Listener

	onWrite func() error // for tests: called before and after each write to the state directory; an error is the disk's
	onTree  func() error // the same for the directory of a GitOps tree
}

// Event tells a listener what the engine does.
type Event struct {
	Op    string // run-started, item-started, step-started, step-planned, step-finished, item-finished
	Items int    // with run-started: how many items will end
	Phase int    // number of the item's phase
	Item  string
	Title string
	Step  string // with the step operations
	Run   string // the step's kind, with the step operations
	State State  // with item-finished
	// Started says, with item-finished, that the item was begun in this run.
	Started bool
	Text    string // the reason of State, for people; no secrets
	// Plan is, with step-planned, what the step is about to change; no secrets.
	Plan *Change
}

// Listener receives events one at a time and must be quick. A nil Listener is
// never called.
type Listener func(Event)

func (l Listener) send(e Event) {
	if l != nil {
		l(e)
	}
}

// Run checks the checklist carried by b and the site's answers, then runs the
// selected items. Documents that are wrong give a *ChecklistError, an
// *InputError, a *SelectionError or a *MismatchError before anything has run. A
// state directory in use gives a *LockedError, one that was tampered with a
// *LedgerError. Once items have run a report is returned, beside the error too:
// the outcome of items is in Report.Status, the error says why the run could
// not go on.
func Run(ctx context.Context, b *verify.Bundle, o Options) (*Report, error) {
	e, err := Load(ctx, b, o)
	if err != nil {
		return nil, err
	}
	return e.Run(ctx)
}

// Engine is a checklist bound to a bundle and a site, fully checked and not yet
// run.
type Engine struct {
	bundle    carrier
	verified  *verify.Bundle
	opts      Options
	checklist *manifests.Checklist
	document  []byte // the checklist as it is carried
	source    string // its digest
	plan      *plan
	selected  map[string]bool // nil means all
	answers   *answers
	redact    *redactor
	parallel  int // items that run side by side
}

// Load reads the checklist out of b and checks it together with the site's
// answers, the selection and the registered kinds. It changes nothing.
func Load(ctx context.Context, b *verify.Bundle, o Options) (*Engine, error) {
	c, document, source, err := readChecklist(ctx, b)
	if err != nil {
		return nil, err
	}
	e, err := newEngine(b, c, o)
	if err != nil {
		return nil, err
	}
	e.verified, e.document, e.source = b, document, source
	return e, nil
}

// newEngine checks everything that can be checked before a run.
func newEngine(b carrier, c *manifests.Checklist, o Options) (*Engine, error) {
	if o.Site == nil {
		return nil, fmt.Errorf("install %s: no site is given", c.Product)
	}
	if o.State == "" && !o.DryRun {
		return nil, fmt.Errorf("install %s: no state directory is given", c.Product)
	}
	if o.GitOps && o.Render == "" {
		return nil, fmt.Errorf("install %s: no directory is given for the controller's objects", c.Product)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Secret == nil {
		o.Secret = SecretsFrom(o.SiteDir)
	}
	if err := match(b.Info(), c, o.Site); err != nil {
		return nil, err
	}
	p, err := compile(c, o.Probes, o.Actions)
	if err != nil {
		return nil, err
	}
	e := &Engine{bundle: b, opts: o, checklist: c, plan: p, redact: &redactor{}, parallel: maxParallel}
	if e.selected, err = selection(c, o.Phases, o.Items); err != nil {
		return nil, err
	}
	if e.answers, err = p.answer(o.Site, o.SiteDir, b.Info()); err != nil {
		return nil, err
	}
	return e, nil
}
