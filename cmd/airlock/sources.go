package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/airlock-project/airlock/bundle"
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

// sources turns a definition into sources, in its order.
func (s sourceSet) sources(def *manifests.Definition) ([]bundle.Source, error) {
	if def.Providers != nil {
		return nil, &verify.UnsupportedError{What: "providers: Terraform providers"}
	}
	opts := file.Options{Dir: s.dir, Version: def.Version, Created: s.created, Listen: s.listen}
	var out []bundle.Source
	for _, a := range def.Archives {
		out = append(out, vendorarchive.New(s.spool, a, vendorarchive.Options{Options: opts}))
	}
	for _, i := range def.Images {
		if i.Path != "" {
			out = append(out, dockerarchive.New(s.spool, i, opts))
			continue
		}
		out = append(out, registry.New(s.hosts, s.spool, i, def.Platforms))
	}
	for _, c := range def.Charts {
		out = append(out, helm.New(s.hosts, s.spool, s.dir, c, s.created, s.listen))
	}
	for _, m := range def.Modules {
		out = append(out, terraform.New(s.spool, m, opts))
	}
	for _, f := range def.Files {
		out = append(out, file.New(s.spool, f, opts))
	}
	tools, err := s.toolBinaries(def)
	if err != nil {
		return nil, err
	}
	out = append(out, file.NewTool(s.spool, tools, opts))
	if def.Checklist != nil {
		c, err := s.checklist(def)
		if err != nil {
			return nil, err
		}
		out = append(out, file.NewBytes(s.spool, c, opts))
	}
	return out, nil
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
		data, err = readBounded(resolvePath(s.dir, name), manifests.MaxDocument)
	}
	if err != nil {
		return file.Document{}, err
	}
	if _, err := manifests.ParseChecklist(name, data); err != nil {
		return file.Document{}, err
	}
	return file.Document{Kind: bundle.KindChecklist, Name: def.Product, Title: "checklist.yaml", MediaType: bundle.MediaTypeChecklist, Data: data}, nil
}
