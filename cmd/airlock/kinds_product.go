package main

import (
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/action/csr"
	"github.com/airlock-project/airlock/install/action/graphql"
	"github.com/airlock-project/airlock/install/action/render"
	"github.com/airlock-project/airlock/install/action/usage"
	"github.com/airlock-project/airlock/install/probe/saml"
)

// productKinds registers the steps about a running product: GraphQL, HTTP, files made for its hosts.
func productKinds(probes map[string]install.Probe, actions map[string]install.Action) {
	probes["graphql.query"] = graphql.Query{}
	probes["saml.metadata"] = saml.Probe{}
	actions["graphql.call"] = graphql.Call{}
	actions["graphql.wait"] = graphql.Wait{}
	actions["csr.make"] = csr.Action{}
	actions["file.render"] = render.Action{}
	actions["usage.export"] = usage.Action{}
}
