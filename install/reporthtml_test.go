package install

import (
	"regexp"
	"strings"
	"testing"
)

func TestReportHTML(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.fail["kettle.example.internal"] = Finding{Code: "KET-01", Detail: "\x1b[31mrust", Fields: map[string]string{"name": `<script>alert("k")</script>`, "tool": "a brush"}}
	rep := s.run()
	raw, err := rep.HTML()
	if err != nil {
		t.Fatal(err)
	}
	page := string(raw)
	for _, ph := range s.list.Phases {
		if !strings.Contains(page, "Phase "+string(rune('0'+ph.Number))+": "+ph.Title) {
			t.Errorf("the page lacks phase %s", ph.Title)
		}
	}
	for _, it := range s.list.Items {
		row := it.SeedRow
		if row == "" {
			row = title(&it)
		}
		if !strings.Contains(page, ">"+row+"<") || !strings.Contains(page, `id="`+it.ID+`"`) {
			t.Errorf("the page lacks row %q (%s)", row, it.ID)
		}
	}
	for _, want := range []string{
		"fail <code>KET-01</code>", "scrub &lt;script&gt;", "a brush", "by ops on 2026-11-22T", "seen: [31mrust", rep.Ledger.Hash, "<svg",
		`prefers-color-scheme: dark`, "@media print", `name="viewport"`, "a required item failed", "It is not signed",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(page, "<script") || strings.ContainsRune(page, 0x1b) {
		t.Error("markup or a control character came through")
	}
	if found := regexp.MustCompile(`(?i)(src|href)\s*=\s*"[^#"][^"]*"|url\(|@import|https?://`).FindString(page); found != "" {
		t.Errorf("the page refers to something outside: %s", found)
	}
}

// TestReportHTMLDryRun: a dry run has no ledger, and the page says so by
// leaving it out.
func TestReportHTMLDryRun(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.opts.DryRun = true
	raw, err := s.run().HTML()
	if err != nil {
		t.Fatal(err)
	}
	if page := string(raw); strings.Contains(page, "<svg") || !strings.Contains(page, "Dry run: installation of brewery") || !strings.Contains(page, "would: make mash") {
		t.Errorf("page of a dry run:\n%s", page)
	}
}

// TestReportsShowWhatWasSaid: the page has the text that people signed, the text
// report the rows as the checklist's document has them.
func TestReportsShowWhatWasSaid(t *testing.T) {
	t.Parallel()
	p := newPub(t, "seed_row: Clean the kettle", "seed_row: Clean the kettle\n    title: Kettle without rust")
	p.run()
	rep := p.mustAttest(p.alice)
	raw, err := rep.HTML()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(raw), "“I drank from kettle.example.internal”") {
		t.Error("the page lacks the statement")
	}
	if text := rep.Text(); !strings.Contains(text, "clean-kettle  Clean the kettle: Kettle without rust") {
		t.Errorf("the text lacks the row:\n%s", text)
	}
}
