package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

// report is what a run found.
type report struct {
	Rounds  int      `json:"rounds"`
	CPUs    int      `json:"cpus"`
	Go      string   `json:"go"`
	Load    string   `json:"load"`    // of the machine at the end, 1, 5 and 15 minutes
	Content int64    `json:"content"` // bytes of distinct blobs and manifests: N
	Bundle  int64    `json:"bundle"`  // size of the bundle in bytes
	Self    int64    `json:"self"`    // size of the bundle that carries airlock itself
	Rows    []*row   `json:"rows"`
	Notes   []string `json:"notes,omitempty"`
}

// row is one step: medians, the best time, and ratios of best times, because
// what else the machine does only ever adds.
type row struct {
	step
	Median   float64  `json:"median"` // seconds
	Best     float64  `json:"best"`   // seconds
	CPU      float64  `json:"cpu"`    // seconds
	Written  int64    `json:"written"`
	Peak     int64    `json:"peak"` // the highest of all rounds
	Received int64    `json:"received"`
	ToCp     float64  `json:"toCp"`
	ToSum    float64  `json:"toSha256sum"`
	ToFloor  float64  `json:"toFloor,omitempty"`
	ToSkopeo float64  `json:"toSkopeo,omitempty"`
	Samples  []sample `json:"samples"`
}

func (b *bench) newReport(list []step, rounds int) *report {
	r := &report{Rounds: rounds, CPUs: runtime.NumCPU(), Go: runtime.Version(), Content: b.in.bytes}
	for _, s := range list {
		r.Rows = append(r.Rows, &row{step: s})
	}
	return r
}

// measure runs every step once a round.
func (r *report) measure(ctx context.Context, b *bench, stderr io.Writer) error {
	for i := range r.Rounds {
		for _, w := range r.Rows {
			if w.once && i > 0 {
				continue
			}
			fmt.Fprintf(stderr, "round %d of %d: %s\n", i+1, r.Rounds, w.Name)
			s, err := w.run(b, ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", w.Name, err)
			}
			w.Samples = append(w.Samples, s)
		}
	}
	return nil
}

// finish computes what follows from the samples.
func (r *report) finish(b *bench) error {
	fi, err := os.Stat(b.bundle())
	if err != nil {
		return err
	}
	r.Bundle, r.Self = fi.Size(), b.selfSize
	r.Notes = append(r.Notes, b.notes...)
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		r.Load = strings.Join(strings.Fields(string(load))[:3], " ")
	}
	best := map[string]float64{}
	for _, w := range r.Rows {
		w.Median = middle(w.Samples, func(s sample) float64 { return s.Seconds })
		w.CPU = middle(w.Samples, func(s sample) float64 { return s.CPU })
		w.Written = int64(middle(w.Samples, func(s sample) float64 { return float64(s.Written) }))
		w.Received = int64(middle(w.Samples, func(s sample) float64 { return float64(s.Received) }))
		w.Best = w.Samples[0].Seconds
		for _, s := range w.Samples {
			w.Best, w.Peak = min(w.Best, s.Seconds), max(w.Peak, s.Peak)
		}
		best[w.Name] = w.Best
	}
	for _, w := range r.Rows {
		w.ToCp, w.ToSum = ratio(w.Best, best[rowCp]), ratio(w.Best, best[rowSum])
		w.ToFloor, w.ToSkopeo = ratio(w.Best, best[w.Floor]), ratio(w.Best, best[w.peer])
	}
	return nil
}

// ratio is 0 where there is nothing to compare with.
func ratio(v, to float64) float64 {
	if to == 0 {
		return 0
	}
	return v / to
}

func middle(list []sample, value func(sample) float64) float64 {
	var v []float64
	for _, s := range list {
		v = append(v, value(s))
	}
	slices.Sort(v)
	return v[len(v)/2]
}

func (r *report) writeJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

func (r *report) writeTable(w io.Writer) error {
	fmt.Fprintf(w, "N = %.1f MB of distinct blobs in two images; bundle %.1f MB; %d rounds, %d CPUs, %s, load %s\n\n",
		mb(r.Content), mb(r.Bundle), r.Rounds, r.CPUs, r.Go, r.Load)
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "step\tmedian s\tbest s\tCPU s\tx cp\tx sha256sum\tx floor\tx skopeo\twritten\tsent\tpeak MB\t")
	for _, x := range r.Rows {
		fmt.Fprintf(t, "%s\t%.3f\t%.3f\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", x.Name, x.Median, x.Best, optional("%.2f", x.CPU),
			optional("%.2f", x.ToCp), optional("%.2f", x.ToSum), optional("%.2f", x.ToFloor), optional("%.2f", x.ToSkopeo), r.times(x.Written), r.times(x.Received), optional("%.0f", mb(x.Peak)))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w, "\nRatios are of best times. Floors: cp and sync for create, SHA-256 on all cores for verify, the plain upload for mirror.")
	if r.Self > 0 {
		fmt.Fprintf(w, "The bundle with airlock itself inside has %.1f MB; create also writes the binary beside it.\n", mb(r.Self))
	}
	for _, n := range r.Notes {
		fmt.Fprintln(w, n)
	}
	return nil
}

// times writes bytes as a multiple of N.
func (r *report) times(n int64) string { return optional("%.3f N", float64(n)/float64(r.Content)) }

// optional leaves out what was not measured, or is nothing.
func optional(format string, v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf(format, v)
}

func mb(n int64) float64 { return float64(n) / 1e6 }
