// Package readers holds tests that put the built airlock binary beside programs
// that other people wrote: tar, zstd, skopeo, crane, helm, cosign and openssl.
// What Airlock writes they must read, and what they sign Airlock must take.
//
// The tests have the build tag "all": "make test-all" runs them, with the
// programs of testdata/tools first in PATH. A program that is missing fails the
// run. Every program runs with proxies that refuse, so that one which reaches
// for the internet fails as it would inside the gap.
package readers
