package ecr

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/airlock-project/airlock/mirror/target"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"golang.org/x/sync/errgroup"
)

const (
	describeBatch = 100 // DescribeRepositories, repositoryNames
	apiCalls      = 8   // at once
	templatePages = 20
)

// view is what the API says of one repository that a run needs.
type view struct {
	need      target.Need
	presence  target.Presence
	repo      types.Repository
	rules     []lifecycleRule
	unread    bool  // the rules may not be read
	malformed error // the rules cannot be read
}

// Inspect looks at the repositories and at the settings that decide whether a
// push arrives and stays. It needs ecr:DescribeRepositories; for the rest,
// ecr:GetLifecyclePolicy, ecr:GetAccountSetting and (with ManagedElsewhere)
// ecr:DescribeRepositoryCreationTemplates, it does without where it must, and
// says so.
func (t *Target) Inspect(ctx context.Context, req target.Request) (target.State, error) {
	state, err := t.inspect(ctx, req)
	if err != nil {
		return target.State{}, fmt.Errorf("inspect %s: %w", t.host.name, t.Explain(err))
	}
	return state, nil
}

func (t *Target) inspect(ctx context.Context, req target.Request) (target.State, error) {
	views := make([]*view, len(req.Repositories))
	for i, n := range req.Repositories {
		if err := checkRepository(n.Name); err != nil {
			return target.State{}, err
		}
		views[i] = &view{need: n}
	}
	api, err := t.lockedClient(ctx)
	if err != nil {
		return target.State{}, err
	}
	if err := t.describe(ctx, api, views); err != nil {
		return target.State{}, err
	}
	if err := t.readRules(ctx, api, views); err != nil {
		return target.State{}, err
	}
	state := target.State{Repositories: map[string]target.Presence{}}
	if err := t.missing(ctx, api, views, &state); err != nil {
		return target.State{}, err
	}
	for _, v := range views {
		state.Repositories[v.need.Name] = v.presence
		state.Notices = append(state.Notices, v.notices()...)
	}
	state.Notices = append(state.Notices, unreadNotices(views)...)
	mount, notice, err := mounting(ctx, api)
	if err != nil {
		return target.State{}, err
	}
	state.CrossMount = mount
	state.Notices = append(state.Notices, notice...)
	return state, nil
}

func (t *Target) lockedClient(ctx context.Context) (*ecr.Client, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.client(ctx)
}

// registryID names the registry in requests; nil means the caller's own.
func (t *Target) registryID() *string {
	if t.host.account == "" {
		return nil
	}
	return aws.String(t.host.account)
}

// describe asks in batches. One name that is missing or forbidden fails a whole
// batch without saying which, so each of that batch is then asked for alone.
func (t *Target) describe(ctx context.Context, api *ecr.Client, views []*view) error {
	for len(views) > 0 {
		batch := views[:min(len(views), describeBatch)]
		views = views[len(batch):]
		err := t.describeAll(ctx, api, batch)
		if !isMissing(err) && !isDenied(err) {
			if err != nil {
				return err
			}
			continue
		}
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(apiCalls)
		for _, v := range batch {
			g.Go(func() error {
				switch err := t.describeAll(ctx, api, []*view{v}); {
				case isMissing(err):
					v.presence = target.Missing
				case isDenied(err):
					v.presence = target.Forbidden
				default:
					return err
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	return nil
}

func (t *Target) describeAll(ctx context.Context, api *ecr.Client, views []*view) error {
	byName := map[string]*view{}
	in := &ecr.DescribeRepositoriesInput{RegistryId: t.registryID()}
	for _, v := range views {
		byName[v.need.Name] = v
		in.RepositoryNames = append(in.RepositoryNames, v.need.Name)
	}
	out, err := api.DescribeRepositories(ctx, in)
	if err != nil {
		return err
	}
	for _, r := range out.Repositories {
		if v := byName[aws.ToString(r.RepositoryName)]; v != nil {
			v.presence, v.repo = target.Present, r
		}
	}
	return nil
}

// readRules reads the lifecycle policy of every repository that is there.
func (t *Target) readRules(ctx context.Context, api *ecr.Client, views []*view) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(apiCalls)
	for _, v := range views {
		if v.presence != target.Present {
			continue
		}
		g.Go(func() error {
			out, err := api.GetLifecyclePolicy(ctx, &ecr.GetLifecyclePolicyInput{
				RegistryId: t.registryID(), RepositoryName: aws.String(v.need.Name),
			})
			if _, none := errors.AsType[*types.LifecyclePolicyNotFoundException](err); none {
				return nil
			}
			if isDenied(err) {
				v.unread = true
				return nil
			}
			if err != nil {
				return err
			}
			v.rules, v.malformed = parseLifecycle(aws.ToString(out.LifecyclePolicyText))
			return nil
		})
	}
	return g.Wait()
}

// missing says what becomes of repositories that are not there.
func (t *Target) missing(ctx context.Context, api *ecr.Client, views []*view, state *target.State) error {
	var prefixes []string
	asked := false
	for _, v := range views {
		if v.presence != target.Missing {
			continue
		}
		if !t.opts.ManagedElsewhere {
			state.Actions = append(state.Actions, target.Action{Kind: createRepository, Name: v.need.Name, Settings: t.opts.settings()})
			continue
		}
		if !asked {
			asked = true
			var err error
			if prefixes, err = templates(ctx, api); err != nil {
				return err
			}
		}
		if covered(prefixes, v.need.Name) {
			v.presence = target.OnPush
			continue
		}
		state.Notices = append(state.Notices, target.Notice{
			Code: target.RepositoryMissing, Fatal: true, Repository: v.need.Name,
			Text:   fmt.Sprintf("repository %q does not exist in account %s, region %s, and repositories are managed elsewhere", v.need.Name, t.account(), t.host.region),
			Remedy: fmt.Sprintf("create it where repositories are managed (in Terraform: resource aws_ecr_repository with name %q), or let Airlock create repositories", v.need.Name),
		})
	}
	return nil
}

func (t *Target) account() string {
	if t.host.account == "" {
		return "of the AWS credentials"
	}
	return t.host.account
}

// templates lists the prefixes below which a push creates the repository. A
// partition that has no templates, and a right that is missing, mean none.
func templates(ctx context.Context, api *ecr.Client) ([]string, error) {
	var prefixes []string
	in := &ecr.DescribeRepositoryCreationTemplatesInput{}
	for range templatePages {
		out, err := api.DescribeRepositoryCreationTemplates(ctx, in)
		if isDenied(err) || isUnsupported(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		for _, t := range out.RepositoryCreationTemplates {
			for _, f := range t.AppliedFor {
				if f == types.RCTAppliedForCreateOnPush {
					prefixes = append(prefixes, aws.ToString(t.Prefix))
				}
			}
		}
		if aws.ToString(out.NextToken) == "" {
			break
		}
		in.NextToken = out.NextToken
	}
	return prefixes, nil
}

func covered(prefixes []string, name string) bool {
	for _, p := range prefixes {
		if p == "ROOT" || p != "" && strings.HasPrefix(name, strings.TrimSuffix(p, "/")+"/") {
			return true
		}
	}
	return false
}

// mounting reads whether blobs can be mounted between repositories of the
// registry. Where that is off, or not to be known, asking for a mount costs a
// request per blob and gains nothing, so the answer is never.
func mounting(ctx context.Context, api *ecr.Client) (target.Mount, []target.Notice, error) {
	out, err := api.GetAccountSetting(ctx, &ecr.GetAccountSettingInput{Name: aws.String("BLOB_MOUNTING")})
	switch {
	case isDenied(err):
		return target.MountNever, []target.Notice{{
			Code:   target.StateUnread,
			Text:   "this account may not read whether blobs can be mounted between repositories: shared layers are sent once for each repository",
			Remedy: "allow ecr:GetAccountSetting",
		}}, nil
	case isUnsupported(err):
		return target.MountNever, nil, nil
	case err != nil:
		return "", nil, err
	case aws.ToString(out.Value) == "ENABLED":
		return target.MountAlways, nil, nil
	}
	return target.MountNever, nil, nil
}
