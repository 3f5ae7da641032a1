package ecr

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/mirror/target"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"
)

// createRepository is the one kind of action there is.
const createRepository = "create-repository"

// Names of settings in an action, as CreateRepository calls its parameters. A
// resource tag is written as "tags." and its key.
const (
	setMutability = "imageTagMutability"
	setExclusions = "imageTagMutabilityExclusionFilters" // separated by commas
	setScan       = "scanOnPush"
	setEncryption = "encryptionType"
	setKey        = "kmsKey"
	setTag        = "tags."
)

// Limits on settings (CreateRepository, TagResource).
const (
	maxTags       = 50
	maxTagKey     = 128
	maxTagValue   = 256
	maxExclusions = 5
	maxKMSKey     = 2048
)

var (
	exclusionPattern = regexp.MustCompile(`^[0-9a-zA-Z._*-]{1,128}$`)
	printable        = regexp.MustCompile(`^[ -~]*$`)
)

// check refuses settings that CreateRepository would refuse for every
// repository of a run.
func (o Options) check() error {
	if len(o.MutableTags) > 0 && !o.Immutable {
		return errors.New("mutable tags are exceptions from immutable ones: ask for immutable tags too")
	}
	if len(o.MutableTags) > maxExclusions {
		return fmt.Errorf("%d patterns of mutable tags, Amazon ECR takes %d", len(o.MutableTags), maxExclusions)
	}
	_, err := createInput(target.Action{Kind: createRepository, Name: "any", Settings: o.settings()})
	return err
}

// settings writes down how a repository is to be made.
func (o Options) settings() map[string]string {
	m := map[string]string{setMutability: string(types.ImageTagMutabilityMutable)}
	if o.Immutable {
		m[setMutability] = string(types.ImageTagMutabilityImmutable)
	}
	if len(o.MutableTags) > 0 {
		m[setMutability] = string(types.ImageTagMutabilityImmutableWithExclusion)
		m[setExclusions] = strings.Join(o.MutableTags, ",")
	}
	if o.ScanOnPush {
		m[setScan] = "true"
	}
	if o.KMSKey != "" {
		m[setEncryption], m[setKey] = string(types.EncryptionTypeKms), o.KMSKey
	}
	for k, v := range o.Tags {
		m[setTag+k] = v
	}
	return m
}

// createInput reads an action. It may come from a saved plan, so all of it is
// checked.
func createInput(a target.Action) (*ecr.CreateRepositoryInput, error) {
	if a.Kind != createRepository {
		return nil, fmt.Errorf("action %q on %q is none of Amazon ECR", a.Kind, a.Name)
	}
	if err := checkRepository(a.Name); err != nil {
		return nil, err
	}
	in := &ecr.CreateRepositoryInput{RepositoryName: aws.String(a.Name)}
	for _, k := range slices.Sorted(maps.Keys(a.Settings)) {
		if err := set(in, k, a.Settings[k]); err != nil {
			return nil, fmt.Errorf("repository %q: setting %q: %w", a.Name, k, err)
		}
	}
	if len(in.Tags) > maxTags {
		return nil, fmt.Errorf("repository %q: %d tags, Amazon ECR takes %d", a.Name, len(in.Tags), maxTags)
	}
	if in.EncryptionConfiguration != nil && in.EncryptionConfiguration.EncryptionType == "" {
		return nil, fmt.Errorf("repository %q: a KMS key without the encryption type KMS", a.Name)
	}
	return in, nil
}

func set(in *ecr.CreateRepositoryInput, key, value string) error {
	switch key {
	case setMutability:
		in.ImageTagMutability = types.ImageTagMutability(value)
		if !slices.Contains(in.ImageTagMutability.Values(), in.ImageTagMutability) {
			return fmt.Errorf("%q is not known", value)
		}
	case setExclusions:
		for f := range strings.SplitSeq(value, ",") {
			if !exclusionPattern.MatchString(f) {
				return fmt.Errorf("%q is no pattern of tags: up to 128 letters, digits, '.', '_', '-' and '*' are allowed", f)
			}
			in.ImageTagMutabilityExclusionFilters = append(in.ImageTagMutabilityExclusionFilters, types.ImageTagMutabilityExclusionFilter{
				Filter: aws.String(f), FilterType: types.ImageTagMutabilityExclusionFilterTypeWildcard,
			})
		}
	case setScan:
		if value != "true" && value != "false" {
			return fmt.Errorf("%q is neither true nor false", value)
		}
		in.ImageScanningConfiguration = &types.ImageScanningConfiguration{ScanOnPush: value == "true"}
	case setEncryption:
		e := types.EncryptionType(value)
		if !slices.Contains(e.Values(), e) {
			return fmt.Errorf("%q is not known", value)
		}
		encryption(in).EncryptionType = e
	case setKey:
		if value == "" || len(value) > maxKMSKey || !printable.MatchString(value) {
			return fmt.Errorf("a key's ARN, ID or alias has 1 to %d printable bytes", maxKMSKey)
		}
		encryption(in).KmsKey = aws.String(value)
	default:
		name, ok := strings.CutPrefix(key, setTag)
		if !ok {
			return errors.New("not known")
		}
		if name == "" || len(name) > maxTagKey || len(value) > maxTagValue || strings.HasPrefix(strings.ToLower(name), "aws:") {
			return fmt.Errorf("a tag has a key of 1 to %d bytes that does not begin with aws:, and a value of up to %d", maxTagKey, maxTagValue)
		}
		in.Tags = append(in.Tags, types.Tag{Key: aws.String(name), Value: aws.String(value)})
	}
	return nil
}

func encryption(in *ecr.CreateRepositoryInput) *types.EncryptionConfiguration {
	if in.EncryptionConfiguration == nil {
		in.EncryptionConfiguration = &types.EncryptionConfiguration{}
	}
	return in.EncryptionConfiguration
}

// immutableTags lists the tags that the repository never moves once they exist.
func immutableTags(r types.Repository, tags []string) []string {
	matched := func(tag string) bool {
		return slices.ContainsFunc(r.ImageTagMutabilityExclusionFilters, func(f types.ImageTagMutabilityExclusionFilter) bool {
			return matchTag(aws.ToString(f.Filter), tag)
		})
	}
	var list []string
	for _, tag := range tags {
		switch r.ImageTagMutability {
		case types.ImageTagMutabilityImmutable:
			list = append(list, tag)
		case types.ImageTagMutabilityImmutableWithExclusion:
			if !matched(tag) {
				list = append(list, tag)
			}
		case types.ImageTagMutabilityMutableWithExclusion:
			if matched(tag) {
				list = append(list, tag)
			}
		}
	}
	return list
}

// matchTag matches a tag with a pattern in which "*" stands for anything. Tags
// have no "/", so path.Match has the same meaning; a pattern that is none
// matches nothing.
func matchTag(pattern, tag string) bool {
	if !exclusionPattern.MatchString(pattern) {
		return false
	}
	ok, err := path.Match(pattern, tag)
	return ok && err == nil
}
