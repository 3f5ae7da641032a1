package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// eventRemoved says that an object was taken out of the cluster, or why not.
const eventRemoved = "removed"

// Removal is what became of one object.
type Removal struct {
	Kept
	Removed bool   `json:"removed"`          // with a reason: begun, and not ended
	Reason  string `json:"reason,omitempty"` // why it was left, or what went wrong
}

// uninstalled is the reason of items whose objects were removed.
const uninstalled = "it was uninstalled"

// Uninstall takes objects out of the cluster, the last one first, and records
// each in the ledger. remove reports whether the object was there and ours, and
// why it was left if it was not; its error does not keep the others from being
// removed. With an error, removed says that the removal has begun. Items lose their result once one of their objects is gone, and whatever rests on them with
// them: a later run does them again.
func (d *Desk) Uninstall(ctx context.Context, list []Kept, remove func(context.Context, Kept) (removed bool, reason string, err error)) ([]Removal, *Report, error) {
	r := d.r
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Removal
	var failed []error
	for _, k := range slices.Backward(list) {
		if err := ctx.Err(); err != nil {
			failed = append(failed, err)
			break
		}
		res := Removal{Kept: k}
		var err error
		res.Removed, res.Reason, err = remove(ctx, k)
		if err != nil {
			failed = append(failed, fmt.Errorf("remove %s: %w", k.Object, err))
			res.Reason = r.redact.text(err.Error())
		}
		out = append(out, res)
		if err := r.removed(res); err != nil {
			return out, nil, errors.Join(append(failed, err)...)
		}
	}
	if err := r.survey(); err != nil {
		return out, nil, errors.Join(append(failed, err)...)
	}
	report, err := r.finish(len(failed) > 0)
	r.publish(ctx, report)
	return out, report, errors.Join(append(failed, err)...)
}

// removed records what became of an object, and that its item no longer stands.
func (r *run) removed(res Removal) error {
	if err := r.st.record(res.Item, eventRemoved, res); err != nil {
		return err
	}
	if !res.Removed {
		return r.st.save()
	}
	// What is recorded counts, not what the survey made of it.
	rec := r.st.run.Items[res.Item]
	for _, n := range r.plan.order {
		if n.item.ID == res.Item && rec != nil && rec.State.settled() {
			now := *rec
			r.set(n, &now)
			return r.stale(n, &now, uninstalled)
		}
	}
	return r.st.save()
}
