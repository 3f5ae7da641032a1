package minio

import (
	"encoding/json"
	"slices"
)

// policy is an access policy as S3 services have them.
type policy struct {
	Version   string
	Statement []statement
}

type statement struct {
	Effect   string
	Action   []string
	Resource []string
}

// policyFor allows what an application does with its buckets: to read how they
// are, and to do anything with the objects in them.
func policyFor(buckets []string) policy {
	var of, in []string
	for _, b := range buckets {
		of = append(of, "arn:aws:s3:::"+b)
		in = append(in, "arn:aws:s3:::"+b+"/*")
	}
	return policy{Version: "2012-10-17", Statement: []statement{
		{Effect: "Allow", Resource: of, Action: []string{
			"s3:GetBucketLocation", "s3:GetBucketVersioning", "s3:GetLifecycleConfiguration", "s3:ListBucket",
			"s3:ListBucketMultipartUploads", "s3:ListBucketVersions",
		}},
		{Effect: "Allow", Resource: in, Action: []string{
			"s3:AbortMultipartUpload", "s3:DeleteObject", "s3:DeleteObjectVersion", "s3:GetObject", "s3:GetObjectTagging",
			"s3:GetObjectVersion", "s3:ListMultipartUploadParts", "s3:PutObject", "s3:PutObjectTagging",
		}},
	}}
}

func encodePolicy(p policy) []byte {
	raw, err := json.Marshal(p)
	if err != nil {
		panic(err) // strings only
	}
	return raw
}

// samePolicy reports whether a server's policy says the same, in whatever order.
func samePolicy(raw []byte, want policy) bool {
	var have policy
	if json.Unmarshal(raw, &have) != nil || len(have.Statement) != len(want.Statement) {
		return false
	}
	matched := 0
	for _, w := range want.Statement {
		if slices.ContainsFunc(have.Statement, func(h statement) bool {
			return h.Effect == w.Effect && sameSet(h.Action, w.Action) && sameSet(h.Resource, w.Resource)
		}) {
			matched++
		}
	}
	return matched == len(want.Statement)
}

func sameSet(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
