package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/mirror/target"
	"github.com/airlock-project/airlock/verify"
)

// RunPlan carries out a saved plan: target and mapping come from it, the rest
// from the options, whose To and Mapping must be zero. It is Run, except that it
// sends nothing and returns a *MovedError if the bundle or the shard is another,
// or a tag, a repository or what has to be made first is neither as the plan saw
// it nor as it wanted it: a run that was cut short is carried on by the same
// plan. A plan with a fatal notice is refused with a *RefusedError.
func RunPlan(ctx context.Context, b *verify.Bundle, d *Document, o Options) (manifests.RelocationMap, Result, error) {
	return runPlan(ctx, b, d, o)
}

func runPlan(ctx context.Context, src source, d *Document, o Options) (manifests.RelocationMap, Result, error) {
	var none manifests.RelocationMap
	if o.To != "" || !reflect.ValueOf(o.Mapping).IsZero() {
		return none, Result{}, errors.New("run plan: target and mapping are the plan's, give none")
	}
	if got := src.Info().Digest; got != d.Bundle {
		return none, Result{}, &MovedError{Changes: []string{fmt.Sprintf("it is for the bundle %s, this is %s", d.Bundle, got)}}
	}
	if d.Shard != "" && d.Shard != o.Shard.String() {
		return none, Result{}, &MovedError{Changes: []string{"it is for shard " + d.Shard + " only"}}
	}
	fatal := slices.DeleteFunc(slices.Clone(d.Notices), func(n target.Notice) bool { return !n.Fatal })
	if len(fatal) > 0 {
		return none, Result{}, &RefusedError{Target: d.Target, Notices: fatal}
	}
	if kind := o.target().Kind(); kind != d.Provider {
		return none, Result{}, &MovedError{Changes: []string{fmt.Sprintf("it is for a registry of kind %q, not %q", d.Provider, kind)}}
	}
	o.To, o.Mapping = d.Target, d.Mapping
	e, err := prepareEngine(ctx, src, o)
	if err != nil {
		return none, Result{}, err
	}
	return e.carryOut(ctx, func() error { return moved(d, e.document()) })
}

// moved compares what a plan saw with what is there now. What is as the plan
// wanted it has not moved: an earlier run may have brought it there.
func moved(was, is *Document) error {
	var list []string
	list = append(list, movedRepositories(was, is)...)
	list = append(list, movedTags(was, is)...)
	if !within(byAction(is), byAction(was)) {
		list = append(list, "what has to be made first is no longer the same")
	}
	if len(list) == 0 && !within(blobsOf(is), blobsOf(was)) {
		list = append(list, "more blobs have to be sent: signatures or other referrers went, or the options are others")
	}
	if len(list) == 0 {
		return nil
	}
	slices.Sort(list)
	return &MovedError{Changes: list}
}

// within reports whether everything in part is in whole.
func within(part, whole []string) bool {
	have := map[string]bool{}
	for _, s := range whole {
		have[s] = true
	}
	return !slices.ContainsFunc(part, func(s string) bool { return !have[s] })
}

func movedRepositories(was, is *Document) []string {
	before, now := map[string]string{}, map[string]string{}
	for _, r := range was.Repositories {
		before[r.Name] = cmp.Or(string(r.Presence), "unknown")
	}
	for _, r := range is.Repositories {
		now[r.Name] = cmp.Or(string(r.Presence), "unknown")
		if _, planned := before[r.Name]; planned && (r.Presence == target.Present || r.Presence == target.PresenceUnknown) {
			before[r.Name] = now[r.Name] // it was made since, or its project was: the tags tell
		}
	}
	return differences("repository ", before, now)
}

func movedTags(was, is *Document) []string {
	tags := func(d *Document) map[string]string {
		m := map[string]string{}
		for _, it := range d.Items {
			if it.State == Unknown {
				m[it.Repository+":"+it.Tag] = "unknown"
			}
			for _, t := range it.Tags {
				m[it.Repository+":"+t.Tag] = cmp.Or(t.Have.String(), "absent") + wanted(t)
			}
		}
		return m
	}
	before, now := tags(was), tags(is)
	for _, it := range is.Items {
		for _, t := range it.Tags {
			name := it.Repository + ":" + t.Tag
			if t.Have == t.Want && strings.HasSuffix(before[name], wanted(t)) {
				before[name] = now[name] // it was written since
			}
		}
	}
	return differences("tag ", before, now)
}

func wanted(t SeenTag) string { return ", to be " + t.Want.String() }

// differences describes what is not the same in two maps.
func differences(what string, before, now map[string]string) []string {
	var list []string
	all := maps.Clone(before)
	maps.Copy(all, now)
	for name := range all {
		a, b := cmp.Or(before[name], "not in the plan"), cmp.Or(now[name], "gone")
		if a != b {
			list = append(list, fmt.Sprintf("%s%s was %s and is %s", what, name, a, b))
		}
	}
	return list
}

func byAction(d *Document) []string {
	var list []string
	for _, a := range d.Actions {
		settings := []string{}
		for _, k := range slices.Sorted(maps.Keys(a.Settings)) {
			settings = append(settings, k+"="+a.Settings[k])
		}
		list = append(list, fmt.Sprintf("%s %q %q", a.Kind, a.Name, strings.Join(settings, ",")))
	}
	slices.Sort(list)
	return list
}

// blobsOf lists which blob has to come to which repository. Where it comes from
// changes while a plan is carried out.
func blobsOf(d *Document) []string {
	var list []string
	for _, b := range d.Blobs {
		for _, path := range append([]string{b.Send}, b.Mount...) {
			if path != "" {
				list = append(list, fmt.Sprintf("%s to %q", b.Digest, path))
			}
		}
	}
	return list
}
