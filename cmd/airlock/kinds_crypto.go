package main

import (
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/action/rsakey"
	"github.com/airlock-project/airlock/install/probe/cidr"
	"github.com/airlock-project/airlock/install/probe/jwt"
	"github.com/airlock-project/airlock/install/probe/rule"
)

// cryptoKinds registers the steps about keys, tokens and rules over values.
func cryptoKinds(probes map[string]install.Probe, actions map[string]install.Action) {
	probes["rule.cross"] = rule.Probe{}
	probes["cidr.overlap"] = cidr.Probe{}
	probes["jwt.claims"] = jwt.Probe{}
	probes["rsa.key"] = rsakey.Probe{}
	actions["crypto.rsa"] = rsakey.Action{}
}
