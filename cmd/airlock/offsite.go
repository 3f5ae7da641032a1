package main

import (
	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/mirror"
	"github.com/spf13/cobra"
)

// leaseFlags are the flags of commands that take the lock against other
// machines.
type leaseFlags struct {
	breakLock string
}

func (f *leaseFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.breakLock, "break-lock", "", "take the site's lock from another machine, for this `reason`, which goes into the ledger")
}

// offsite lets a run keep its lock and a copy of its ledger in the site's
// registry.
func (a *app) offsite(site *manifests.Site, hosts *remote.Hosts, t mirror.Target, o *install.Options, f leaseFlags) error {
	return nil
}
