// Package manifests holds Airlock's documents: the bundle definition
// (airlock.yaml), its lock (airlock.lock), the site (site.yaml), the trust
// policy (policy.yaml), the checklist (checklist.yaml) and the relocation map.
//
// Documents are data. The package decodes them strictly, checks them, writes
// them and describes them as JSON Schema; it never opens a file, a socket or a
// key. Every finding about a document carries its line and column, and all
// findings of a document are reported together as [Findings].
package manifests

// APIVersion is the apiVersion of every document this package knows.
const APIVersion = "airlock/v1"

// Kinds of document.
const (
	KindBundle        = "Bundle"
	KindLock          = "Lock"
	KindSite          = "Site"
	KindPolicy        = "Policy"
	KindChecklist     = "Checklist"
	KindRelocationMap = "RelocationMap"
)

// MaxDocument is the largest document accepted, in bytes. A lock of 5,000
// images stays under 8 MiB.
const MaxDocument = 16 << 20

// Header opens every document.
type Header struct {
	APIVersion string `yaml:"apiVersion" json:"apiVersion"`
	Kind       string `yaml:"kind" json:"kind"`
}
