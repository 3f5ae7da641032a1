package pg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/postgres"
)

// scratchPrefix marks databases that a restore was tried in.
const scratchPrefix = "airlock_restore_"

// cleaning bounds the removal of a scratch database after ctx has ended.
const cleaning = 30 * time.Second

// restoreError is why a restore was not proven.
type restoreError struct{ reason string }

func (e *restoreError) Error() string { return e.reason }

// smoke dumps the database and restores the dump into a scratch database of the
// same server, which is dropped at the end whatever happened.
func (b *backup) smoke(ctx context.Context, conn *postgres.Conn) error {
	err := b.restore(ctx, conn)
	reason := ""
	if e, ok := errors.AsType[*restoreError](err); ok {
		reason = e.reason
	} else if q, ok := errors.AsType[*postgres.QueryError](err); ok {
		reason = q.Reason
	} else {
		return err
	}
	t := conn.Target
	b.found = append(b.found, install.Finding{
		Code: codeRestore, Detail: fmt.Sprintf("restore of %s at %s: %s", t.Database, conn.Host, reason),
		Fields: map[string]string{"host": conn.Host.Name, "port": conn.Host.Port, "user": t.User, "db": t.Database, "reason": reason},
	})
	return nil
}

func (b *backup) restore(ctx context.Context, conn *postgres.Conn) (err error) {
	var programs [2]string
	for i, name := range []string{"pg_dump", "pg_restore"} {
		if programs[i], err = exec.LookPath(name); err != nil {
			return &restoreError{name + " is not in PATH: install PostgreSQL's client programs, or leave the trial restore out"}
		}
	}
	if err := b.fits(ctx, conn); err != nil {
		return err
	}
	name, err := scratchName()
	if err != nil {
		return err
	}
	name = scratchPrefix + strings.TrimPrefix(name, "airlock_probe_")
	if err := conn.Exec(ctx, "CREATE DATABASE "+postgres.Identifier(name)+" TEMPLATE template0"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.drop(ctx, conn.Target, name)) }()
	if err := b.pump(ctx, conn, programs, name); err != nil {
		return err
	}
	want, err := conn.Rows(ctx, queryRelations)
	if err != nil {
		return err
	}
	scratch, err := conn.Target.InDatabase(name).Connect(ctx, b.CA, b.wait)
	if err != nil {
		return err
	}
	defer scratch.Close(ctx)
	got, err := scratch.Rows(ctx, queryRelations)
	if err != nil {
		return err
	}
	if len(got) != len(want) {
		return &restoreError{fmt.Sprintf("%d relations came back of %d", len(got), len(want))}
	}
	return nil
}

// fits refuses a database that is too large for a trial, and one after a trial
// that left its scratch database.
func (b *backup) fits(ctx context.Context, conn *postgres.Conn) error {
	row, err := conn.Row(ctx, 2, `SELECT pg_database_size(current_database())::text,
 (SELECT coalesce(string_agg(datname::text, ', '), '') FROM pg_database WHERE datname ~ '^airlock_restore_[0-9a-f]{16}$')`)
	if err != nil {
		return err
	}
	if row[1] != "" {
		return &restoreError{"an earlier trial was cut off and left " + row[1] + ": drop it first"}
	}
	if n, err := strconv.ParseInt(row[0], 10, 64); err != nil || n > b.SmokeMax {
		return &restoreError{fmt.Sprintf("the database has %.20s bytes, and a trial is limited to %d", row[0], b.SmokeMax)}
	}
	return nil
}

// drop removes the scratch database, also when ctx has ended. The session that
// made it may be broken, so it uses its own.
func (b *backup) drop(ctx context.Context, t *postgres.Target, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleaning)
	defer cancel()
	conn, err := t.Connect(ctx, b.CA, b.wait)
	if err == nil {
		defer conn.Close(ctx)
		err = conn.Exec(ctx, "DROP DATABASE IF EXISTS "+postgres.Identifier(name)+" WITH (FORCE)")
	}
	if err != nil {
		return &restoreError{fmt.Sprintf("the scratch database %s is left: drop it (%s)", name, err)}
	}
	return nil
}

// pump runs pg_dump into pg_restore.
func (b *backup) pump(ctx context.Context, conn *postgres.Conn, programs [2]string, name string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("connect pg_dump and pg_restore: %w", err)
	}
	var said [2]bounded
	env := append(conn.Target.Environment(conn.Host, b.CA), "PATH="+os.Getenv("PATH"), "LC_ALL=C", "HOME=/nonexistent")
	dump := exec.CommandContext(ctx, programs[0], "--format=custom", "--compress=0", "--no-owner", "--no-privileges", "--no-password")
	restore := exec.CommandContext(ctx, programs[1], "--dbname="+name, "--no-owner", "--no-privileges", "--no-password", "--exit-on-error")
	dump.Env, dump.Stdout, dump.Stderr, dump.WaitDelay = env, w, &said[0], cleaning
	restore.Env, restore.Stdin, restore.Stderr, restore.WaitDelay = env, r, &said[1], cleaning
	err1, err2 := dump.Start(), restore.Start()
	// Each program holds its own end now, so that one sees when the other is gone.
	_ = r.Close()
	_ = w.Close()
	if err1 == nil {
		err1 = dump.Wait()
	}
	if err2 == nil {
		err2 = restore.Wait()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err1 == nil && err2 == nil {
		return nil
	}
	// The one that has something to say is the cause: the other only sees the
	// pipe end.
	for i, program := range programs {
		if len(said[i].data) > 0 {
			return &restoreError{fmt.Sprintf("%s fails: %s", filepath.Base(program), conn.Target.Clean(string(said[i].data)))}
		}
	}
	return &restoreError{fmt.Sprintf("pg_dump and pg_restore: %v", errors.Join(err1, err2))}
}

// bounded keeps the beginning of what a program says.
type bounded struct{ data []byte }

func (b *bounded) Write(p []byte) (int, error) {
	if left := 4096 - len(b.data); left > 0 {
		b.data = append(b.data, p[:min(left, len(p))]...)
	}
	return len(p), nil
}
