package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle/regular"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/mirror/relocate"
	"github.com/spf13/cobra"
)

// relocateFlags are the flags of relocate.
type relocateFlags struct {
	to     string
	out    string
	nodeCA string
	values string
}

// relocate is a command of its own, not a flag of mirror: the map is kept, so
// that every format can be made later, on another machine, without a registry.
func (a *app) relocate() *cobra.Command {
	var f relocateFlags
	list := kindList()
	cmd := &cobra.Command{
		Use: "relocate MAP --to FORMAT", Short: "Write a relocation map as configuration of those who pull",
		Long: "Reads the map that airlock mirror --relocation-map wrote, and writes it as one of\n" + list + ".\n" +
			"Images are named by tag and digest. What a format cannot say is told on stderr.",
		Args: args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, list []string) error { return a.runRelocate(list[0], f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.to, "to", "", "`format`: "+list)
	fl.StringVarP(&f.out, "out", "o", "", "write to `path`: a new file, for containerd a directory, where what an earlier map left is replaced; stdout if not given")
	fl.StringVar(&f.nodeCA, "node-ca", "", "containerd: `path` on the nodes of the registry's CA certificates")
	fl.StringVar(&f.values, "values", "", "helm-values: `file` with the chart's default values, for an overlay instead of a list of images")
	return cmd
}

// check refuses flags before anything is read. What a person takes for --to
// may be a registry, with a password before it.
func (f relocateFlags) check() error {
	kind, list := relocate.Kind(f.to), kindList()
	switch {
	case f.to == "":
		return &usageError{errors.New("--to is required: the format to write, one of " + list)}
	case !slices.Contains(relocate.Kinds(), kind) && strings.ContainsAny(f.to, "@:/"):
		return &usageError{errors.New("--to: unknown format, it is one of " + list)}
	case !slices.Contains(relocate.Kinds(), kind):
		return &usageError{fmt.Errorf("--to: unknown format %q, it is one of %s", f.to, list)}
	case f.nodeCA != "" && kind != relocate.Containerd:
		return &usageError{fmt.Errorf("--node-ca is for containerd, it means nothing in %s", kind)}
	case f.values != "" && kind != relocate.Helm:
		return &usageError{fmt.Errorf("--values is for helm-values, it means nothing in %s", kind)}
	}
	return nil
}

func kindList() string {
	var kinds []string
	for _, k := range relocate.Kinds() {
		kinds = append(kinds, string(k))
	}
	return strings.Join(kinds, ", ")
}

func (a *app) runRelocate(name string, f relocateFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	data, err := regular.Read(name, manifests.MaxDocument)
	if err != nil {
		return fmt.Errorf("read relocation map: %w", err)
	}
	m, err := manifests.ParseRelocationMap(name, data)
	if err != nil {
		return err
	}
	host, _, _ := strings.Cut(m.Target, "/")
	o := relocate.Options{CA: f.nodeCA, PlainHTTP: m.PlainHTTP || slices.Contains(a.plainHTTP, host)}
	if f.values != "" {
		if o.Values, err = regular.Read(f.values, manifests.MaxDocument); err != nil {
			return fmt.Errorf("read values: %w", err)
		}
	}
	kind := relocate.Kind(f.to)
	out, err := relocate.Write(kind, m, o)
	if err != nil {
		return &settingError{err, "give the map as airlock mirror wrote it, with --values a chart's values.yaml, with --node-ca an absolute path"}
	}
	if kind == relocate.Containerd && !o.PlainHTTP {
		out.Notes = append(out.Notes, "nodes are told to speak HTTPS with "+host+"; if they have to speak HTTP, say --plain-http "+host)
	}
	for _, n := range out.Notes {
		a.say("note: %s", n)
	}
	if f.out == "" {
		return a.showFiles(out, kind == relocate.Containerd)
	}
	return a.writeFiles(f.out, kind, out.Files)
}

// showFiles writes the files to stdout, those of a tree with a line before each
// that says where it belongs.
func (a *app) showFiles(out relocate.Output, tree bool) error {
	files := map[string]string{}
	for _, file := range out.Files {
		files[file.Path] = string(file.Data)
	}
	return a.result(map[string]any{"files": files, "notes": append([]string{}, out.Notes...)}, func(w io.Writer) {
		for _, file := range out.Files {
			if tree {
				fmt.Fprintf(w, "## %s\n", file.Path)
			}
			fmt.Fprintf(w, "%s", file.Data)
		}
	})
}

// writeFiles writes the one file under the name given, which must be free, or a
// tree below it.
func (a *app) writeFiles(out string, kind relocate.Kind, files []relocate.File) error {
	if kind != relocate.Containerd {
		return writeNew(out, files[0].Data, 0o644)
	}
	return a.writeTree(out, files)
}

// writeTree puts files below a directory in place of those that an earlier map
// left there: each is the old or the new one whenever the run ends. Nothing is
// written if one is somebody else's.
func (a *app) writeTree(out string, files []relocate.File) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(out)
	if err != nil {
		return err
	}
	defer root.Close()
	same := map[string]bool{}
	for _, file := range files {
		full := filepath.Join(out, filepath.FromSlash(file.Path))
		old, err := regular.Read(full, manifests.MaxDocument)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case !bytes.HasPrefix(old, []byte(relocate.Mark)):
			return &otherFileError{path: full, what: "file that airlock relocate wrote", flag: "out"}
		}
		same[file.Path] = err == nil && bytes.Equal(old, file.Data)
	}
	for _, file := range files {
		if same[file.Path] {
			continue
		}
		if err := root.MkdirAll(path.Dir(file.Path), 0o755); err != nil {
			return err
		}
		if err := replaceFile(filepath.Join(out, filepath.FromSlash(file.Path)), file.Data); err != nil {
			return err
		}
	}
	return a.stale(root, out, files)
}

// stale tells of files of an earlier map for hosts that this one does not have.
func (a *app) stale(root *os.Root, out string, files []relocate.File) error {
	have, err := fs.Glob(root.FS(), "*/hosts.toml")
	if err != nil {
		return err
	}
	for _, name := range have {
		full := filepath.Join(out, filepath.FromSlash(name))
		old, err := regular.Read(full, manifests.MaxDocument)
		if err != nil || !bytes.HasPrefix(old, []byte(relocate.Mark)) {
			continue // not of a map
		}
		if !slices.ContainsFunc(files, func(f relocate.File) bool { return f.Path == name }) {
			a.say("note: %s is of an earlier map, and this one has no image of that host: nodes go on using it until it is removed", full)
		}
	}
	return nil
}
