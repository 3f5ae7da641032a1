package ecr

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/mirror/target"
)

// maxPolicy bounds a lifecycle policy. ECR takes 30,720 bytes.
const maxPolicy = 64 << 10

// lifecycleRule is the part of a rule that says what it keeps (Amazon ECR User
// Guide, "Lifecycle policy parameters").
type lifecycleRule struct {
	Priority  int64 `json:"rulePriority"`
	Selection struct {
		TagStatus      string   `json:"tagStatus"`
		TagPrefixList  []string `json:"tagPrefixList"`
		TagPatternList []string `json:"tagPatternList"`
		CountType      string   `json:"countType"`
		CountNumber    int64    `json:"countNumber"`
	} `json:"selection"`
}

// parseLifecycle reads a policy as GetLifecyclePolicy returns it.
func parseLifecycle(text string) ([]lifecycleRule, error) {
	if len(text) > maxPolicy {
		return nil, fmt.Errorf("lifecycle policy has %d bytes, %d are read", len(text), maxPolicy)
	}
	var policy struct {
		Rules []lifecycleRule `json:"rules"`
	}
	if err := json.Unmarshal([]byte(text), &policy); err != nil {
		return nil, fmt.Errorf("read lifecycle policy: %w", err)
	}
	return policy.Rules, nil
}

// cuts says what a rule takes away of what one run pushes: it keeps fewer
// images than are pushed. Every manifest counts as an image, so a signature or
// one platform of an index pushes a release out as a newer release would.
func (r lifecycleRule) cuts(need target.Need) (pushed int, cut bool) {
	s := r.Selection
	if s.CountType != "imageCountMoreThan" {
		return 0, false
	}
	switch s.TagStatus {
	case "any":
		pushed = need.Manifests
	case "tagged":
		for _, tag := range need.Tags {
			if slices.ContainsFunc(s.TagPrefixList, func(p string) bool { return strings.HasPrefix(tag, p) }) ||
				slices.ContainsFunc(s.TagPatternList, func(p string) bool { return matchTag(p, tag) }) {
				pushed++
			}
		}
	}
	return pushed, s.CountNumber < int64(pushed)
}

// lifecycleNotice warns of the first rule that cuts into a run.
func lifecycleNotice(rules []lifecycleRule, need target.Need) (target.Notice, bool) {
	for _, r := range rules {
		pushed, cut := r.cuts(need)
		if !cut {
			continue
		}
		return target.Notice{
			Code: target.CleanUp, Repository: need.Name,
			Text: fmt.Sprintf("lifecycle rule %d keeps the newest %d %s images, and this run pushes %d to %q: signatures, referrers and platforms count, so part of it is deleted within a day",
				r.Priority, r.Selection.CountNumber, r.Selection.TagStatus, pushed, need.Name),
			Remedy: fmt.Sprintf("raise countNumber of rule %d to at least %d for each release to keep (in Spacelift's modules for AWS: number_of_images_to_retain), or take the rule away", r.Priority, pushed),
		}, true
	}
	return target.Notice{}, false
}
