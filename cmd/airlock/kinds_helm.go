package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/bundle/regular"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/action/helm"
	"github.com/airlock-project/airlock/verify"
)

// helmKinds registers the steps that work with Helm releases. older lets a chart
// replace a newer one.
func helmKinds(probes map[string]install.Probe, actions map[string]install.Action, older bool) {
	probes["helm.status"] = helm.Status{}
	actions["helm.release"] = helm.Action{AllowOlder: older}
}

// maxValuesFiles bounds how often --values may be given.
const maxValuesFiles = 100

// chartFile is CHART=FILE. A path before the = is a file's name that happens to
// hold one.
var chartFile = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]*)=(.+)$`)

// valuesFiles reads what --values names.
func valuesFiles(list []string) ([]install.ValuesFile, error) {
	if len(list) > maxValuesFiles {
		return nil, &usageError{fmt.Errorf("--values is given %d times, the limit is %d", len(list), maxValuesFiles)}
	}
	var out []install.ValuesFile
	for _, arg := range list {
		f := install.ValuesFile{Name: arg}
		if m := chartFile.FindStringSubmatch(arg); m != nil {
			f.Chart, f.Name = m[1], m[2]
		}
		if strings.Contains(f.Name, "://") {
			return nil, &usageError{fmt.Errorf("--values %s: want a file of this machine", arg)}
		}
		data, err := regular.Read(f.Name, chart.MaxFile)
		if err != nil {
			return nil, fmt.Errorf("read values: %w", err)
		}
		if _, err := chart.MergeValues([]chart.ValuesFile{{Name: f.Name, Data: data}}); err != nil {
			return nil, err
		}
		f.Data = data
		out = append(out, f)
	}
	return out, nil
}

// knownCharts checks that the bundle carries each chart that --values names: a file
// for another would be left out without a word.
func knownCharts(b *verify.Bundle, list []install.ValuesFile) error {
	var carried []string
	for e, err := range b.Items() {
		if err != nil {
			return fmt.Errorf("list bundle: %w", err)
		}
		if e.Kind == bundle.KindChart && e.Role == bundle.RoleRoot {
			carried = append(carried, e.Name)
		}
	}
	for _, f := range list {
		if f.Chart != "" && !slices.Contains(carried, f.Chart) {
			return &usageError{fmt.Errorf("--values %s=%s: the bundle carries no chart %s; it carries %q", f.Chart, f.Name, f.Chart, carried)}
		}
	}
	return nil
}
