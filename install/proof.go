package install

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/airlock-project/airlock/manifests"
)

// MaxProof bounds a file that goes with a statement: a scan or a screenshot,
// not a recording.
const MaxProof = 16 << 20

// ProofFile is a file that a person gives with a statement.
type ProofFile struct {
	Name string // as the item's evidence names it
	Data []byte // at most MaxProof bytes
}

// EvidenceError says that what goes with a statement is not what the item asks
// for.
type EvidenceError struct {
	Item string
	Name string
	Text string
	Have []string // names that the item has evidence for
}

func (e *EvidenceError) Error() string {
	return fmt.Sprintf("evidence %q of item %s: %s", e.Name, e.Item, e.Text)
}

// checkProofs checks files against what an item asks for and describes them.
func checkProofs(item *manifests.Item, files []ProofFile) ([]EvidenceProof, error) {
	defs := map[string]manifests.Proof{}
	var names []string
	if item.Attest != nil {
		for _, p := range item.Attest.Evidence {
			defs[p.Name] = p
			names = append(names, p.Name)
		}
	}
	wrong := func(name, format string, args ...any) error {
		return &EvidenceError{Item: item.ID, Name: name, Text: fmt.Sprintf(format, args...), Have: names}
	}
	var out []EvidenceProof
	for _, f := range files {
		def, ok := defs[f.Name]
		switch {
		case !ok && item.Attest != nil:
			return nil, wrong(f.Name, "the item asks for no such evidence")
		case slices.ContainsFunc(out, func(e EvidenceProof) bool { return e.Name == f.Name }):
			return nil, wrong(f.Name, "it is given twice")
		case len(f.Data) == 0:
			return nil, wrong(f.Name, "the file is empty")
		case len(f.Data) > MaxProof:
			return nil, wrong(f.Name, "the file has %d bytes, at most %d are kept", len(f.Data), MaxProof)
		}
		media, ok := sniff(f.Data, def.Media)
		if !ok {
			return nil, wrong(f.Name, "the file is %s, want %s", media, strings.Join(def.Media, " or "))
		}
		out = append(out, EvidenceProof{Name: f.Name, Media: media, SHA256: sumOf(f.Data), Bytes: len(f.Data)})
	}
	for _, name := range names {
		if defs[name].Required && !slices.ContainsFunc(out, func(e EvidenceProof) bool { return e.Name == name }) {
			return nil, wrong(name, "it is required and missing")
		}
	}
	return out, nil
}

// sniff tells what data is by its content (WHATWG MIME Sniffing, as net/http
// has it), and whether that is one of the types wanted; none wanted is any. Text
// has many names that its content does not tell: it is taken for each text/*,
// and for JSON where it is that.
func sniff(data []byte, want []string) (string, bool) {
	got, _, err := mime.ParseMediaType(http.DetectContentType(data))
	if err != nil {
		got = "application/octet-stream"
	}
	text := strings.HasPrefix(got, "text/") && utf8.Valid(data)
	if text && json.Valid(data) {
		got = "application/json"
	}
	if len(want) == 0 {
		return got, true
	}
	for _, w := range want {
		switch {
		case w == got, text && strings.HasPrefix(w, "text/"), got == "application/json" && strings.HasSuffix(w, "+json"),
			got == "text/xml" && (w == "application/xml" || strings.HasSuffix(w, "+xml")),
			got == "application/zip" && (strings.HasPrefix(w, "application/vnd.openxmlformats-officedocument.") || strings.HasPrefix(w, "application/vnd.oasis.opendocument.")):
			return w, true
		}
	}
	return got, false
}
