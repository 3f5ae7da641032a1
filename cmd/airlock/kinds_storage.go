package main

import (
	"github.com/airlock-project/airlock/install"
	blobaction "github.com/airlock-project/airlock/install/action/blob"
	"github.com/airlock-project/airlock/install/action/minio"
	"github.com/airlock-project/airlock/install/probe/blob"
)

// storageKinds registers the steps about object storage.
func storageKinds(probes map[string]install.Probe, actions map[string]install.Action) {
	probes["blob.bucket"] = blob.Bucket{}
	probes["blob.presign"] = blob.Presign{}
	probes["blob.cors"] = blob.CORS{}
	actions["blob.ensure"] = blobaction.Ensure{}
	actions["blob.upload"] = blobaction.Upload{}
	actions["minio.credentials"] = minio.Action{}
}
