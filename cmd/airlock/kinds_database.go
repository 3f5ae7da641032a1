package main

import (
	"github.com/airlock-project/airlock/install"
	pgaction "github.com/airlock-project/airlock/install/action/pg"
	"github.com/airlock-project/airlock/install/probe/pg"
)

// databaseKinds registers the steps about PostgreSQL.
func databaseKinds(probes map[string]install.Probe, actions map[string]install.Action) {
	probes["pg.conn"] = pg.Conn{}
	probes["pg.backup"] = pg.Backup{}
	actions["pg.exec"] = pgaction.Exec{}
}
