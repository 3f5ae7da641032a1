// Program bench measures airlock beside cp, sha256sum and skopeo, on two gzip
// images of 369 and 280 MB that share layers: 391 MB of distinct blobs.
//
//	go run ./testdata/bench [-rounds 5] [-run EXPR] [-json] [-dir DIR] [-airlock FILE] [-large]
//
// Both registries are olareg in this process; airlock is built from this tree
// and runs as a process of its own, whose memory and writes are its own. Every
// step runs once a round. Times are medians with the best beside them: compare
// ratios, which are of best times, not seconds, across machines, and take the
// numbers of a busy machine (the load is shown) for upper bounds.
//
// Bundles of other shapes are mirrored once, to a registry in this process that
// keeps nothing: small and large blobs behind a relay that adds 50 ms to a round
// trip, 400 MB and, with -large, 4 GB.
//
// It needs 3 GB under -dir, which should not be a RAM disk (bytes written would
// read 0), and removes what it wrote.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// skopeoMissing is said where the two rows of skopeo cannot be measured.
const skopeoMissing = "skopeo is not installed: its rows are missing. Debian and Ubuntu: apt-get install skopeo"

// flags are the command line.
type flags struct {
	rounds  int
	only    string
	json    bool
	dir     string
	airlock string
	large   bool
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == childArg {
		exit(runChild(os.Args[2:], os.Stdout, os.Stderr))
	}
	var f flags
	flag.IntVar(&f.rounds, "rounds", 5, "how often every step runs")
	flag.StringVar(&f.only, "run", "", "run only the steps whose name matches this expression, and create")
	flag.BoolVar(&f.json, "json", false, "write the result as JSON")
	flag.BoolVar(&f.large, "large", false, "also mirror a bundle of 4 GB, which takes about a minute and 5 GB under -dir")
	flag.StringVar(&f.dir, "dir", "", "folder for 3 GB of temporary files (default: the system's)")
	flag.StringVar(&f.airlock, "airlock", "", "measure this binary and build none")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, f, os.Stdout, os.Stderr)
	stop()
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// bench is one run in a temporary folder.
type bench struct {
	dir      string
	airlock  string
	platform string
	in       *inputs
	source   *registry
	target   *registry // nil, or the empty one that a step asked for
	selfSize int64     // of the bundle that carries airlock itself
	notes    []string  // what rows have to say beside their numbers
}

func run(ctx context.Context, f flags, stdout, stderr io.Writer) (err error) {
	if f.rounds < 1 || flag.NArg() > 0 {
		return errors.New("usage: bench [-rounds N] [-run EXPR] [-json] [-dir DIR] [-airlock FILE] [-large]")
	}
	dir, err := os.MkdirTemp(f.dir, "airlock-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{dir: dir, platform: runtime.GOOS + "/" + runtime.GOARCH}
	defer func() { err = errors.Join(err, b.source.close(), b.target.close()) }()
	if err := b.prepare(ctx, f, stderr); err != nil {
		return err
	}
	_, missing := exec.LookPath("skopeo")
	only, err := regexp.Compile(f.only)
	if err != nil {
		return err
	}
	list := slices.DeleteFunc(steps(missing == nil, f.large), func(s step) bool { return s.Name != rowCreate && !only.MatchString(s.Name) })
	rep := b.newReport(list, f.rounds)
	if missing != nil {
		rep.Notes = append(rep.Notes, skopeoMissing)
	}
	if err := rep.measure(ctx, b, stderr); err != nil {
		return err
	}
	if err := rep.finish(b); err != nil {
		return err
	}
	if f.json {
		return rep.writeJSON(stdout)
	}
	return rep.writeTable(stdout)
}

// prepare builds the programs, makes the images and fills the source registry.
func (b *bench) prepare(ctx context.Context, f flags, stderr io.Writer) error {
	start := time.Now()
	if err := b.programs(ctx, f.airlock); err != nil {
		return err
	}
	var err error
	if b.in, err = makeInputs(b.path("images")); err != nil {
		return fmt.Errorf("make images: %w", err)
	}
	b.source = startRegistry(b.path("source"))
	if err := b.source.fill(ctx, b.in); err != nil {
		return fmt.Errorf("fill registry: %w", err)
	}
	if _, err := b.measure(ctx, b.dir, b.airlock, "keygen", "--name", "bench"); err != nil {
		return err
	}
	fmt.Fprintf(stderr, "prepared in %s\n", time.Since(start).Round(time.Second))
	return nil
}

// programs builds airlock as releases are built, unless a binary is given, and
// makes a tool for bundles to carry that costs nothing: the head of this
// program, an ELF file for this machine as far as anyone looks.
func (b *bench) programs(ctx context.Context, given string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	head := make([]byte, 4096)
	f, err := os.Open(self)
	if err != nil {
		return err
	}
	_, err = io.ReadFull(f, head)
	if err := errors.Join(err, f.Close(), os.Mkdir(b.path("tools"), 0o755)); err != nil {
		return err
	}
	if err := os.WriteFile(b.path("tools", "airlock-"+strings.ReplaceAll(b.platform, "/", "-")), head, 0o755); err != nil {
		return err
	}
	if given != "" {
		b.airlock, err = filepath.Abs(given)
		return err
	}
	b.airlock = b.path("airlock")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", b.airlock, "./cmd/airlock")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build airlock: %w\n%s", err, msg)
	}
	return nil
}

// emptyTarget starts the registry that a step pushes to anew.
func (b *bench) emptyTarget() error {
	err := b.target.close()
	b.target = nil
	if err := errors.Join(err, os.RemoveAll(b.path("target"))); err != nil {
		return err
	}
	b.target = startRegistry(b.path("target"))
	return nil
}

func (b *bench) path(elem ...string) string {
	return filepath.Join(append([]string{b.dir}, elem...)...)
}

func (b *bench) bundle() string { return b.path("small", "bench.tar.zst") }
