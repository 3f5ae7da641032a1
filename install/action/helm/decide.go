package helm

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/airlock-project/airlock/install"
	"helm.sh/helm/v3/pkg/release"
	helmtime "helm.sh/helm/v3/pkg/time"
)

// mode is how a release comes to be.
type mode string

const (
	modeInstall mode = "install" // there is none
	modeReplace mode = "replace" // there never was one that worked: install once more over what is left
	modeUpgrade mode = "upgrade"
)

// patience is how long an operation that others began counts as going on. One of
// ours that is pending was killed: two runs exclude each other.
const patience = time.Hour

// decision is what follows from the history of a release.
type decision struct {
	mode     mode
	last     *release.Release // the newest revision; nil if there is none
	deployed *release.Release // the newest that worked; nil if none did
	others   bool             // others are at work on it, or what they left would have to go first
	mark     bool             // the newest revision was killed: record it as failed
	clear    bool             // it never worked and is not what is wanted, or its removal was killed: remove it first
	back     bool             // what it left differs from what is wanted: roll back first
}

func sortRevisions(list []*release.Release) {
	slices.SortFunc(list, func(a, b *release.Release) int { return cmp.Compare(a.Version, b.Version) })
}

// decide says how to get from a history to a release that works. wanted tells
// whether a revision holds what is wanted now.
func decide(history []*release.Release, wanted func(*release.Release) bool, now time.Time) decision {
	if len(history) == 0 {
		return decision{mode: modeInstall}
	}
	d := decision{mode: modeUpgrade, last: history[len(history)-1]}
	for _, r := range history {
		if s := r.Info.Status; s == release.StatusDeployed || s == release.StatusSuperseded && (d.deployed == nil || d.deployed.Info.Status != release.StatusDeployed) {
			d.deployed = r
		}
	}
	switch status := d.last.Info.Status; {
	case status == release.StatusDeployed || status == release.StatusSuperseded:
		return d
	case status == release.StatusUninstalled:
		return decision{mode: modeReplace, last: d.last}
	case status == release.StatusUninstalling:
		return decision{mode: modeInstall, last: d.last, clear: true, others: !ours(d.last) && recent(d.last.Info.Deleted, now)}
	case status.IsPending():
		d.others = !ours(d.last) && recent(d.last.Info.LastDeployed, now)
		d.mark = true
	case status != release.StatusFailed:
		d.mark = true
	}
	if d.deployed == nil {
		// Installing over what is left takes no field away that is no longer wanted.
		if d.mode = modeReplace; !wanted(d.last) {
			d.mode, d.clear = modeInstall, true
			d.others = d.others || foreign(history)
		}
		return d
	}
	d.back = d.deployed.Info.Status == release.StatusDeployed && !wanted(d.last)
	return d
}

// recent says whether something may still be going on that began then.
func recent(began helmtime.Time, now time.Time) bool { return now.Sub(began.Time) < patience }

// revision is the one that would be made.
func (d decision) revision() int {
	if d.last == nil || d.mode == modeInstall {
		return 1
	}
	return d.last.Version + 1
}

// current is the revision that a change is shown against: nil before the first.
func (d decision) current() *release.Release {
	if d.deployed != nil && d.deployed.Info.Status == release.StatusDeployed {
		return d.deployed
	}
	if d.mode == modeUpgrade {
		return d.last
	}
	return nil
}

// refused returns what speaks against going on, if anything.
func (d decision) refused(p *prepared, older bool) error {
	if d.others {
		began := d.last.Info.LastDeployed
		if d.last.Info.Status == release.StatusUninstalling {
			began = d.last.Info.Deleted
		}
		return busy(p.a, d.last, began, "Airlock did not begin it")
	}
	r := d.current()
	if r == nil || older || r.Chart == nil || r.Chart.Metadata == nil {
		return nil
	}
	have, want := r.Chart.Metadata.Name+" "+r.Chart.Metadata.Version, p.chart.Name()+" "+p.chart.Version()
	if r.Chart.Metadata.Name == p.chart.Name() && !before(p.chart.Version(), r.Chart.Metadata.Version) {
		return nil
	}
	return &trouble{install.Finding{
		Code:   codeOlder,
		Detail: fmt.Sprintf("release %s has chart %s; the bundle has %s", p.a.Release, have, want),
		Fields: map[string]string{"release": p.a.Release, "have": have, "want": want},
	}}
}

// busy is a release that others are at work on.
func busy(a arguments, r *release.Release, began helmtime.Time, why string) error {
	since := began.UTC().Format(time.RFC3339)
	return &trouble{install.Finding{
		Code:   codeBusy,
		Detail: fmt.Sprintf("release %s is %s since %s, and %s", a.Release, r.Info.Status, since, why),
		Fields: map[string]string{"release": a.Release, "namespace": a.Namespace, "status": r.Info.Status.String(), "since": since},
	}}
}

// before says whether one version is older than another. What is no version is
// older than nothing.
func before(a, b string) bool {
	x, errX := semver.NewVersion(strings.TrimSpace(a))
	y, errY := semver.NewVersion(strings.TrimSpace(b))
	return errX == nil && errY == nil && x.LessThan(y)
}
