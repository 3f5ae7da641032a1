package relocate

import (
	"maps"
	"slices"
	"strings"
)

// containerd writes the tree of its registry config_path (containerd's
// docs/hosts.md): one directory for each host that images are named by. Pulls
// of these hosts then end at the target, and never at the internet: the last
// mirror takes the host's own place as "server". The target has one too if nodes
// have to be told how to speak to it: what is installed names images there.
func (w *writer) containerd() error {
	roots := map[string]map[string]bool{} // by source host
	for _, i := range w.images {
		root, ok := strings.CutSuffix(i.target.Name(), "/"+i.source.Repository)
		switch {
		case !ok && i.hostless:
			w.note("%s: name it as %s: runtimes look for a name without a host on docker.io under library/", i.entry.Source, i.pull())
			continue
		case !ok:
			w.note("%s: a mirror keeps the path of a name, and its path changed: name it as %s", i.entry.Source, i.pull())
			continue
		case i.source.Tag != "" && i.source.Tag != i.target.Tag:
			w.note("%s: its tag changed: name it as %s", i.entry.Source, i.pull())
		}
		if i.derived() {
			w.note("%s: chosen platforms have a digest of their own: a pull by %s does not find it, a pull by tag or by %s does", i.entry.Source, i.entry.SourceDigest, i.entry.Digest)
		}
		if roots[i.source.Host] == nil {
			roots[i.source.Host] = map[string]bool{}
		}
		roots[i.source.Host][root] = true
	}
	if target, _, _ := strings.Cut(w.m.Target, "/"); roots[target] == nil && (w.o.CA != "" || w.o.PlainHTTP) {
		roots[target] = map[string]bool{target: true}
	}
	for host, list := range roots {
		w.file(hostDirectory(host)+"/hosts.toml", w.hostsTOML(slices.Sorted(maps.Keys(list))))
	}
	return nil
}

// hostDirectory is the name containerd looks for first: host_port_ for
// host:port, which every file system can carry.
func hostDirectory(host string) string {
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		return host[:i] + "_" + host[i+1:] + "_"
	}
	return host
}

// hostsTOML writes one file. Its mirrors are tried in order, the server last.
func (w *writer) hostsTOML(roots []string) string {
	scheme := "https://"
	if w.o.PlainHTTP {
		scheme = "http://"
	}
	var b strings.Builder
	b.WriteString(w.head())
	last := len(roots) - 1
	write := func(root, key, end, indent string) {
		host, prefix, below := strings.Cut(root, "/")
		url := scheme + host
		if below {
			url += "/v2/" + prefix
		}
		b.WriteString(key + tomlString(url) + end + "\n")
		b.WriteString(indent + "capabilities = [\"pull\", \"resolve\"]\n")
		if below {
			b.WriteString(indent + "override_path = true\n")
		}
		if w.o.CA != "" {
			b.WriteString(indent + "ca = " + tomlString(w.o.CA) + "\n")
		}
	}
	write(roots[last], "server = ", "", "")
	// containerd 1.6 reads no file without a host in it, so that a lone mirror is
	// written twice.
	for _, root := range roots[:max(last, 1)] {
		b.WriteByte('\n')
		write(root, "[host.", "]", "  ")
	}
	return b.String()
}

// tomlString writes a basic string (TOML 1.0, "String"). Control characters
// were refused before.
func tomlString(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
