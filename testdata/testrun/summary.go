package main

import (
	"fmt"
	"io"
	"strings"
)

// event is one line of go test -json (cmd/test2json, and "go help buildjson"
// for the lines about building).
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build-output
	Test        string
	Elapsed     float64 // seconds
	Output      string
	FailedBuild string
}

type key struct{ pkg, test string }

func (k key) String() string { return strings.TrimSuffix(k.pkg+" "+k.test, " ") }

type skip struct {
	key
	reason string
}

// summary counts the leaves of the tree of tests.
type summary struct {
	w       io.Writer
	output  map[key][]string    // of running tests
	builds  map[string][]string // output of the compiler
	parents map[key]bool        // tests with subtests
	blamed  map[key]bool        // tests and packages with a failure below them
	passed  int
	failed  []key
	skipped []skip
}

func newSummary(w io.Writer) *summary {
	return &summary{
		w:       w,
		output:  map[key][]string{},
		builds:  map[string][]string{},
		parents: map[key]bool{},
		blamed:  map[key]bool{},
	}
}

func (s *summary) add(e event) {
	k := key{e.Package, e.Test}
	switch e.Action {
	case "run":
		if i := strings.LastIndexByte(e.Test, '/'); i >= 0 {
			s.parents[key{e.Package, e.Test[:i]}] = true
		}
	case "output":
		s.output[k] = append(s.output[k], e.Output)
	case "build-output":
		s.builds[e.ImportPath] = append(s.builds[e.ImportPath], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			s.endPackage(k, e)
		} else {
			s.endTest(k, e.Action)
		}
		delete(s.output, k)
	}
}

func (s *summary) endTest(k key, action string) {
	switch {
	case action == "fail":
		s.fail(k)
	case action == "skip":
		s.skipped = append(s.skipped, skip{k, reason(s.output[k])})
	case !s.parents[k]:
		s.passed++
	}
}

// fail counts k unless something below it was counted. Its own output is shown
// in either case.
func (s *summary) fail(k key) {
	fmt.Fprintf(s.w, "FAIL %s\n", k)
	for _, line := range s.output[k] {
		fmt.Fprint(s.w, "    ", line)
	}
	if !s.blamed[k] {
		s.failed = append(s.failed, k)
	}
	for t := k.test; t != ""; {
		t = t[:max(0, strings.LastIndexByte(t, '/'))]
		s.blamed[key{k.pkg, t}] = true
	}
}

func (s *summary) endPackage(k key, e event) {
	switch e.Action {
	case "pass":
		fmt.Fprintf(s.w, "ok   %s %.1fs\n", k.pkg, e.Elapsed)
	case "fail":
		// A test that was still running when its process died has no end of its own.
		for running, lines := range s.output {
			if running.pkg == k.pkg && running.test != "" {
				s.output[k] = append(s.output[k], lines...)
				delete(s.output, running)
			}
		}
		s.output[k] = append(s.output[k], s.builds[e.FailedBuild]...)
		s.fail(k)
	case "skip": // no test files
	}
}

// reason is what a test wrote before it was skipped, on one line.
func reason(output []string) string {
	var words []string
	for _, line := range output {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "--- SKIP") {
			words = append(words, line)
		}
	}
	if len(words) == 0 {
		return "no reason given"
	}
	return strings.Join(words, " ")
}

// print writes what was skipped and what failed, and last the counts.
func (s *summary) print(w io.Writer) {
	for _, k := range s.skipped {
		fmt.Fprintf(w, "skipped %s: %s\n", k.key, k.reason)
	}
	for _, k := range s.failed {
		fmt.Fprintf(w, "failed  %s\n", k)
	}
	fmt.Fprintf(w, "%d passed, %d failed, %d skipped\n", s.passed, len(s.failed), len(s.skipped))
}

// good reports whether the run may count as a success: something ran, nothing
// failed and, where strict, nothing was skipped.
func (s *summary) good(strict bool) bool {
	return s.passed > 0 && len(s.failed) == 0 && (!strict || len(s.skipped) == 0)
}
