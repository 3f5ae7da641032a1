package main

import (
	"context"
	"time"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/offsite"
	"github.com/rogpeppe/go-internal/testscript"
)

// cmdLease: lease SITE HOST takes the site's lock in $REGISTRY/inside for another
// machine, which keeps it.
func cmdLease(ts *testscript.TestScript, _ bool, args []string) {
	registry := ts.Getenv("REGISTRY")
	hosts, err := remote.New(remote.Options{PlainHTTP: []string{registry}})
	ts.Check(err)
	repo, err := hosts.Repository(statePlace(registry + "/inside"))
	ts.Check(err)
	g := offsite.Guard{Place: repo, Where: "registry", Settle: time.Millisecond, Early: time.Hour, TTL: time.Hour}
	_, err = g.Take(context.Background(), install.Lease{Site: args[0], Owner: "another", Host: args[1], PID: 7, Actor: "bob"}, func(error) {})
	ts.Check(err)
}
