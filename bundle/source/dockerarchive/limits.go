package dockerarchive

import "github.com/airlock-project/airlock/bundle/archive"

// Limits on what a tar from outside may hold. Each is checked before the number
// it bounds is used.
const (
	// MaxEntries bounds the members of a tar. Old docker-save writes four per
	// layer, and an image has at most a few hundred layers.
	MaxEntries = 20_000
	// MaxLayers bounds the layers of one image; Docker stops at 127.
	MaxLayers = 512
	// MaxLayer bounds one layer, compressed or not: 64 GiB. It is what stops a
	// decompression bomb.
	MaxLayer = 64 << 30
	// MaxSmall bounds members kept in memory whole: configs, manifests, and the
	// small files that old docker-save writes beside each layer.
	MaxSmall = archive.MaxConfig
	// MaxHeld bounds all members kept in memory together.
	MaxHeld = 48 << 20
	// maxTiny is the size up to which a member is kept in memory whatever it
	// holds: below it a layer costs less than the file it would be spooled to.
	maxTiny = 32 << 10
	// maxWindow is the largest zstd window accepted, hence a decoder's memory.
	maxWindow = archive.MaxWindow
	// maxImages bounds manifest.json's list and an index's.
	maxImages = 1024
)
