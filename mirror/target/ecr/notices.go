package ecr

import (
	"fmt"

	"github.com/airlock-project/airlock/mirror/target"
	"github.com/airlock-project/airlock/mirror/target/sdk"
)

// notices says what a person should know of one repository.
func (v *view) notices() []target.Notice {
	var list []target.Notice
	if fixed := immutableTags(v.repo, v.need.Tags); v.presence == target.Present && len(fixed) > 0 {
		list = append(list, target.Notice{
			Code: target.TagImmutable, Repository: v.need.Name,
			Text:   fmt.Sprintf("tags of %q are immutable: %s, once there, cannot be moved to other content", v.need.Name, sdk.QuoteSome(fixed)),
			Remedy: "push changed content under another tag; let an exclusion filter cover tags that have to move, as sha256-* for cosign's",
		})
	}
	if n, ok := lifecycleNotice(v.rules, v.need); ok {
		list = append(list, n)
	}
	if v.malformed != nil {
		list = append(list, target.Notice{
			Code: target.StateUnread, Repository: v.need.Name,
			Text:   fmt.Sprintf("the lifecycle policy of %q cannot be understood: %v", v.need.Name, v.malformed),
			Remedy: "check by hand that no rule deletes what is pushed",
		})
	}
	return list
}

// unreadNotices names the rights that are missing, once each.
func unreadNotices(views []*view) []target.Notice {
	var hidden, unruled []string
	for _, v := range views {
		if v.presence == target.Forbidden {
			hidden = append(hidden, v.need.Name)
		}
		if v.unread {
			unruled = append(unruled, v.need.Name)
		}
	}
	var list []target.Notice
	if len(hidden) > 0 {
		list = append(list, target.Notice{
			Code:   target.StateUnread,
			Text:   fmt.Sprintf("this account may not look at %s: whether the push will find them is not known", sdk.QuoteSome(hidden)),
			Remedy: "allow ecr:DescribeRepositories on these repositories",
		})
	}
	if len(unruled) > 0 {
		list = append(list, target.Notice{
			Code:   target.StateUnread,
			Text:   fmt.Sprintf("this account may not read the lifecycle policy of %s: a rule there may delete what is pushed", sdk.QuoteSome(unruled)),
			Remedy: "allow ecr:GetLifecyclePolicy on these repositories",
		})
	}
	return list
}
