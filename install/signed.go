package install

import (
	"fmt"
	"maps"
	"slices"
)

// notCovered is why a result that no signature covers is done again.
const notCovered = "it is not covered by a signed checkpoint of the ledger"

// checkSigned holds the ledger against its checkpoints and returns the last entry
// that one by a listed key covers. A site with an identity has to have one where
// the ledger shows that there was one: the end of a first run can have lost its
// own to a kill, and runs before there was an identity had none.
func (r *run) checkSigned() (int64, error) {
	points, err := readCheckpoints(r.st.root)
	if err != nil {
		return 0, err
	}
	hashes := r.st.memory.hashes
	for i, c := range points {
		if c.Seq < 1 || c.Seq > int64(len(hashes)) || hashes[c.Seq-1] != c.Head {
			return 0, &LedgerError{Text: fmt.Sprintf("checkpoint %d names another entry %d: the ledger was cut or rewritten", i+1, c.Seq)}
		}
	}
	s, err := checkSignatures(points, CheckBy(r.opts.People))
	if err != nil {
		return 0, err
	}
	if r.opts.Site.Identity == nil || s.to > 0 {
		return s.to, nil
	}
	if len(s.unlisted) > 0 {
		return 0, &UnlistedError{Keys: s.unlisted}
	}
	if r.st.traced.missing {
		return 0, &LedgerError{Text: "it has no checkpoint signed by a key that the site lists, although a run has ended: restore " + fileCheckpoints + " from a copy of the state directory, or begin a new record with another --state"}
	}
	return 0, nil
}

// distrust makes stale what no signature covers, at a site with an identity: a
// killed run leaves such results, and so does whoever can write the directory.
func (r *run) distrust() error {
	if r.opts.Site.Identity == nil {
		return nil
	}
	covered, err := r.checkSigned()
	if err != nil {
		return err
	}
	if covered == 0 && r.st.traced.open {
		if err := r.st.record("", eventUnsigned, map[string]any{"reason": "the last run ended, and its checkpoint is not there"}); err != nil {
			return err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(r.st.run.Items)) {
		rec := r.st.run.Items[id]
		if !rec.State.settled() || rec.Seq <= covered {
			continue
		}
		if err := r.st.record(id, eventStale, map[string]any{"was": string(rec.State), "reason": notCovered}); err != nil {
			return err
		}
		rec.State, rec.Reason = StateStale, notCovered
	}
	return nil
}

// doubt does to what is looked at, in memory, what distrust does when a run
// begins.
func (r *run) doubt() error {
	if r.opts.Site.Identity == nil {
		return nil
	}
	covered, err := r.checkSigned()
	if err != nil {
		return err
	}
	for _, rec := range r.st.run.Items {
		if rec.State.settled() && rec.Seq > covered {
			rec.State, rec.Reason = StateStale, notCovered
		}
	}
	return nil
}
