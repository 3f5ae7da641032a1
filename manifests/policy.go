package manifests

// Policy is policy.yaml: who may sign what this enclave installs. The zero
// Policy accepts nothing.
type Policy struct {
	Header   `yaml:",inline"`
	Products []string      `yaml:"products,omitempty" json:"products,omitempty"` // empty means any
	Signers  []Signer      `yaml:"signers" json:"signers"`
	Require  []Requirement `yaml:"require" json:"require"`
	Release  ReleaseFloor  `yaml:"release,omitempty" json:"release,omitempty"`
	Images   *ImagePolicy  `yaml:"images,omitempty" json:"images,omitempty"`
	SBOM     string        `yaml:"sbom,omitempty" json:"sbom,omitempty"` // optional or required-for-images
}

// Signer is one party that may sign, by key or keyless identity.
type Signer struct {
	Name        string   `yaml:"name" json:"name"`
	Role        string   `yaml:"role" json:"role"`
	Key         string   `yaml:"key,omitempty" json:"key,omitempty"` // file:PATH of a PEM public key
	Keyless     *Keyless `yaml:"keyless,omitempty" json:"keyless,omitempty"`
	TrustedRoot string   `yaml:"trustedRoot,omitempty" json:"trustedRoot,omitempty"`
}

// Keyless is a Fulcio identity.
type Keyless struct {
	Issuer  string `yaml:"issuer" json:"issuer"`
	Subject string `yaml:"subject" json:"subject"`
}

// Requirement asks for signatures by that many distinct signers of a role.
type Requirement struct {
	Role    string `yaml:"role" json:"role"`
	AtLeast int    `yaml:"atLeast" json:"atLeast"`
}

// ReleaseFloor is the oldest release accepted.
type ReleaseFloor struct {
	AtLeast int64 `yaml:"atLeast,omitempty" json:"atLeast,omitempty"`
}

// ImagePolicy says what becomes of image signatures.
type ImagePolicy struct {
	Signatures string   `yaml:"signatures" json:"signatures"` // required, verify-if-present, ignore
	Signers    []string `yaml:"signers,omitempty" json:"signers,omitempty"`
}
