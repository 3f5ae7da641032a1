package main

import "github.com/airlock-project/airlock/install"

// networkKinds registers the steps about DNS, TLS, MQTT, Git and telemetry.
func networkKinds(_ map[string]install.Probe, _ map[string]install.Action) {}
