package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/regular"
	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/manifests"
)

// definition is a loaded airlock.yaml with what belongs to it.
type definition struct {
	def      *manifests.Definition
	dir      string
	lockPath string
	lock     *manifests.Lock // nil: resolve anew, but for
	former   *manifests.Lock // the pins of a lock of another edition; may be nil
}

func loadDefinition(path string) (*definition, error) {
	data, err := regular.Read(path, manifests.MaxDocument)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, &noDefinitionError{path}
		}
		return nil, err
	}
	def, err := manifests.ParseDefinition(path, data)
	if err != nil {
		return nil, err
	}
	return &definition{def: def, dir: filepath.Dir(path), lockPath: lockPath(path)}, nil
}

// lockPath is where the lock of a definition lies: beside it, under its name,
// so that several definitions of one folder do not share one.
func lockPath(path string) string {
	lock := strings.TrimSuffix(path, filepath.Ext(path)) + ".lock"
	if lock == path || filepath.Base(lock) == ".lock" {
		return path + ".lock"
	}
	return lock
}

// noDefinitionError says that there is no airlock.yaml here.
type noDefinitionError struct{ path string }

func (e *noDefinitionError) Error() string { return fmt.Sprintf("open %s: no such file", e.path) }

// readLock reads the lock beside the definition; nil if there is none.
func (d *definition) readLock() (*manifests.Lock, error) {
	data, err := regular.Read(d.lockPath, manifests.MaxDocument)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return manifests.ParseLock(d.lockPath, data)
}

// formerLock is the lock that is about to be replaced, whatever it is worth: it
// only serves to show what changes.
func (d *definition) formerLock(a *app) *manifests.Lock {
	lock, err := d.readLock()
	if err != nil {
		a.warn("what changes is not shown, the old lock cannot be read: %s", err)
		return nil
	}
	return lock
}

// keepLock loads the lock beside the definition: all of it where it fits, what
// still fits where the definition was edited since.
func (d *definition) keepLock(a *app, must bool) error {
	lock, err := d.readLock()
	switch {
	case err != nil:
		return err
	case lock == nil && must:
		return &staleLockError{path: d.lockPath, missing: true}
	case lock == nil:
	case lock.Definition == d.def.Digest():
		d.lock = lock
	case must:
		return &staleLockError{path: d.lockPath}
	default:
		d.former = lock
		a.say("%s was written for another definition: entries that did not change keep their pins", d.lockPath)
	}
	return nil
}

// staleLockError says that --locked cannot be honoured.
type staleLockError struct {
	path    string
	missing bool
}

func (e *staleLockError) Error() string {
	if e.missing {
		return fmt.Sprintf("--locked: %s does not exist", e.path)
	}
	return fmt.Sprintf("--locked: %s was written for another definition", e.path)
}

// plan resolves a definition. done removes the spool, which is kept while a
// create can be resumed.
func (a *app) plan(ctx context.Context, d *definition, spoolDir string) (plan *bundle.Plan, done func() error, err error) {
	hosts, err := a.hosts(remote.Options{})
	if err != nil {
		return nil, nil, err
	}
	when, err := d.created(a)
	if err != nil {
		return nil, nil, err
	}
	spool, err := bundle.OpenSpool(spoolDir)
	if err != nil {
		return nil, nil, err
	}
	remove := func() error { return errors.Join(spool.Close(), os.RemoveAll(spoolDir)) }
	defer func() {
		if err != nil {
			err = errors.Join(err, remove())
		}
	}()
	set := sourceSet{hosts: hosts, spool: spool, dir: d.dir, created: when, listen: undone(a.listen())}
	sources, specs, err := set.sources(d.def)
	if err != nil {
		return nil, nil, err
	}
	info, err := d.info()
	if err != nil {
		return nil, nil, err
	}
	plan, err = bundle.Resolve(ctx, bundle.ResolveOptions{
		Info: info, Definition: d.def.Digest(), Sources: sources, Specs: specs,
		Locked: d.lock, Previous: d.former, Created: when, Spool: spool, Listener: a.listen(),
	})
	if err != nil {
		return nil, nil, err
	}
	return plan, remove, nil
}

// undone leaves it to the engine to say that an entry is resolved: it knows
// whether a lock said the answer.
func undone(l bundle.Listener) bundle.Listener {
	return func(e bundle.Event) {
		e.Done = false
		l.Send(e)
	}
}

// info is what a definition says of its bundle as a whole.
func (d *definition) info() (bundle.Info, error) {
	info := bundle.Info{Product: d.def.Product, Version: d.def.Version, Release: d.def.Release, Audience: d.def.Audience, MinTool: d.def.MinTool, Tool: buildVersion().Version}
	if d.def.Expires != "" {
		t, err := time.Parse(time.DateOnly, d.def.Expires)
		if err != nil {
			return bundle.Info{}, err
		}
		info.Expires = t.AddDate(0, 0, 1).Add(-time.Second)
	}
	return info, nil
}

// maxEpoch is the last second that RFC 3339 can write.
const maxEpoch = 253402300799

// created is the one time stamp of everything made: the lock's,
// SOURCE_DATE_EPOCH's, or now.
func (d *definition) created(a *app) (time.Time, error) {
	when := time.Now().UTC().Truncate(time.Second)
	v := os.Getenv("SOURCE_DATE_EPOCH")
	if v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 || n > maxEpoch {
			return time.Time{}, &settingError{fmt.Errorf("SOURCE_DATE_EPOCH %q: not a number of seconds since 1970", v), "correct the variable or unset it: it sets the time stamp of what is made"}
		}
		when = time.Unix(n, 0).UTC()
	}
	if d.lock == nil {
		return when, nil
	}
	locked, err := time.Parse(time.RFC3339, d.lock.Created)
	if err == nil && v != "" && !locked.Equal(when) {
		a.say("SOURCE_DATE_EPOCH is %s: the time stamp of %s holds, %s", when.Format(time.RFC3339), d.lockPath, d.lock.Created)
	}
	return locked, err
}
