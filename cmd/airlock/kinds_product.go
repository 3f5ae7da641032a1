package main

import "github.com/airlock-project/airlock/install"

// productKinds registers the steps about a running product: GraphQL, HTTP, files made for its hosts.
func productKinds(_ map[string]install.Probe, _ map[string]install.Action) {}
