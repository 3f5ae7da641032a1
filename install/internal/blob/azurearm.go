package blob

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

const (
	armEndpoint = "https://management.azure.com"
	armVersion  = "2023-05-01"
	maxARM      = 4 << 20
)

// arm reads how a storage account is configured from Azure Resource Manager:
// the blob service itself does not tell what its lifecycle management deletes.
// Two requests need no generated client.
type arm struct {
	token                                  azcore.TokenCredential
	opts                                   policy.ClientOptions
	endpoint, subscription, group, account string
}

// ask reads one resource below the account. found is false where there is none.
func (a *arm) ask(ctx context.Context, op, bucket, resource string, dst any) (found bool, err error) {
	if a.subscription == "" || a.group == "" {
		return false, &Error{Op: op, Bucket: bucket, Text: "Azure Resource Manager is not asked: subscription or resource group of the account is not given"}
	}
	endpoint := strings.TrimSuffix(a.endpoint, "/")
	if endpoint == "" {
		endpoint = armEndpoint
	}
	target := fmt.Sprintf("%s/subscriptions/%s/resourceGroups/%s/providers/Microsoft.Storage/storageAccounts/%s/%s?api-version=%s",
		endpoint, url.PathEscape(a.subscription), url.PathEscape(a.group), url.PathEscape(a.account), resource, armVersion)
	req, err := runtime.NewRequest(ctx, http.MethodGet, target)
	if err != nil {
		return false, &Error{Op: op, Bucket: bucket, Text: "arm_endpoint makes no URL"}
	}
	auth := runtime.NewBearerTokenPolicy(a.token, []string{endpoint + "/.default"}, nil)
	resp, err := runtime.NewPipeline("airlock", "", runtime.PipelineOptions{PerRetry: []policy.Policy{auth}}, &a.opts).Do(req)
	if err != nil {
		return false, a.unanswered(op, bucket, err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return false, nil
	case resp.StatusCode != http.StatusOK:
		return false, a.unanswered(op, bucket, runtime.NewResponseError(resp))
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxARM)).Decode(dst); err != nil {
		return false, &Error{Op: op, Bucket: bucket, Text: "the answer is not one of Azure Resource Manager"}
	}
	return true, nil
}

// unanswered says that ARM did not help. It is another service than the one
// that holds the blobs: that it cannot be reached is no failure of storage.
func (a *arm) unanswered(op, bucket string, err error) error {
	return &Error{Op: op, Bucket: bucket, Text: "Azure Resource Manager: " + textOf(azureError(op, bucket, err))}
}

func (a *arm) versioning(ctx context.Context, bucket string) (bool, error) {
	var have struct {
		Properties struct{ IsVersioningEnabled bool }
	}
	found, err := a.ask(ctx, OpVersions, bucket, "blobServices/default", &have)
	if err == nil && !found {
		err = &Error{Op: OpVersions, Bucket: bucket, Text: fmt.Sprintf("Azure Resource Manager knows no account %s in this resource group", a.account)}
	}
	return have.Properties.IsVersioningEnabled, err
}

// armPolicy is an account's management policy.
type armPolicy struct {
	Properties struct {
		Policy struct {
			Rules []struct {
				Name       string
				Enabled    *bool // absent is true
				Definition struct {
					Actions struct{ BaseBlob, Snapshot, Version armAction }
					Filters struct{ PrefixMatch []string }
				}
			}
		}
	}
}

type armAction struct {
	Delete *struct {
		DaysAfterModificationGreaterThan   *float64
		DaysAfterCreationGreaterThan       *float64
		DaysAfterLastAccessTimeGreaterThan *float64
	}
}

// days is after how many an action deletes; ok is false if it does not.
func (a armAction) days() (days int, ok bool) {
	if a.Delete == nil {
		return 0, false
	}
	for _, d := range []*float64{a.Delete.DaysAfterModificationGreaterThan, a.Delete.DaysAfterCreationGreaterThan, a.Delete.DaysAfterLastAccessTimeGreaterThan} {
		if d != nil && (!ok || int(*d) < days) {
			days, ok = int(*d), true
		}
	}
	return days, true
}

func (a *arm) expiry(ctx context.Context, bucket string) ([]Rule, error) {
	var have armPolicy
	if found, err := a.ask(ctx, OpLifecycle, bucket, "managementPolicies/default", &have); err != nil || !found {
		return nil, err
	}
	var out []Rule
	for _, r := range have.Properties.Policy.Rules {
		part, covers := armCovers(r.Definition.Filters.PrefixMatch, bucket)
		if r.Enabled != nil && !*r.Enabled || !covers {
			continue
		}
		actions := r.Definition.Actions
		if d, ok := actions.BaseBlob.days(); ok {
			out = append(out, Rule{ID: r.Name, Days: d, Part: part})
		}
		for _, old := range []armAction{actions.Snapshot, actions.Version} {
			if d, ok := old.days(); ok {
				out = append(out, Rule{ID: r.Name, Days: d, OldOnly: true, Part: part})
			}
		}
	}
	return out, nil
}

// armCovers says whether a filter is about a container, and which part of it. A
// prefix begins with the container's name, or with a part of it: "spacelift-s"
// is about spacelift-states. No prefix is about the whole account.
func armCovers(prefixes []string, bucket string) (part string, covers bool) {
	if len(prefixes) == 0 {
		return "", true
	}
	for _, p := range prefixes {
		if strings.HasPrefix(bucket+"/", p) {
			return "", true
		}
		if rest, ok := strings.CutPrefix(p, bucket+"/"); ok {
			part, covers = fmt.Sprintf("those below %q", rest), true
		}
	}
	return part, covers
}
