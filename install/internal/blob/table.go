package blob

import (
	"fmt"
	"maps"
	"slices"

	"github.com/airlock-project/airlock/install"
)

// Table says which buckets an application needs, by what they are for. It is
// data of a checklist.
type Table map[string]Bucket

// Bucket is one row of the table.
type Bucket struct {
	Name string `json:"name"`
	Env  string `json:"env"` // variable that tells the application the name; "" is none
	// Versioning is required, suggested or none.
	Versioning string `json:"versioning"`
	// Keep: nothing may ever delete objects of it; nobody touches its expiry.
	Keep bool `json:"keep"`
	// ExpireDays is the age at which objects of a new bucket are deleted; 0 is
	// never. LeastDays is how long they are needed.
	ExpireDays int  `json:"expire_days"`
	LeastDays  int  `json:"least_days"`
	Tags       bool `json:"tags"` // objects of it are tagged
}

// Words of Bucket.Versioning.
const (
	VersioningRequired  = "required"
	VersioningSuggested = "suggested"
	VersioningNone      = "none"
)

// Purposes lists the rows in order.
func (t Table) Purposes() []string { return slices.Sorted(maps.Keys(t)) }

// Check refuses a table that contradicts itself.
func (t Table) Check() error {
	if len(t) == 0 {
		return fmt.Errorf("buckets: the table is empty")
	}
	for _, p := range t.Purposes() {
		b := t[p]
		switch {
		case b.Versioning != "" && b.Versioning != VersioningNone && b.Versioning != VersioningRequired && b.Versioning != VersioningSuggested:
			return fmt.Errorf("buckets: %s: versioning %q is not required, suggested or none", p, b.Versioning)
		case b.Keep && b.ExpireDays != 0:
			return fmt.Errorf("buckets: %s is kept for ever and expires", p)
		case b.ExpireDays < 0, b.LeastDays < 0, b.ExpireDays > 0 && b.ExpireDays < b.LeastDays:
			return fmt.Errorf("buckets: %s: expire_days %d is less than least_days %d", p, b.ExpireDays, b.LeastDays)
		}
	}
	return nil
}

// Env is what the application's environment says of the buckets.
func (t Table) Env() map[string]any {
	out := make(map[string]any)
	for _, b := range t {
		if b.Env != "" {
			out[b.Env] = b.Name
		}
	}
	return out
}

// Names maps what a bucket is for to its name.
func (t Table) Names() map[string]any {
	out := make(map[string]any)
	for p, b := range t {
		out[p] = b.Name
	}
	return out
}

// BadNames finds names that no bucket can have, and names given twice.
func (t Table) BadNames(typ string) (findings []install.Finding, bad map[string]bool) {
	bad = make(map[string]bool)
	first := make(map[string]string)
	for _, p := range t.Purposes() {
		b, reason := t[p], ""
		if err := CheckName(typ, b.Name); err != nil {
			reason = err.Error()
		} else if other, taken := first[b.Name]; taken {
			reason = "it is the bucket for " + other + " too: each needs its own"
		}
		if reason == "" {
			first[b.Name] = p
			continue
		}
		bad[p] = true
		findings = append(findings, install.Finding{
			Code: CodeName, Detail: fmt.Sprintf("bucket for %s, %q: %s", p, b.Name, reason),
			Fields: map[string]string{"purpose": p, "bucket": b.Name, "env": b.Env, "reason": reason},
		})
	}
	return findings, bad
}
