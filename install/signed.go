package install

import (
	"fmt"
	"maps"
	"slices"
)

// notCovered is why a result that no signature covers is done again.
const notCovered = "it is not covered by a signed checkpoint of the ledger"

// checkSigned holds the ledger against its checkpoints and returns the last entry
// that one by a listed key covers. A site with an identity has to have one, once
// a run has ended.
func (r *run) checkSigned() (int64, error) {
	points, err := readCheckpoints(r.st.root)
	if err != nil {
		return 0, err
	}
	var covered int64
	hashes := r.st.memory.hashes
	for i, c := range points {
		if c.Seq < 1 || c.Seq > int64(len(hashes)) || hashes[c.Seq-1] != c.Head {
			return 0, &LedgerError{Text: fmt.Sprintf("checkpoint %d names another entry %d: the ledger was cut or rewritten", i+1, c.Seq)}
		}
		for _, who := range r.opts.People {
			if who.Fingerprint != c.KeyID {
				continue
			}
			if err := checkSignatures(points[i:i+1], func(_ string, payload, sig []byte) error { return who.Check(payload, sig) }); err != nil {
				return 0, err
			}
			covered = max(covered, c.Seq)
			break
		}
	}
	if r.opts.Site.Identity != nil && covered == 0 && r.st.traced.ended {
		return 0, &LedgerError{Text: "it has no checkpoint signed by a key that the site lists, although a run has ended: restore " + fileCheckpoints + " from a copy of the state directory, or begin a new record with another --state"}
	}
	return covered, nil
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
