package usage

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/place"
)

const (
	manifestName = "manifest.json"
	sumsName     = "SHA256SUMS"
	maxManifest  = 4 << 20
)

// manifest lists what was exported, in order.
type manifest struct {
	Version int     `json:"version"`
	Batches []batch `json:"batches"`
	changed string  // a file that is not as listed
	got     string
}

// batch is one file. Times are Unix seconds, the end exclusive.
type batch struct {
	File   string `json:"file"`
	Start  int64  `json:"start"`
	End    int64  `json:"end"`
	SHA256 string `json:"sha256"`
	Bytes  int    `json:"bytes"`
}

func (b batch) endTime() time.Time { return time.Unix(b.End, 0).UTC() }

// readManifest reads what earlier runs left and looks at the files that are
// still there: those that were handed over may be gone.
func readManifest(dir, to string) (*manifest, error) {
	m := &manifest{Version: 1}
	raw, full, err := place.Read(dir, to+"/"+manifestName, maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(m); err != nil || m.Version != 1 {
		return nil, fmt.Errorf("read manifest: %s is not one of version 1", full)
	}
	for _, b := range m.Batches {
		if err := place.Path(b.File); err != nil || strings.Contains(b.File, "/") || b.End <= b.Start {
			return nil, fmt.Errorf("read manifest: %s has a batch %q that cannot be", full, b.File)
		}
		data, _, err := place.Read(dir, to+"/"+b.File, maxBatch)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read batch: %w", err)
		}
		if got := sum(data); got != b.SHA256 && m.changed == "" {
			m.changed, m.got = b.File, got
		}
	}
	return m, nil
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// finding reports a file that was changed, and a hole between two batches.
func (m *manifest) finding(a *arguments) *install.Finding {
	for i, b := range m.Batches {
		if b.File == m.changed {
			return &install.Finding{
				Code: a.own(codeChanged), Detail: fmt.Sprintf("%s has the SHA-256 %s, exported was %s", b.File, m.got, b.SHA256),
				Fields: map[string]string{"file": a.To + "/" + b.File, "want": b.SHA256, "got": m.got},
			}
		}
		if i > 0 && b.Start != m.Batches[i-1].End {
			return a.hole(m.Batches[i-1].endTime(), time.Unix(b.Start, 0))
		}
	}
	return nil
}

// gap reports a hole between what was exported and what would be next.
func (m *manifest) gap(a *arguments, todo []span) *install.Finding {
	if n := len(m.Batches); n > 0 && len(todo) > 0 && todo[0].start.Unix() != m.Batches[n-1].End {
		return a.hole(m.Batches[n-1].endTime(), todo[0].start)
	}
	return nil
}

func (a *arguments) hole(after, next time.Time) *install.Finding {
	from, to := after.UTC().Format(time.RFC3339), next.UTC().Format(time.RFC3339)
	return &install.Finding{
		Code: a.own(codeGap), Detail: fmt.Sprintf("%s: nothing was exported from %s to %s", a.To, from, to),
		Fields: map[string]string{"dir": a.To, "after": from, "next": to},
	}
}

// save writes the manifest, and SHA256SUMS beside it.
func (m *manifest) save(dir, to string) (raw []byte, full string, err error) {
	if raw, err = json.MarshalIndent(m, "", "  "); err != nil {
		return nil, "", fmt.Errorf("encode manifest: %w", err)
	}
	raw = append(raw, '\n')
	var sums strings.Builder
	for _, b := range m.Batches {
		fmt.Fprintf(&sums, "%s  %s\n", b.SHA256, b.File)
	}
	if _, err := place.Set(dir, to+"/"+sumsName, []byte(sums.String()), 0o600); err != nil {
		return nil, "", err
	}
	full, err = place.Set(dir, to+"/"+manifestName, raw, 0o600)
	return raw, full, err
}
