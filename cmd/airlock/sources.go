package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/regular"
	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/bundle/source/dockerarchive"
	"github.com/airlock-project/airlock/bundle/source/file"
	"github.com/airlock-project/airlock/bundle/source/helm"
	"github.com/airlock-project/airlock/bundle/source/registry"
	"github.com/airlock-project/airlock/bundle/source/terraform"
	"github.com/airlock-project/airlock/bundle/source/vendorarchive"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/manifests/spacelift"
	"github.com/airlock-project/airlock/verify"
)

// sourceSet is what the sources of one definition share.
type sourceSet struct {
	hosts   *remote.Hosts
	spool   *bundle.Spool
	dir     string // the definition's folder
	created time.Time
	listen  bundle.Listener
}

// sources turns a definition into sources, in its order, and says what each of
// them is asked for.
func (s sourceSet) sources(def *manifests.Definition) ([]bundle.Source, []bundle.Spec, error) {
	if def.Providers != nil {
		return nil, nil, &verify.UnsupportedError{What: "providers: Terraform providers"}
	}
	opts := file.Options{Dir: s.dir, Version: def.Version, Created: s.created, Listen: s.listen}
	var l sourceList
	for _, a := range def.Archives {
		l.add(vendorarchive.New(s.spool, a, vendorarchive.Options{Options: opts}), a, false)
	}
	for _, i := range def.Images {
		i.Platforms = platforms(i, def)
		if i.Path != "" {
			l.add(dockerarchive.New(s.spool, i, opts), i, false)
			continue
		}
		l.add(registry.New(s.hosts, s.spool, i, nil), i, true)
	}
	for _, c := range def.Charts {
		source := helm.New(s.hosts, s.spool, s.dir, c, s.created, s.listen)
		c.Values, c.Ignore = nil, nil // they do not choose the chart
		l.add(source, c, c.Path == "")
	}
	for _, m := range def.Modules {
		l.add(terraform.New(s.spool, m, opts), m, false)
	}
	for _, f := range def.Files {
		l.add(file.New(s.spool, f, opts), f, false)
	}
	tools, err := s.toolBinaries(def)
	if err != nil {
		return nil, nil, err
	}
	l.add(file.NewTool(s.spool, tools, opts), def.Tools, false)
	if def.Checklist != nil {
		c, err := s.checklist(def)
		if err != nil {
			return nil, nil, err
		}
		l.add(file.NewBytes(s.spool, c, opts), []string{def.Checklist.Preset, def.Checklist.Path}, false)
	}
	return l.sources, l.specs, l.err
}

// platforms of an image are its own, or else the definition's; "all" has one
// spelling, so that writing it out changes no pin.
func platforms(i manifests.Image, def *manifests.Definition) manifests.Platforms {
	chosen := i.Platforms
	if len(chosen) == 0 {
		chosen = def.Platforms
	}
	if chosen.All() {
		return manifests.Platforms{"all"}
	}
	return chosen
}

// sourceList collects sources with their specs.
type sourceList struct {
	sources []bundle.Source
	specs   []bundle.Spec
	err     error
}

// add appends a source. entry is everything that chooses what it brings.
func (l *sourceList) add(s bundle.Source, entry any, fetched bool) {
	raw, err := json.Marshal(entry)
	if err != nil {
		l.err = fmt.Errorf("encode %s: %w", s.Origin(), err)
		return
	}
	l.sources = append(l.sources, s)
	l.specs = append(l.specs, bundle.Spec{Digest: digestOf(raw), Fetched: fetched})
}

// toolBinaries finds the Airlock binary of every node platform: those that the
// definition names, or the running one.
func (s sourceSet) toolBinaries(def *manifests.Definition) (map[string]string, error) {
	out := map[string]string{}
	if def.Tools == nil {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find the running binary: %w", err)
		}
		out[runtime.GOOS+"/"+runtime.GOARCH] = self
		return out, nil
	}
	dir, err := filepath.Abs(resolvePath(s.dir, def.Tools.Path))
	if err != nil {
		return nil, err
	}
	for _, p := range def.Tools.Platforms {
		out[p] = filepath.Join(dir, toolName(p))
	}
	return out, nil
}

// toolName is the file name of the binary for a platform.
func toolName(platform string) string { return "airlock-" + strings.ReplaceAll(platform, "/", "-") }

func resolvePath(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// checklist reads the checklist that goes into the bundle and checks it: a
// mistake in it would otherwise show inside the gap.
func (s sourceSet) checklist(def *manifests.Definition) (file.Document, error) {
	var data []byte
	var err error
	name := def.Checklist.Path
	switch {
	case def.Checklist.Preset == spacelift.Name:
		name = "preset:" + spacelift.Name
		data, err = spacelift.Checklist()
	case def.Checklist.Preset != "":
		return file.Document{}, &usageError{fmt.Errorf("checklist: preset %q is not known, presets are: %s", def.Checklist.Preset, spacelift.Name)}
	default:
		data, err = regular.Read(resolvePath(s.dir, name), manifests.MaxDocument)
	}
	if err != nil {
		return file.Document{}, err
	}
	list, err := manifests.ParseChecklist(name, data)
	if err != nil {
		return file.Document{}, err
	}
	if list.Product != def.Product {
		return file.Document{}, &settingError{
			fmt.Errorf("checklist %s is for product %q, the definition makes %q", name, list.Product, def.Product),
			"correct product: in one of the two: inside the gap nothing would run such a checklist",
		}
	}
	return file.Document{Kind: bundle.KindChecklist, Name: def.Product, Title: "checklist.yaml", MediaType: bundle.MediaTypeChecklist, Data: data}, nil
}
