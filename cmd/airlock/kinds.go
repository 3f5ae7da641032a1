package main

import (
	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
)

// kinds registers every kind of step this version knows.
func (a *app) kinds(hosts *remote.Hosts, site *manifests.Site) (map[string]install.Probe, map[string]install.Action) {
	return nil, nil
}
