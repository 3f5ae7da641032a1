package archive

// Limits on what is read from outside. Each is checked before the number it
// bounds is used. FORMAT.md section 8 repeats them with the same reasons.
const (
	// MaxIndex bounds index.json: 40,000 manifests at 400 bytes. Before trust
	// it is the largest thing held in memory.
	MaxIndex = 16 << 20
	// MaxSignatures bounds the entries under signatures/. A threshold of a few
	// signers over several years of rotation stays far below it.
	MaxSignatures = 64
	// MaxSignature bounds one signature file: a keyless bundle with
	// certificate chain, log entry and timestamps is about 20 KiB.
	MaxSignature = 256 << 10
	// MaxHead bounds HEAD as a whole, slack included.
	MaxHead = MaxIndex + MaxSignatures*MaxSignature + 4<<20
	// MaxManifest bounds one manifest or index, as registries do (distribution-spec
	// "4 MiB"). Manifests are the only blobs of META parsed as graph.
	MaxManifest = 4 << 20
	// MaxConfig bounds a config that lies in META; a larger one is PACKED.
	MaxConfig = 4 << 20
	// MaxMeta bounds META as a whole.
	MaxMeta = 1 << 30
	// MaxManifests bounds the descriptors of index.json.
	MaxManifests = 40_000
	// MaxBlobs bounds the distinct blobs of a bundle.
	MaxBlobs = 400_000
	// MaxDepth bounds how deep indexes may nest: an index of indexes is legal,
	// nothing real goes further.
	MaxDepth = 4
	// MaxBlob bounds one blob: 1 TiB.
	MaxBlob = 1 << 40
	// MaxWindow bounds the zstd window, hence a decoder's memory. Canonical frames
	// need half of it at most; this is the decoder's second line.
	MaxWindow = 8 << 20
)
