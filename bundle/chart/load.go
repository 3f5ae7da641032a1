package chart

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	helmchart "helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
)

// tree is a chart's files with its vendored subcharts unpacked. Helm's chart
// type is made from it anew for every use, because rendering changes it.
type tree struct {
	files []*loader.BufferedFile
	subs  []*tree
}

// budget is what the archives of one chart, nested ones included, may still
// use. It is shared, so that nesting multiplies nothing.
type budget struct {
	bytes   int64
	entries int
}

// Load reads a chart archive (.tgz). Names that leave the chart, links,
// devices, duplicates and whatever exceeds the limits of this package are
// refused. A chart that declares dependencies it does not vendor gives a
// [MissingDependenciesError].
func Load(r io.Reader) (*Chart, error) {
	raw, err := io.ReadAll(io.LimitReader(r, MaxArchive+1))
	if err != nil {
		return nil, fmt.Errorf("read chart archive: %w", err)
	}
	if len(raw) > MaxArchive {
		return nil, fmt.Errorf("read chart archive: more than %d bytes", MaxArchive)
	}
	b := &budget{bytes: MaxArchive + MaxEntries*1024, entries: MaxEntries}
	t, err := b.archive(raw, 0)
	if err != nil {
		return nil, fmt.Errorf("read chart archive: %w", err)
	}
	h, err := t.build()
	if err != nil {
		return nil, err
	}
	if err := checkDependencies(h); err != nil {
		return nil, err
	}
	return &Chart{tree: t, meta: h.Metadata}, nil
}

// LoadDir reads a chart from a directory, as it would be packaged.
func LoadDir(dir string) (*Chart, error) {
	raw, err := packageDir(dir)
	if err != nil {
		return nil, err
	}
	return Load(bytes.NewReader(raw))
}

// archive reads a .tgz whose entries lie under one directory per name.
func (b *budget) archive(raw []byte, depth int) (*tree, error) {
	if depth >= MaxDepth {
		return nil, fmt.Errorf("charts nest deeper than %d", MaxDepth)
	}
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("not a gzip file: %w", err)
	}
	m := &meter{r: z, budget: b}
	tr := tar.NewReader(m)
	files := map[string][]byte{}
	for {
		name, data, err := b.entry(tr)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if name == "" {
			continue
		}
		if _, ok := files[name]; ok {
			return nil, fmt.Errorf("entry %q occurs twice", name)
		}
		files[name] = data
	}
	// Reading to the end checks the gzip checksum of what the tar reader left.
	if _, err := io.Copy(io.Discard, m); err != nil {
		return nil, err
	}
	return b.tree(files, depth)
}

// entry reads the next file of an archive, without its top directory. The name
// is empty for an entry that holds no content.
func (b *budget) entry(tr *tar.Reader) (string, []byte, error) {
	h, err := tr.Next()
	if errors.Is(err, io.EOF) {
		return "", nil, io.EOF
	}
	// An insecure path comes with its header and is named below.
	if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
		return "", nil, fmt.Errorf("read tar: %w", err)
	}
	if b.entries--; b.entries < 0 {
		return "", nil, fmt.Errorf("more than %d entries", MaxEntries)
	}
	switch h.Typeflag {
	case tar.TypeReg:
	case tar.TypeDir, tar.TypeXGlobalHeader:
		return "", nil, nil
	default:
		return "", nil, fmt.Errorf("entry %q is a link or a special file: a chart holds plain files only", h.Name)
	}
	_, name, ok := strings.Cut(h.Name, "/")
	if !ok || len(name) > MaxPath || !fs.ValidPath(h.Name) || strings.ContainsAny(h.Name, "\\:\x00") {
		return "", nil, fmt.Errorf("entry %q has no place in a chart archive", h.Name)
	}
	if h.Size > MaxFile {
		return "", nil, fmt.Errorf("entry %q has %d bytes, the limit is %d", h.Name, h.Size, MaxFile)
	}
	data, err := io.ReadAll(io.LimitReader(tr, MaxFile+1))
	if err != nil {
		return "", nil, fmt.Errorf("read entry %q: %w", h.Name, err)
	}
	if len(data) > MaxFile {
		return "", nil, fmt.Errorf("entry %q has more than %d bytes", h.Name, MaxFile)
	}
	return name, bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), nil
}

// tree sorts a chart's files into its own and those of its subcharts, by the
// rules of Helm's loader.
func (b *budget) tree(files map[string][]byte, depth int) (*tree, error) {
	if depth >= MaxDepth {
		return nil, fmt.Errorf("charts nest deeper than %d", MaxDepth)
	}
	t := &tree{}
	subs := map[string]map[string][]byte{}
	for _, name := range sortedKeys(files) {
		rest, sub := strings.CutPrefix(name, "charts/")
		if !sub || path.Ext(name) == ".prov" {
			t.files = append(t.files, &loader.BufferedFile{Name: name, Data: files[name]})
			continue
		}
		dir, inner, _ := strings.Cut(rest, "/")
		if strings.HasPrefix(dir, "_") || strings.HasPrefix(dir, ".") {
			continue
		}
		if subs[dir] == nil {
			subs[dir] = map[string][]byte{}
		}
		subs[dir][inner] = files[name]
	}
	for _, dir := range sortedKeys(subs) {
		sub, err := b.subchart(dir, subs[dir], depth+1)
		if err != nil {
			return nil, fmt.Errorf("subchart %q: %w", dir, err)
		}
		if sub != nil {
			t.subs = append(t.subs, sub)
		}
	}
	return t, nil
}

// subchart reads what lies under one name in charts/. A plain file that is not
// an archive (a README, say) is no chart.
func (b *budget) subchart(name string, files map[string][]byte, depth int) (*tree, error) {
	if raw, ok := files[""]; ok {
		if path.Ext(name) != ".tgz" {
			return nil, nil
		}
		return b.archive(raw, depth)
	}
	return b.tree(files, depth)
}

// build makes a fresh Helm chart. Subcharts keep the order of their names, so
// that values imported by several of them merge the same way every time.
func (t *tree) build() (*helmchart.Chart, error) {
	c, err := loader.LoadFiles(t.files)
	if err != nil {
		return nil, fmt.Errorf("load chart: %w", err)
	}
	for _, s := range t.subs {
		sub, err := s.build()
		if err != nil {
			return nil, fmt.Errorf("subchart of %q: %w", c.Name(), err)
		}
		c.AddDependency(sub)
	}
	return c, nil
}

// Helm makes a fresh copy for Helm's own packages, which change the chart that
// they work with.
func (c *Chart) Helm() (*helmchart.Chart, error) { return c.tree.build() }

// MissingDependenciesError says that a chart declares dependencies that do not
// lie in its charts/ directory. The cure is `helm dependency build`.
type MissingDependenciesError struct {
	Chart   string   // the chart that declares them
	Missing []string // "name version from repository", in order of declaration
}

func (e *MissingDependenciesError) Error() string {
	return fmt.Sprintf("chart %q lacks its dependencies: %s", e.Chart, strings.Join(e.Missing, ", "))
}

// checkDependencies looks by name, as Helm does before it installs, and asks
// for disabled dependencies too: Helm refuses to install without them.
func checkDependencies(c *helmchart.Chart) error {
	var missing []string
	for _, d := range c.Metadata.Dependencies {
		if slices.ContainsFunc(c.Dependencies(), func(s *helmchart.Chart) bool { return s.Name() == d.Name }) {
			continue
		}
		s := d.Name
		if d.Version != "" {
			s += " " + d.Version
		}
		if d.Repository != "" {
			s += " from " + d.Repository
		}
		missing = append(missing, s)
	}
	if len(missing) > 0 {
		return &MissingDependenciesError{Chart: c.ChartFullPath(), Missing: missing}
	}
	for _, s := range c.Dependencies() {
		if err := checkDependencies(s); err != nil {
			return err
		}
	}
	return nil
}

// meter charges what it reads to a budget.
type meter struct {
	r      io.Reader
	budget *budget
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if m.budget.bytes -= int64(n); m.budget.bytes < 0 {
		return 0, fmt.Errorf("more than %d bytes uncompressed", MaxArchive)
	}
	return n, err
}
