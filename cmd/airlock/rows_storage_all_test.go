//go:build all

package main

import (
	"encoding/pem"
	"maps"
	"os"
	"path/filepath"
	"testing"

	azservice "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/objectstore"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// TestRowObjectStorageOnMinio goes the way of an installation: a limited key,
// ten buckets, and every probe with that key.
func TestRowObjectStorageOnMinio(t *testing.T) {
	endpoint := objectstore.Minio(t, storageOrigin)
	admin := map[string]any{
		"storage.type": "minio", "storage.minio.endpoint": endpoint,
		"storage.minio.admin_access_key_id": objectstore.AccessKey, "storage.minio.admin_secret_access_key": objectstore.SecretKey,
	}
	got := runRow(t, row{item: "minio-credentials", inputs: admin, want: install.StatePass})
	path, _ := got.Outputs["minio.secret_key_file"].(string)
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	given := map[string]any{"minio.access_key_id": got.Outputs["minio.access_key_id"], "minio.secret_key_file": path}
	in := maps.Clone(admin)
	in["hosts.server"] = "spacelift.site-a.example"
	runRow(t, row{item: "object-storage", inputs: in, given: given, want: install.StatePass})

	c, err := minio.New(endpoint, &minio.Options{Creds: credentials.NewStaticV4(objectstore.AccessKey, objectstore.SecretKey, "")})
	if err != nil {
		t.Fatal(err)
	}
	buckets, err := c.ListBuckets(t.Context())
	if err != nil || len(buckets) != 10 {
		t.Errorf("%d buckets, %v", len(buckets), err)
	}
	if conf, err := c.GetBucketLifecycle(t.Context(), "spacelift-states"); err == nil {
		t.Errorf("states have the rules %+v", conf)
	}
	in["hosts.server"] = "other.site-a.example"
	runRow(t, row{item: "object-storage", inputs: in, given: given, want: install.StateFail, code: "OBJ-05", says: []string{"https://other.site-a.example", "MINIO_API_CORS_ALLOW_ORIGIN"}})
}

// TestRowObjectStorageOnAzure has the trap of Spacelift's module for Azure:
// states are deleted two days after they are made. Azure Resource Manager is a
// stand-in; blobs are Azurite's.
func TestRowObjectStorageOnAzure(t *testing.T) {
	endpoint, arm := objectstore.Azurite(t), objectstore.NewARM(t)
	for name, v := range arm.Env() {
		t.Setenv(name, v)
	}
	connection := "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;BlobEndpoint=http://" + endpoint + "/devstoreaccount1;"
	c, err := azservice.NewClientFromConnectionString(connection, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, def := range presetChecklist(t).Inputs {
		if bucket, ok := def.Default.(string); ok && len(name) > 15 && name[:15] == "storage.bucket." {
			if _, err := c.CreateContainer(t.Context(), bucket, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	rule := azservice.CORSRule{AllowedOrigins: new(storageOrigin), AllowedMethods: new("PUT,POST"), AllowedHeaders: new("*"), ExposedHeaders: new(""), MaxAgeInSeconds: new(int32(10))}
	if _, err := c.SetProperties(t.Context(), &azservice.SetPropertiesOptions{CORS: []*azservice.CORSRule{&rule}}); err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: arm.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	in := map[string]any{
		"hosts.server": "spacelift.site-a.example", "storage.type": "azure", "storage.ca_file": ca,
		"storage.azure.account_url": "http://" + endpoint + "/devstoreaccount1", "storage.azure.connection_string": connection,
		"storage.azure.subscription_id": "sub", "storage.azure.resource_group": "group", "storage.azure.arm_endpoint": arm.URL,
	}
	arm.Versioning = true
	runRow(t, row{item: "object-storage", platform: "aks", inputs: in, want: install.StatePass})

	arm.Policy = objectstore.DeleteRule("delete-states", 2, "spacelift-states/")
	runRow(t, row{
		item: "object-storage", platform: "aks", inputs: in, want: install.StateFail, code: "OBJ-06",
		says: []string{"delete-states", "spacelift-states", "2 days", "storage management policy", "before first use"},
	})

	arm.Policy = nil
	unasked := maps.Clone(in)
	delete(unasked, "storage.azure.subscription_id")
	runRow(t, row{
		item: "object-storage", platform: "aks", inputs: unasked, want: install.StateWarn, code: "OBJ-19",
		says: []string{"storage.azure.subscription_id", "no rule deletes states"},
	})
}
