package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

const (
	// maxHelperAnswer bounds what is read of a helper; a token has a few KiB.
	maxHelperAnswer = 1 << 20
	// helperGrace is how long a helper's children may keep its output open.
	helperGrace = 5 * time.Second
	// notFound is how helpers say that they have nothing
	// (docker-credential-helpers, package credentials).
	notFound = "credentials not found in native keychain"
)

// askHelper runs docker-credential-NAME get, in the protocol of
// docker-credential-helpers. Nothing that the helper writes gets into an error
// or onto a terminal: a token may be in it. Why not oras-go's: it passes both
// on.
func askHelper(ctx context.Context, name, server string) (Credential, error) {
	program := "docker-credential-" + name
	var out limitedBuffer
	cmd := exec.CommandContext(ctx, program, "get")
	cmd.Stdin, cmd.Stdout = strings.NewReader(server), &out
	cmd.WaitDelay = helperGrace
	err := cmd.Run()
	if ctx.Err() != nil {
		return Credential{}, ctx.Err()
	}
	if _, ended := errors.AsType[*exec.ExitError](err); ended {
		if strings.TrimSpace(string(out.data)) == notFound {
			return Credential{}, nil
		}
		return Credential{}, fmt.Errorf("%w; what it says is not shown, run %s get by hand", err, program)
	}
	if err != nil {
		return Credential{}, err
	}
	var answer struct{ Username, Secret string }
	if out.full || json.Unmarshal(out.data, &answer) != nil {
		return Credential{}, fmt.Errorf("its answer is no JSON document of a login, or larger than %d bytes", maxHelperAnswer)
	}
	if answer.Username == "<token>" {
		return Credential{RefreshToken: answer.Secret}, nil
	}
	return Credential{Username: answer.Username, Password: answer.Secret}, nil
}

// limitedBuffer keeps the first maxHelperAnswer bytes and drops the others, so
// that whoever writes them need not wait.
type limitedBuffer struct {
	data []byte
	full bool
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	keep := p
	if room := maxHelperAnswer - len(b.data); len(p) > room {
		keep, b.full = p[:room], true
	}
	b.data = append(b.data, keep...)
	return len(p), nil
}
