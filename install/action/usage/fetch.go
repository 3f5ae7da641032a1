package usage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/gql"
	"github.com/airlock-project/airlock/install/internal/place"
	"github.com/airlock-project/airlock/install/internal/web"
)

// batchTime bounds one batch: a server may have to count for minutes.
const batchTime = 10 * time.Minute

// fetch gets one batch and writes it down: the file first, then the manifest.
// A run that ends in between gets the batch again.
func (a *arguments) fetch(ctx context.Context, c *gql.Client, dir string, m *manifest, s span) (*install.Finding, error) {
	address, err := a.address(s)
	if err != nil {
		return nil, err
	}
	asking, cancel := context.WithTimeout(ctx, batchTime)
	defer cancel()
	status, data, err := a.get(asking, c, address)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		if _, ok := errors.AsType[*gql.Problem](err); ok {
			return nil, err
		}
		reason, _ := web.Why(err)
		return a.answer(address, "none", web.Quote(reason, c.KeySecret)), nil
	case status == http.StatusForbidden:
		return &install.Finding{
			Code: a.own(codeForbidden), Detail: fmt.Sprintf("%s answers 403 to the key %s", address, c.KeyID),
			Fields: map[string]string{"url": address, "key": c.KeyID, "status": "403"},
		}, nil
	case status != http.StatusOK:
		return a.answer(address, strconv.Itoa(status), fmt.Sprintf("status %d", status)), nil
	case len(data) > maxBatch:
		return a.answer(address, "200", fmt.Sprintf("more than %d bytes: make days smaller", maxBatch)), nil
	case !json.Valid(data):
		return a.answer(address, "200", "what came is not JSON"), nil
	}
	name := fmt.Sprintf("%s_%d_%d.json", a.Name, s.start.Unix(), s.end.Unix())
	if _, err := place.Set(dir, a.To+"/"+name, data, 0o600); err != nil {
		return nil, err
	}
	m.Batches = append(m.Batches, batch{File: name, Start: s.start.Unix(), End: s.end.Unix(), SHA256: sum(data), Bytes: len(data)})
	_, _, err = m.save(dir, a.To)
	return nil, err
}

func (a *arguments) answer(address, status, reason string) *install.Finding {
	return &install.Finding{
		Code: a.own(codeAnswer), Detail: address + ": " + reason,
		Fields: map[string]string{"url": address, "status": status, "reason": reason},
	}
}

// get asks for one batch, with a new token once if the server does not take the
// one at hand.
func (a *arguments) get(ctx context.Context, c *gql.Client, address string) (status int, data []byte, err error) {
	for try := 0; ; try++ {
		token, err := c.Token(ctx)
		if err != nil {
			return 0, nil, err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return 0, nil, errors.New("export: want a url with https")
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := c.HTTP.Do(req)
		if err != nil {
			return 0, nil, err
		}
		data, err = io.ReadAll(io.LimitReader(resp.Body, maxBatch+1))
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			return 0, nil, err
		}
		if resp.StatusCode == http.StatusUnauthorized && try == 0 {
			c.Forget()
			continue
		}
		return resp.StatusCode, data, nil
	}
}
