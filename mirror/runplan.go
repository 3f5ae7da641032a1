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
	"github.com/airlock-project/airlock/verify"
)

// RunPlan carries out a saved plan: target and mapping come from it, the rest
// from the options, whose To and Mapping must be zero. It is Run, except that it
// sends nothing and returns a *MovedError if the bundle is another, or a tag,
// a repository or what has to be made first is not as the plan saw it.
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

// moved compares what a plan saw with what is there now.
func moved(was, is *Document) error {
	var list []string
	list = append(list, movedRepositories(was, is)...)
	list = append(list, movedTags(was, is)...)
	if !reflect.DeepEqual(byAction(was), byAction(is)) {
		list = append(list, "what has to be made first is no longer the same")
	}
	if len(list) == 0 && !reflect.DeepEqual(blobsOf(was), blobsOf(is)) {
		list = append(list, "the blobs to be sent are no longer the same: signatures or other referrers came or went")
	}
	if len(list) == 0 {
		return nil
	}
	slices.Sort(list)
	return &MovedError{Changes: list}
}

func movedRepositories(was, is *Document) []string {
	before, now := map[string]string{}, map[string]string{}
	for _, r := range was.Repositories {
		before[r.Name] = cmp.Or(string(r.Presence), "unknown")
	}
	for _, r := range is.Repositories {
		now[r.Name] = cmp.Or(string(r.Presence), "unknown")
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
				m[it.Repository+":"+t.Tag] = cmp.Or(t.Have.String(), "absent") + ", to be " + t.Want.String()
			}
		}
		return m
	}
	return differences("tag ", tags(was), tags(is))
}

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

func blobsOf(d *Document) []string {
	var list []string
	for _, b := range d.Blobs {
		list = append(list, fmt.Sprintf("%s from %q to %q and %q", b.Digest, b.From, b.Send, b.Mount))
	}
	slices.Sort(list)
	return list
}
