// Program fuzzrun fuzzes every fuzz target of the packages for a short time,
// one after the other, and refuses a target without a seed.
//
//	go run ./testdata/fuzzrun [-fuzztime 10s] PACKAGES
//
// It exits with 1 after the last target if any failed; go test leaves the
// failing input in the package's testdata/fuzz.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
)

func main() {
	fuzztime := flag.String("fuzztime", "10s", "time for each target, or a number of inputs: 100x")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *fuzztime, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "fuzzrun:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, fuzztime string, patterns []string) error {
	targets, err := find(ctx, patterns)
	if err != nil {
		return err
	}
	if len(targets) == 0 {
		return errors.New("find fuzz targets: none in these packages")
	}
	var errs []error
	for _, t := range targets {
		fmt.Printf("fuzz %s %s\n", t.pkg, t.name)
		if !t.seeded {
			errs = append(errs, fmt.Errorf("fuzz %s %s: no seed: call f.Add or put files under testdata/fuzz/%s", t.pkg, t.name, t.name))
			continue
		}
		cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-fuzz", "^"+t.name+"$", "-fuzztime", fuzztime, "-fuzzminimizetime", "10x", t.pkg)
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			errs = append(errs, fmt.Errorf("fuzz %s %s: %w", t.pkg, t.name, err))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return errors.Join(errs...)
}

type target struct {
	pkg, name string
	seeded    bool
}

// find lists the fuzz targets in the order of go list.
func find(ctx context.Context, patterns []string) ([]target, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"list", "-json=ImportPath,Dir,TestGoFiles,XTestGoFiles"}, patterns...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list packages: %w", err)
	}
	var targets []target
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath, Dir           string
			TestGoFiles, XTestGoFiles []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return targets, nil
		} else if err != nil {
			return nil, fmt.Errorf("read list of packages: %w", err)
		}
		for _, name := range append(p.TestGoFiles, p.XTestGoFiles...) {
			found, err := parse(p.ImportPath, filepath.Join(p.Dir, name))
			if err != nil {
				return nil, err
			}
			targets = append(targets, found...)
		}
	}
}

// parse lists the fuzz targets of one file.
func parse(pkg, path string) ([]target, error) {
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("parse test file: %w", err)
	}
	var targets []target
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Fuzz") {
			continue
		}
		corpus := filepath.Join(filepath.Dir(path), "testdata", "fuzz", fn.Name.Name)
		targets = append(targets, target{pkg, fn.Name.Name, callsAdd(fn) || hasFiles(corpus)})
	}
	return targets, nil
}

// callsAdd reports whether the target adds a seed, itself or by handing its
// *testing.F to a helper.
func callsAdd(fn *ast.FuncDecl) bool {
	if fn.Body == nil || len(fn.Type.Params.List) != 1 || len(fn.Type.Params.List[0].Names) != 1 {
		return false
	}
	f := fn.Type.Params.List[0].Names[0].Name
	isF := func(e ast.Expr) bool {
		id, ok := e.(*ast.Ident)
		return ok && id.Name == f
	}
	found := false
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if sel, ok := call.Fun.(*ast.SelectorExpr); ok && isF(sel.X) && sel.Sel.Name == "Add" {
			found = true
		}
		for _, arg := range call.Args {
			found = found || isF(arg)
		}
		return true
	})
	return found
}

func hasFiles(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) > 0
}
