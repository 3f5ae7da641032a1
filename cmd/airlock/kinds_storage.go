package main

import "github.com/airlock-project/airlock/install"

// storageKinds registers the steps about object storage.
func storageKinds(_ map[string]install.Probe, _ map[string]install.Action) {}
