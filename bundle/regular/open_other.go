//go:build !unix

package regular

// noWait is nothing where pipes have names of their own.
const noWait = 0
