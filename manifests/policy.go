package manifests

// Policy is policy.yaml: who may sign what this enclave installs. The zero
// Policy accepts nothing.
type Policy struct {
	Header   `yaml:",inline"`
	Products []string      `yaml:"products,omitempty" json:"products,omitempty" jsonschema:"pattern=^[a-z0-9][a-z0-9._-]*$"` // empty means any
	Signers  []Signer      `yaml:"signers" json:"signers" jsonschema:"minItems=1"`
	Require  []Requirement `yaml:"require" json:"require" jsonschema:"minItems=1"`
	Release  ReleaseFloor  `yaml:"release,omitempty" json:"release,omitzero"`
	Images   *ImagePolicy  `yaml:"images,omitempty" json:"images,omitempty"`
	SBOM     string        `yaml:"sbom,omitempty" json:"sbom,omitempty" jsonschema:"enum=optional,enum=required-for-images"` // optional or required-for-images
}

// Signer is one party that may sign, by key or keyless identity.
type Signer struct {
	Name        string   `yaml:"name" json:"name" jsonschema:"pattern=^[a-z0-9][a-z0-9._-]*$,maxLength=128"`
	Role        string   `yaml:"role" json:"role" jsonschema:"pattern=^[a-z0-9][a-z0-9._-]*$,maxLength=128"`
	Key         string   `yaml:"key,omitempty" json:"key,omitempty" jsonschema:"oneof_required=key,minLength=1"` // file:PATH of a PEM public key
	Keyless     *Keyless `yaml:"keyless,omitempty" json:"keyless,omitempty" jsonschema:"oneof_required=keyless"`
	TrustedRoot string   `yaml:"trustedRoot,omitempty" json:"trustedRoot,omitempty"`
}

// Keyless is a Fulcio identity.
type Keyless struct {
	Issuer  string `yaml:"issuer" json:"issuer"`
	Subject string `yaml:"subject" json:"subject"`
}

// Requirement asks for signatures by that many distinct signers of a role.
type Requirement struct {
	Role    string `yaml:"role" json:"role" jsonschema:"pattern=^[a-z0-9][a-z0-9._-]*$,maxLength=128"`
	AtLeast int    `yaml:"atLeast" json:"atLeast" jsonschema:"minimum=1"`
}

// ReleaseFloor is the oldest release accepted.
type ReleaseFloor struct {
	AtLeast int64 `yaml:"atLeast,omitempty" json:"atLeast,omitempty" jsonschema:"minimum=0"`
}

// ImagePolicy says what becomes of image signatures.
type ImagePolicy struct {
	Signatures string   `yaml:"signatures" json:"signatures" jsonschema:"enum=required,enum=verify-if-present,enum=ignore"` // required, verify-if-present, ignore
	Signers    []string `yaml:"signers,omitempty" json:"signers,omitempty"`
}
