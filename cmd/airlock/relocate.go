package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

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
	var kinds []string
	for _, k := range relocate.Kinds() {
		kinds = append(kinds, string(k))
	}
	list := strings.Join(kinds, ", ")
	cmd := &cobra.Command{
		Use: "relocate MAP --to FORMAT", Short: "Write a relocation map as configuration of those who pull",
		Long: "Reads the map that airlock mirror --relocation-map wrote, and writes it as one of\n" + list + ".\n" +
			"Images are named by tag and digest. What a format cannot say is told on stderr.",
		Args: args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, list []string) error { return a.runRelocate(list[0], f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.to, "to", "", "`format`: "+list)
	fl.StringVarP(&f.out, "out", "o", "", "write to `path`: a new file, for containerd a directory; stdout if not given")
	fl.StringVar(&f.nodeCA, "node-ca", "", "containerd: `path` on the nodes of the registry's CA certificates")
	fl.StringVar(&f.values, "values", "", "helm-values: `file` with the chart's default values, for an overlay instead of a list of images")
	return cmd
}

func (a *app) runRelocate(name string, f relocateFlags) error {
	if f.to == "" {
		return &usageError{errors.New("--to is required: the format to write")}
	}
	data, err := readBounded(name, manifests.MaxDocument)
	if err != nil {
		return fmt.Errorf("read relocation map: %w", err)
	}
	m, err := manifests.ParseRelocationMap(name, data)
	if err != nil {
		return err
	}
	host, _, _ := strings.Cut(m.Target, "/")
	o := relocate.Options{CA: f.nodeCA, PlainHTTP: slices.Contains(a.plainHTTP, host)}
	if f.values != "" {
		if o.Values, err = readBounded(f.values, manifests.MaxDocument); err != nil {
			return fmt.Errorf("read values: %w", err)
		}
	}
	out, err := relocate.Write(relocate.Kind(f.to), m, o)
	if _, ok := errors.AsType[*relocate.KindError](err); ok {
		return &usageError{err}
	}
	if err != nil {
		return err
	}
	for _, n := range out.Notes {
		a.say("note: %s", n)
	}
	if f.out == "" {
		return a.showFiles(out)
	}
	return writeFiles(f.out, relocate.Kind(f.to), out.Files)
}

// showFiles writes the files to stdout, several with a line before each.
func (a *app) showFiles(out relocate.Output) error {
	files := map[string]string{}
	for _, file := range out.Files {
		files[file.Path] = string(file.Data)
	}
	return a.result(map[string]any{"files": files, "notes": append([]string{}, out.Notes...)}, func(w io.Writer) {
		for _, file := range out.Files {
			if len(out.Files) > 1 {
				fmt.Fprintf(w, "## %s\n", file.Path)
			}
			fmt.Fprintf(w, "%s", file.Data)
		}
	})
}

// writeFiles writes a tree below a directory, or the one file under the name
// given. Nothing is overwritten.
func writeFiles(out string, kind relocate.Kind, files []relocate.File) error {
	if kind != relocate.Containerd {
		return writeNew(out, files[0].Data, 0o644)
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(out)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, file := range files {
		if err := root.MkdirAll(path.Dir(file.Path), 0o755); err != nil {
			return err
		}
		f, err := root.OpenFile(filepath.FromSlash(file.Path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		_, err = f.Write(file.Data)
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("write %s: %w", file.Path, err)
		}
	}
	return nil
}
