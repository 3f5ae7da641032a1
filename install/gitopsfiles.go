package install

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// files are the content of the tree.
func (g *growing) files() (map[string][]byte, error) {
	out := make(map[string][]byte)
	var open, closed []string
	for _, b := range g.items {
		var plain, secret []string
		taken := make(map[string]bool)
		for _, l := range b.leaves {
			data, err := l.yaml()
			if err != nil {
				return nil, err
			}
			name := l.fileName(taken)
			if l.Secret() {
				secret = append(secret, name)
				out[path.Join(treeSecrets, b.dir, name)] = data
			} else {
				plain = append(plain, name)
				out[path.Join(b.dir, name)] = data
			}
		}
		if b.keeps {
			if b.was == "" {
				b.was = b.dir
			}
			var err error
			if plain, err = g.stay(out, b.dir, b.was, plain); err != nil {
				return nil, err
			}
			if secret, err = g.stay(out, path.Join(treeSecrets, b.dir), path.Join(treeSecrets, b.was), secret); err != nil {
				return nil, err
			}
		}
		if len(plain) > 0 {
			open = append(open, b.dir)
			out[path.Join(b.dir, treeIndex)] = kustomization(plain)
		}
		if len(secret) > 0 {
			closed = append(closed, b.dir)
			out[path.Join(treeSecrets, b.dir, treeIndex)] = kustomization(secret)
		}
	}
	out[treeIndex] = kustomization(open)
	if len(closed) > 0 {
		out[path.Join(treeSecrets, treeIndex)] = kustomization(closed)
		out[path.Join(treeSecrets, treeIgnore)] = []byte("*\n")
	}
	// Nothing gets into Git but what is listed here: other steps may write below
	// the same directory, and charts hold Secrets.
	var ignore strings.Builder
	ignore.WriteString("/*\n!/" + treeMark + "\n!/" + treeIgnore + "\n!/" + treeReadme + "\n!/" + treeIndex + "\n")
	for _, dir := range open {
		ignore.WriteString("!/" + dir + "/\n")
	}
	out[treeIgnore] = []byte(ignore.String())
	out[treeReadme] = g.readme(open)
	return out, nil
}

// stay adds to the files of a directory what the index of the one that was names
// in the tree as it is, and returns what the next index names.
func (g *growing) stay(out map[string][]byte, dir, was string, names []string) ([]string, error) {
	index, err := g.written(path.Join(was, treeIndex))
	if errors.Is(err, fs.ErrNotExist) {
		return names, nil
	}
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(index)) {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), "- ")
		if !ok || slices.Contains(names, name) {
			continue
		}
		data, err := g.written(path.Join(was, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out[path.Join(dir, name)] = data
		names = append(names, name)
	}
	return names, nil
}

// kustomization lists files or directories in the order in which they are
// applied.
func kustomization(list []string) []byte {
	var b strings.Builder
	b.WriteString("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nsortOptions: {order: fifo}\nresources:")
	if len(list) == 0 {
		b.WriteString(" []")
	}
	b.WriteString("\n")
	for _, name := range list {
		b.WriteString("  - " + name + "\n")
	}
	return []byte(b.String())
}

func (l *leaf) yaml() ([]byte, error) {
	tree, err := plainTree(l.Tree)
	if err != nil {
		return nil, err
	}
	annotate(tree, annotationWave, strconv.Itoa(l.wave))
	data, err := yaml.Marshal(tree)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", l.Object(), err)
	}
	return data, nil
}

var unfit = regexp.MustCompile(`[^a-z0-9.-]+`)

// fileName is kind-name.yaml, with a number where that is taken.
func (l *leaf) fileName(taken map[string]bool) string {
	o := l.Object()
	name := unfit.ReplaceAllString(strings.ToLower(o.Kind+"-"+o.Name), "-")
	name = strings.Trim(name[:min(len(name), 200)], "-.")
	for i := 1; ; i++ {
		file := name + ".yaml"
		if i > 1 {
			file = fmt.Sprintf("%s-%d.yaml", name, i)
		}
		if !taken[file] {
			taken[file] = true
			return file
		}
	}
}

// readme says what is where, and what is not there yet.
func (g *growing) readme(open []string) []byte {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# %s at %s, for a GitOps controller\n", g.checklist.Product, g.opts.Site.Name)
	p("Written by `airlock bundle install --render-to`, which overwrites it. Commit this directory; when the controller")
	p("has applied it, run the same command again: items pass when the cluster holds their objects.\n")
	p("`kubectl apply --server-side -k .` applies everything in order. Argo CD orders by the sync waves of the objects;")
	p("its Application needs `ServerSideApply=true`, because types are large. For Flux, a Kustomization for each of these")
	p("directories, with `wait: true` and each depending on the one before it:\n")
	for _, dir := range open {
		p("- %s", dir)
	}
	if g.holds("Job") {
		p("\nJobs cannot be changed in place. Argo CD and Flux replace those that are others now; before `kubectl apply`,")
		p("remove them (`kubectl delete job NAME`).")
	}
	if g.report.Secrets > 0 {
		p("\n## Secrets\n")
		p("%d Secrets are in `%s/`, where only their owner reads them, and Git ignores them. Whoever may applies them", g.report.Secrets, treeSecrets)
		p("with `kubectl apply --server-side -k %s`; or encrypt them (SOPS, Sealed Secrets) or hand them to External Secrets,", treeSecrets)
		p("under the same names, with their annotations `%s…` on the Secret.", MarkPrefix)
	}
	if len(g.report.Waits) > 0 {
		p("\n## Not here yet\n")
		for _, w := range g.report.Waits {
			p("- %s: %s", w.Item, w.Why)
		}
	}
	return []byte(b.String())
}

// holds reports whether an object of a kind is among what is rendered.
func (g *growing) holds(kind string) bool {
	is := func(l *leaf) bool { return l.Object().Kind == kind }
	return slices.ContainsFunc(g.items, func(b *branch) bool { return slices.ContainsFunc(b.leaves, is) })
}

// Held reports whether an item waits for objects in the cluster, and not for a
// statement.
func (rep *Report) Held(item string) bool {
	for _, ph := range rep.Phases {
		for _, i := range ph.Items {
			if i.ID == item {
				return slices.ContainsFunc(i.Findings, func(f FindingReport) bool { return f.Code == codeHeld })
			}
		}
	}
	return false
}
