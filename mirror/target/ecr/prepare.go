package ecr

import (
	"context"
	"errors"
	"fmt"

	"github.com/airlock-project/airlock/mirror/target"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"
)

// Prepare makes the repositories of the actions, with the settings written
// there. One that exists is left as it is. All actions are checked before the
// first is carried out. It needs ecr:CreateRepository, and for tags
// ecr:TagResource.
func (t *Target) Prepare(ctx context.Context, actions []target.Action) error {
	if len(actions) == 0 {
		return nil
	}
	if t.opts.ManagedElsewhere {
		return fmt.Errorf("prepare %s: repositories are managed elsewhere, none is created", t.host.name)
	}
	inputs := make([]*ecr.CreateRepositoryInput, len(actions))
	for i, a := range actions {
		in, err := createInput(a)
		if err != nil {
			return fmt.Errorf("prepare %s: %w", t.host.name, err)
		}
		in.RegistryId = t.registryID()
		inputs[i] = in
	}
	api, err := t.lockedClient(ctx)
	if err != nil {
		return fmt.Errorf("prepare %s: %w", t.host.name, t.Explain(err))
	}
	for _, in := range inputs {
		if err := create(ctx, api, in); err != nil {
			return fmt.Errorf("create repository %q in %s: %w", aws.ToString(in.RepositoryName), t.host.name, t.Explain(err))
		}
	}
	return nil
}

func create(ctx context.Context, api *ecr.Client, in *ecr.CreateRepositoryInput) error {
	_, err := api.CreateRepository(ctx, in)
	if _, exists := errors.AsType[*types.RepositoryAlreadyExistsException](err); exists {
		return nil
	}
	if !isDenied(err) {
		return err
	}
	// Who may not create may still push below a template that does.
	prefixes, lookErr := templates(ctx, api)
	if lookErr == nil && covered(prefixes, aws.ToString(in.RepositoryName)) {
		return nil
	}
	return err
}
