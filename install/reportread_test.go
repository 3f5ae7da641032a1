package install

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadReport(t *testing.T) {
	t.Parallel()
	for _, sign := range []bool{true, false} {
		s := newShop(t)
		s.fail["hops"] = Finding{Code: "KET-01", Severity: SeverityWarn, Detail: "not UTF-8: \xff", Fields: map[string]string{"name": "x", "tool": "y"}}
		if sign {
			s.opts.KeyID, s.opts.Sign = "SHA256:ops", func([]byte) ([]byte, error) { return []byte("s"), nil }
		}
		rep := s.run()
		got, err := ReadReport(s.opts.State)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(strings.ToValidUTF8(rep.Text(), "\ufffd"), got.Text()); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff(rep.Ledger, got.Ledger); d != "" {
			t.Error(d)
		}
		if sign != (len(got.Checkpoint.Sig) > 0) {
			t.Errorf("checkpoint %+v", got.Checkpoint)
		}
	}
}

func TestReportTampered(t *testing.T) {
	t.Parallel()
	edit := func(name, from, to string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			raw, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			changed := strings.Replace(string(raw), from, to, 1)
			if changed == string(raw) {
				t.Fatalf("%s holds no %s", name, from)
			}
			write(t, dir, name, changed)
		}
	}
	for name, c := range map[string]struct {
		change func(t *testing.T, dir string)
		want   string
	}{
		"report edited": {edit(fileReport, `"state": "waiting"`, `"state": "pass"`), "the report was changed"},
		"report gone": {func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, fileReport)); err != nil {
				t.Fatal(err)
			}
		}, "report.json is gone"},
		"report of another run": {func(t *testing.T, dir string) {
			other := newShop(t)
			other.run()
			raw, err := os.ReadFile(filepath.Join(other.opts.State, fileReport))
			if err != nil {
				t.Fatal(err)
			}
			write(t, dir, fileReport, string(raw))
		}, "the report was changed"},
		"ledger edited": {edit(fileLedger, `"status":"pass"`, `"status":"warn"`), "its data does not fit"},
		"ledger cut": {func(t *testing.T, dir string) {
			l := ledgerLines(t, dir)
			write(t, dir, fileLedger, strings.Join(l[:len(l)-1], ""))
		}, "the end was cut off"},
		"ledger emptied": {func(t *testing.T, dir string) { write(t, dir, fileLedger, "") }, "the end was cut off"},
		"run.json edited": {func(t *testing.T, dir string) {
			patch(t, dir, func(snap *snapshot) { snap.Ledger.Hash = sumOf(nil) })
		}, "rewritten"},
		"run.json gone": {func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, fileRun)); err != nil {
				t.Fatal(err)
			}
		}, "run.json is gone"},
	} {
		s := newShop(t)
		s.run()
		c.change(t, s.opts.State)
		_, err := ReadReport(s.opts.State)
		if _, ok := errors.AsType[*LedgerError](err); !ok || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
}

// TestReportOfATornLedger: a killed run can leave half a line.
func TestReportOfATornLedger(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.run()
	raw, err := os.ReadFile(filepath.Join(s.opts.State, fileLedger))
	if err != nil {
		t.Fatal(err)
	}
	write(t, s.opts.State, fileLedger, string(raw)+`{"seq":20,"pre`)
	rep, err := ReadReport(s.opts.State)
	if err != nil || !rep.Stopped || states(rep)["mash"] != StatePass {
		t.Errorf("%+v, %v", rep, err)
	}
}
