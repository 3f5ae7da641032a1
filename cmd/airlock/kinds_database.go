package main

import "github.com/airlock-project/airlock/install"

// databaseKinds registers the steps about PostgreSQL.
func databaseKinds(_ map[string]install.Probe, _ map[string]install.Action) {}
