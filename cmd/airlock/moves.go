package main

import (
	"slices"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/mirror"
)

// move is one item that a new lock pins otherwise than the former one.
type move struct {
	Change string `json:"change"` // moved, new or gone
	Item   string `json:"item"`
	From   string `json:"from,omitempty"` // digest
	To     string `json:"to,omitempty"`
}

// itemKey finds an item again in another lock.
type itemKey struct{ entry, kind, name string }

// moves compares a plan with the lock before it, nil if there was none, in the
// order of the definition; what is gone comes last. Content that is made here
// moves with its files and with the time stamp, which says nothing, so only
// what is fetched is called moved.
func moves(before *manifests.Lock, plan *bundle.Plan) []move {
	out := []move{}
	if before == nil {
		return out
	}
	old := map[itemKey]manifests.LockedItem{}
	for _, item := range before.Items {
		old[itemKey{item.Entry, item.Kind, item.Name}] = item
	}
	fetched := map[string]bool{}
	for i, s := range plan.Sources {
		fetched[s.Origin()] = plan.Specs[i].Fetched
	}
	now := map[itemKey]bool{}
	for _, item := range bundle.NewLock("", plan.Info.Created, plan.Sources, plan.Specs, plan.Pins).Items {
		key := itemKey{item.Entry, item.Kind, item.Name}
		now[key] = true
		was, ok := old[key]
		switch {
		case !ok:
			out = append(out, move{Change: "new", Item: itemName(item), To: rootDigest(item)})
		case fetched[item.Entry] && !sameItem(was, item):
			out = append(out, move{Change: "moved", Item: itemName(item), From: rootDigest(was), To: rootDigest(item)})
		}
	}
	for _, item := range before.Items {
		if !now[itemKey{item.Entry, item.Kind, item.Name}] {
			out = append(out, move{Change: "gone", Item: itemName(item), From: rootDigest(item)})
		}
	}
	return out
}

// sameItem compares an image by its root, and a chart by its blobs: around one
// from an HTTP repository, Airlock writes a manifest with the time stamp.
// Values files beside a chart are made.
func sameItem(a, b manifests.LockedItem) bool {
	if a.Kind == bundle.KindImage {
		return rootDigest(a) == rootDigest(b)
	}
	return a.Kind != bundle.KindChart || slices.EqualFunc(a.Blobs, b.Blobs, func(x, y manifests.LockedDescriptor) bool { return x.Digest == y.Digest })
}

func itemName(i manifests.LockedItem) string {
	if i.Ref != "" {
		return i.Kind + " " + i.Ref
	}
	return i.Kind + " " + i.Name
}

func rootDigest(i manifests.LockedItem) string {
	if len(i.Manifests) == 0 {
		return ""
	}
	return i.Manifests[0].Digest
}

// sayMoves prints what changed in the lock.
func (a *app) sayMoves(list []move) {
	for _, m := range list {
		switch m.Change {
		case "moved":
			a.say("%-6s %s  %s -> %s", m.Change, m.Item, short(m.From), short(m.To))
		case "new":
			a.say("%-6s %s  %s", m.Change, m.Item, short(m.To))
		default:
			a.say("%-6s %s", m.Change, m.Item)
		}
	}
}

// short writes a digest for people to compare.
func short(digest string) string {
	const n = len("sha256:") + 12
	if len(digest) <= n {
		return digest
	}
	return digest[:n] + "…"
}

// warnCollisions says, while there is time to change it, that a mirror without
// --keep-host could not tell two items apart.
func (a *app) warnCollisions(plan *bundle.Plan) {
	first := map[mirror.Place]bundle.Pin{}
	for _, pin := range slices.Concat(plan.Pins...) {
		if pin.Ref == "" || len(pin.Manifests) == 0 {
			continue
		}
		place, err := mirror.Map(pin.Item, pin.Manifests[0].Digest, mirror.StripHost)
		if err != nil {
			continue // a name no registry takes: mirror and verify say so
		}
		other, ok := first[place]
		if !ok {
			first[place] = pin
			continue
		}
		if other.Manifests[0].Digest != pin.Manifests[0].Digest {
			a.warn("%s %s and %s %s would both be %s in a mirror: mirror with --keep-host, or name one of them otherwise", other.Kind, other.Ref, pin.Kind, pin.Ref, place)
		}
	}
}
