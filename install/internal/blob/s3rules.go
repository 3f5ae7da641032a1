package blob

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/lifecycle"
)

func (s *s3) Look(ctx context.Context, bucket string) error {
	ok, err := s.core.BucketExists(ctx, bucket)
	if err != nil {
		return s3Error(OpLook, bucket, err)
	}
	if !ok {
		return &Error{Op: OpLook, Bucket: bucket, Reason: Missing, Text: "no such bucket"}
	}
	if s.region == "" {
		return nil
	}
	// The location may be hidden from the application; then HEAD has spoken.
	have, err := s.core.GetBucketLocation(ctx, bucket)
	if err == nil && have != "" && have != s.region {
		return &Error{Op: OpLook, Bucket: bucket, Reason: Elsewhere, Text: fmt.Sprintf("it is in region %s, not in %s", have, s.region)}
	}
	return nil
}

func (s *s3) Versioning(ctx context.Context, bucket string) (bool, error) {
	v, err := s.core.GetBucketVersioning(ctx, bucket)
	if err != nil {
		return false, s3Error(OpVersions, bucket, err)
	}
	return v.Enabled(), nil
}

func (s *s3) Expiry(ctx context.Context, bucket string) ([]Rule, error) {
	conf, err := s.rules(ctx, bucket)
	if err != nil {
		return nil, s3Error(OpLifecycle, bucket, err)
	}
	var out []Rule
	for _, r := range conf.Rules {
		if !strings.EqualFold(r.Status, "Enabled") {
			continue
		}
		part := partOf(r)
		if !r.Expiration.IsNull() && (r.Expiration.Days > 0 || !r.Expiration.Date.IsZero()) {
			out = append(out, Rule{ID: r.ID, Days: int(r.Expiration.Days), Part: part})
		}
		if d := int(r.AllVersionsExpiration.Days); d > 0 {
			out = append(out, Rule{ID: r.ID, Days: d, Part: part})
		}
		if n := r.NoncurrentVersionExpiration; n.NoncurrentDays > 0 || n.NewerNoncurrentVersions > 0 {
			out = append(out, Rule{ID: r.ID, Days: int(n.NoncurrentDays), OldOnly: true, Part: part})
		}
	}
	return out, nil
}

// rules reads a bucket's rules; none is no error.
func (s *s3) rules(ctx context.Context, bucket string) (*lifecycle.Configuration, error) {
	conf, err := s.core.GetBucketLifecycle(ctx, bucket)
	if resp, ok := errors.AsType[minio.ErrorResponse](err); ok && resp.Code == "NoSuchLifecycleConfiguration" {
		return lifecycle.NewConfiguration(), nil
	}
	return conf, err
}

// partOf says which objects a rule is about; "" is all.
func partOf(r lifecycle.Rule) string {
	f := r.RuleFilter
	prefix := r.Prefix + f.Prefix + f.And.Prefix
	switch {
	case !f.Tag.IsEmpty() || len(f.And.Tags) > 0:
		return "those with a tag"
	case f.ObjectSizeLessThan+f.ObjectSizeGreaterThan+f.And.ObjectSizeLessThan+f.And.ObjectSizeGreaterThan > 0:
		return "those of some sizes"
	case prefix != "":
		return fmt.Sprintf("those below %q", prefix)
	}
	return ""
}

func (s *s3) Create(ctx context.Context, bucket string) error {
	err := s.core.MakeBucket(ctx, bucket, minio.MakeBucketOptions{Region: s.region})
	return s3Error(OpCreate, bucket, err)
}

func (s *s3) EnableVersioning(ctx context.Context, bucket string) error {
	return s3Error(OpConfigure, bucket, s.core.EnableVersioning(ctx, bucket))
}

func (s *s3) SetExpiry(ctx context.Context, bucket, id string, days int) error {
	conf, err := s.rules(ctx, bucket)
	if err != nil {
		return s3Error(OpConfigure, bucket, err)
	}
	own := lifecycle.Rule{
		ID: id, Status: "Enabled",
		Expiration:                  lifecycle.Expiration{Days: lifecycle.ExpirationDays(days)},
		NoncurrentVersionExpiration: lifecycle.NoncurrentVersionExpiration{NoncurrentDays: lifecycle.ExpirationDays(days)},
	}
	rules := []lifecycle.Rule{own}
	for _, r := range conf.Rules {
		if r.ID != id {
			rules = append(rules, r)
		}
	}
	conf.Rules = rules
	return s3Error(OpConfigure, bucket, s.core.SetBucketLifecycle(ctx, bucket, conf))
}
