package main

import "github.com/airlock-project/airlock/install"

// awsKinds registers the steps about the APIs of AWS.
func awsKinds(_ map[string]install.Probe, _ map[string]install.Action) {}
