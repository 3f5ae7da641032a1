package manifests

// RelocationMap says where every reference of a bundle went. It is written as
// JSON with entries sorted by source.
type RelocationMap struct {
	APIVersion string       `json:"apiVersion"`
	Kind       string       `json:"kind"`
	Bundle     string       `json:"bundle"`              // digest of the bundle's index.json
	Target     string       `json:"target"`              // registry and prefix
	PlainHTTP  bool         `json:"plainHTTP,omitempty"` // the registry was spoken to without TLS
	Entries    []Relocation `json:"entries"`
}

// Relocation is one tagged reference and its place in the enclave.
type Relocation struct {
	Kind         string   `json:"kind"`
	Source       string   `json:"source"`       // the reference as written in the definition
	SourceDigest string   `json:"sourceDigest"` // what the reference resolved to; differs from Digest where platforms were chosen
	Target       string   `json:"target"`       // registry/repository:tag
	Digest       string   `json:"digest"`
	Platforms    []string `json:"platforms,omitempty"`
	Referrers    []string `json:"referrers,omitempty"` // digests pushed with it
}
