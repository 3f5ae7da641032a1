package manifests

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// ParseDefinition decodes airlock.yaml strictly and checks it. name stands for
// the document in findings. The error is Findings: all of them at once.
func ParseDefinition(name string, data []byte) (*Definition, error) {
	def := new(Definition)
	if err := parse(name, data, MaxWritten, KindBundle, def, def.check); err != nil {
		return nil, err
	}
	return def, nil
}

// Digest is the digest of the definition's meaning: "sha256:" and the hash of
// its fields as JSON in the order of the type, without comments and layout. Two
// documents that decode to the same fields have the same digest.
func (def *Definition) Digest() string {
	raw, err := json.Marshal(def)
	if err != nil {
		// Strings, numbers and lists: there is nothing in the type that JSON
		// cannot hold.
		panic(fmt.Sprintf("manifests: encode definition: %v", err))
	}
	sum := sha256.Sum256(raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// MarshalJSON writes the short form, "preset:NAME", or {"path": FILE}.
func (f FromPreset) MarshalJSON() ([]byte, error) {
	if f.Preset != "" {
		return json.Marshal("preset:" + f.Preset)
	}
	return json.Marshal(map[string]string{"path": f.Path})
}

func (def *Definition) check(d *document) {
	d.date(def.Expires, path{"expires"})
	audience := seen{}
	for i, site := range def.Audience {
		d.unique(audience, site, path{"audience", i})
	}
	for i, s := range def.Sign {
		d.keyReference(s.Key, path{"sign", i, "key"})
	}
	for i, s := range def.Sign {
		if s.Key == "" && !s.Keyless {
			d.at(path{"sign", i, "keyless"}, "want true, or a key in its place")
		}
	}
	images, files := seen{}, seen{}
	def.checkArchives(d, images, files)
	def.checkImages(d, images)
	def.checkCharts(d)
	def.checkModules(d)
	for i, f := range def.Files {
		p := path{"files", i}
		d.filePath(f.Path, p.with("path"))
		d.unique(files, f.Name, p.with("name"))
	}
	if def.Tools != nil {
		d.filePath(def.Tools.Path, path{"tools", "path"})
	}
	if def.Checklist != nil && def.Checklist.Preset == "" && def.Checklist.Path == "" {
		d.at(path{"checklist"}, "want preset:NAME or {path: FILE}")
	}
}

func (def *Definition) checkArchives(d *document, images, files seen) {
	archives := seen{}
	for i, a := range def.Archives {
		p := path{"archives", i}
		d.unique(archives, a.Name, p.with("name"))
		d.filePath(a.Path, p.with("path"))
		d.filePath(a.Sums, p.with("sums"))
		d.filePath(a.Signature, p.with("signature"))
		d.filePath(a.Signer.Key, p.with("signer", "key"))
		for j, img := range a.Images {
			at := p.with("images", j)
			d.innerPath(img.Path, at.with("path"))
			d.unique(images, d.repoTag(img.As, at.with("as")), at.with("as"))
		}
		for j, f := range a.Files {
			at := p.with("files", j)
			d.innerPath(f.Path, at.with("path"))
			d.unique(files, f.Name, at.with("name"))
		}
	}
}

func (def *Definition) checkImages(d *document, images seen) {
	for i, img := range def.Images {
		p := path{"images", i}
		d.filePath(img.Path, p.with("path"))
		d.unique(images, d.imageReference(img.Ref, p.with("ref")), p.with("ref"))
		d.unique(images, d.repoTag(img.As, p.with("as")), p.with("as"))
	}
}

func (def *Definition) checkCharts(d *document) {
	charts := seen{}
	for i, c := range def.Charts {
		p := path{"charts", i}
		d.unique(charts, c.Name, p.with("name"))
		d.filePath(c.Path, p.with("path"))
		def.checkChartPlace(d, c, p)
		for j, v := range c.Values {
			d.filePath(v, p.with("values", j))
		}
		ignored := seen{}
		for j, ig := range c.Ignore {
			at := p.with("ignore", j)
			d.unique(ignored, d.imageReference(ig.Image, at.with("image")), at.with("image"))
			if strings.TrimSpace(ig.Reason) == "" {
				d.at(at.with("reason"), "is empty: say why the image is left out")
			}
		}
	}
}

func (def *Definition) checkChartPlace(d *document, c Chart, p path) {
	if c.Path != "" {
		if c.Chart != "" {
			d.at(p.with("chart"), "has no meaning beside path")
		}
		if c.Version != "" {
			d.at(p.with("version"), "has no meaning beside path: the chart has its own version")
		}
		return
	}
	if c.Repository == "" {
		return
	}
	u, err := url.Parse(c.Repository)
	if err != nil || u.Host == "" || !slices.Contains([]string{"https", "http", "oci"}, u.Scheme) {
		d.at(p.with("repository"), "want a URL that begins with https://, http:// or oci://")
		return
	}
	if u.User != nil {
		d.at(p.with("repository"), "must not hold a password: credentials come from the registry or Helm configuration")
	}
	if u.Scheme != "oci" && c.Chart == "" {
		d.at(p.with("chart"), "missing: a repository holds many charts")
	}
}

func (def *Definition) checkModules(d *document) {
	modules := seen{}
	for i, m := range def.Modules {
		p := path{"modules", i}
		d.unique(modules, m.Name, p.with("name"))
		d.filePath(m.Path, p.with("path"))
		d.filePath(m.Source, p.with("source"))
	}
}
