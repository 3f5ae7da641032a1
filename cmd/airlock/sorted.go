package main

import (
	"cmp"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
)

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

func digestOf(b []byte) string { return digest.FromBytes(b).String() }
