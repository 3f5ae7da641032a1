// Package blob holds the probes of object storage: blob.bucket, is every bucket
// there and does it take and keep what the application puts; blob.presign, do
// signed URLs work for those who hold nothing else; blob.cors, may a browser use
// them from the application's pages.
//
// They work with the application's credentials. What they put is small, lies
// below one prefix and is removed, also after a failure.
package blob

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/airlock-project/airlock/install"
	store "github.com/airlock-project/airlock/install/internal/blob"
)

const (
	// prefix of everything that is put.
	prefix = "airlock-probe/"
	// probeSize of an object, in bytes.
	probeSize = 1024
	// metaName has an underscore, which some proxies drop headers for.
	metaName = "airlock_probe"
)

// newKey names a probe's object like no other.
func newKey() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	return prefix + hex.EncodeToString(b[:])
}

// content is what a probe puts.
func content() []byte {
	b := make([]byte, probeSize)
	_, _ = rand.Read(b)
	return b
}

// open opens the service; findings say what is wrong with its configuration.
func open(ctx context.Context, c store.Config) (*store.Service, []install.Finding, error) {
	s, err := store.Open(ctx, c)
	if err != nil {
		f, err := store.OpenFinding(err)
		if err != nil {
			return nil, nil, err
		}
		return nil, []install.Finding{f}, nil
	}
	return s, nil, nil
}

// finish adds what the answers told besides, and the checklist's codes.
func finish(s *store.Service, c store.Config, res install.Result, codes map[string]string) install.Result {
	// A refused request for the time's sake is told already.
	told := false
	for _, f := range res.Findings {
		told = told || f.Code == store.CodeClock
	}
	if f := s.ClockFinding(); f != nil && !told {
		res.Findings = append(res.Findings, *f)
	}
	if f := s.RiskFinding(c); f != nil {
		res.Findings = append(res.Findings, *f)
	}
	res.Findings = store.Rename(res.Findings, codes)
	return res
}

// remove deletes an object and says if it could not, with its key, so that a
// person can. It has its own time.
func remove(ctx context.Context, s *store.Service, bucket, key string, versions []string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), store.CleanTime)
	defer cancel()
	var errs []error
	for _, v := range versions {
		if err := s.Objects.Remove(ctx, bucket, key, v); err != nil && store.ReasonOf(err) != store.Missing {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return &left{key: key, error: err}
	}
	return nil
}

// left is an error of removing, which names what is left behind.
type left struct {
	key string
	error
}

func (l *left) Unwrap() error { return l.error }

func (l *left) Error() string { return fmt.Sprintf("%s (%s is left behind)", l.error, l.key) }
