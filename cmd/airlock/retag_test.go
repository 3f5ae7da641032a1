package main

import (
	"context"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"oras.land/oras-go/v2/registry/remote"
)

// cmdRetag: retag REPOSITORY:TAG NEW gives what a tag of $REGISTRY names another
// tag, whatever that named before.
func cmdRetag(ts *testscript.TestScript, _ bool, args []string) {
	name, tag, ok := strings.Cut(args[0], ":")
	if !ok || len(args) != 2 {
		ts.Fatalf("usage: retag repository:tag new")
	}
	repo, err := remote.NewRepository(ts.Getenv("REGISTRY") + "/" + name)
	ts.Check(err)
	repo.PlainHTTP = true
	desc, err := repo.Resolve(context.Background(), tag)
	ts.Check(err)
	ts.Check(repo.Tag(context.Background(), desc, args[1]))
}
