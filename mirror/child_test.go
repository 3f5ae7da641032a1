package mirror

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/mirror/target/oci"
	"github.com/airlock-project/airlock/testdata/fixture"
	"github.com/airlock-project/airlock/verify"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"
)

// childOrder is what a test tells a process of its own to mirror. The process
// is this test binary again, so that it can be killed and run beside others.
type childOrder struct {
	Bundle, Key, Host, Record string
	Shard                     Shard
	Closing                   bool
	Workers                   int
	Kinds                     bool // everyKind of content instead of Bundle
}

const childVariable = "AIRLOCK_MIRROR_TEST_CHILD"

func TestMain(m *testing.M) {
	raw := os.Getenv(childVariable)
	if raw == "" {
		logrus.SetOutput(io.Discard) // distribution logs there and nowhere else
		err := os.Setenv("OTEL_TRACES_EXPORTER", "none")
		if err != nil {
			panic(err)
		}
		os.Exit(m.Run())
	}
	var c childOrder
	err := json.Unmarshal([]byte(raw), &c)
	if err == nil {
		var r Result
		if r, err = c.run(context.Background()); err == nil {
			err = json.NewEncoder(os.Stdout).Encode(r)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run opens the bundle as the product does and mirrors it.
func (c childOrder) run(ctx context.Context) (Result, error) {
	h, err := remote.New(remote.Options{PlainHTTP: []string{c.Host}, Attempts: 1})
	if err != nil {
		return Result{}, err
	}
	o := Options{
		To: c.Host + "/airlock", Hosts: h, Target: oci.Target{}, Workers: c.Workers,
		Record: c.Record, Shard: c.Shard, Closing: c.Closing,
	}
	if c.Kinds {
		f := newFake(nil)
		everyKind(f)
		_, r, err := run(ctx, f, o)
		return r, err
	}
	p, err := verify.KeyPolicy(c.Key)
	if err != nil {
		return Result{}, err
	}
	b, err := verify.Open(ctx, c.Bundle, p, verify.Options{})
	if err != nil {
		return Result{}, err
	}
	defer b.Close()
	_, r, err := Run(ctx, b, o)
	return r, err
}

// command is run in a process.
func (c childOrder) command(t *testing.T) *exec.Cmd {
	t.Helper()
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), childVariable+"="+string(raw))
	return cmd
}

// imageSource carries an image of a fake bundle into a real one.
type imageSource struct {
	pin   bundle.Pin
	blobs map[digest.Digest][]byte
}

func (s *imageSource) Origin() string { return s.pin.Ref }

func (s *imageSource) Resolve(context.Context, []bundle.Pin) ([]bundle.Pin, error) {
	return []bundle.Pin{s.pin}, nil
}

func (s *imageSource) Open(_ context.Context, _ bundle.Pin, d bundle.Descriptor) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(s.blobs[d.Digest])), nil
}

// realBundle is a signed file of three images that share layers.
func realBundle(t *testing.T) childOrder {
	t.Helper()
	spool := fixture.Spool(t)
	f := newFake(t)
	shared, small := f.layer(1, 300_000), f.layer(2, 20_000)
	var sources []bundle.Source
	for i, own := range [][]ocispec.Descriptor{{f.layer(3, 1<<20)}, {f.layer(4, 700_000), f.layer(5, 5000)}, {f.layer(6, 1), f.layer(7, 90_000)}} {
		name := fmt.Sprintf("quay.io/team/app%d:v1", i)
		var m ocispec.Manifest
		if err := json.Unmarshal(f.blobs[f.image(name, append(own, shared, small)...).Digest], &m); err != nil {
			t.Fatal(err)
		}
		packed, err := bundle.PackManifest(spool, m)
		if err != nil {
			t.Fatal(err)
		}
		packed.Ref = name
		sources = append(sources, &imageSource{blobs: f.blobs, pin: bundle.Pin{
			Item:      bundle.Item{Kind: bundle.KindImage, Name: name, Ref: name},
			Manifests: []bundle.Manifest{packed}, Blobs: append([]bundle.Descriptor{m.Config}, m.Layers...),
		}})
	}
	path, key := fixture.File(t, spool, sources...)
	return childOrder{Bundle: path, Key: key}
}
