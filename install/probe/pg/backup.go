package pg

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/postgres"
)

// Codes of pg.backup, beside those of postgres.Codes.
const (
	codeBackup  = "PG-20"
	codeRestore = "PG-21"
)

const (
	// maxEntries bounds the directory of backups that is walked.
	maxEntries = 200000
	// defaultMaxRestore bounds the database that is restored to see whether that
	// works: the copy stands beside it for a while.
	defaultMaxRestore = 1 << 30
)

// Backup is pg.backup: is there a backup that is young enough, and on request,
// can it be restored. Its zero value is ready and safe for concurrent use.
type Backup struct {
	Now func() time.Time // the clock; nil means time.Now
}

// backupArguments are the step's with.
type backupArguments struct {
	URL     string `json:"url"`
	CA      string `json:"ca"`
	Timeout string `json:"timeout"` // of the beginning of a session
	MaxAge  string `json:"max_age"`
	Archive bool   `json:"archive"` // the server's WAL archive counts
	Path    string `json:"path"`    // a file, or a directory with files, that counts
	Code    string `json:"code"`    // instead of PG-20

	Smoke    bool  `json:"smoke"`     // dump, and restore into a scratch database
	SmokeMax int64 `json:"smoke_max"` // bytes; a larger database is not restored
}

// onlySmoke reports whether a trial is all that is asked for.
func (a *backupArguments) onlySmoke() bool { return a.Smoke && !a.Archive && a.Path == "" }

// Codes implements install.Coder.
func (Backup) Codes() map[string][]string {
	codes := postgres.Codes()
	codes[codeBackup] = []string{"max_age", "reason"}
	codes[codeRestore] = []string{"host", "port", "user", "db", "reason"}
	return codes
}

// sign is one thing that shows a backup.
type sign struct {
	What string  `json:"what"`
	Age  float64 `json:"age_hours"`
	Good bool    `json:"good"`
}

// Run looks for signs of a backup. One that is young enough is enough.
func (p Backup) Run(ctx context.Context, in install.Input) (install.Result, error) {
	a := backupArguments{Timeout: defaultTimeout.String(), Code: codeBackup, SmokeMax: defaultMaxRestore}
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	limit, err := time.Duration(0), error(nil)
	if !a.onlySmoke() || a.MaxAge != "" {
		if limit, err = duration("max_age", a.MaxAge); err != nil {
			return install.Result{}, err
		}
	}
	wait, err := duration("timeout", a.Timeout)
	if err != nil {
		return install.Result{}, err
	}
	b := &backup{backupArguments: a, limit: limit, wait: wait, now: time.Now}
	if p.Now != nil {
		b.now = p.Now
	}
	if err := b.run(ctx); err != nil {
		f, ok := postgres.Finding(err)
		if ctx.Err() != nil || !ok {
			return install.Result{}, cmp.Or(ctx.Err(), err)
		}
		b.found = append(b.found, f)
	}
	data, err := json.MarshalIndent(b.signs, "", "  ")
	if err != nil {
		return install.Result{}, fmt.Errorf("write signs of a backup: %w", err)
	}
	return install.Result{Findings: b.found, Evidence: []install.Evidence{{Name: "backups.json", Media: "application/json", Data: data}}}, nil
}

type backup struct {
	backupArguments
	limit, wait time.Duration
	now         func() time.Time
	signs       []sign
	reasons     []string
	found       []install.Finding
}

func (b *backup) run(ctx context.Context) error {
	if b.Path != "" {
		if err := b.files(ctx); err != nil {
			return err
		}
	}
	if b.Archive || b.Smoke {
		if err := b.server(ctx); err != nil {
			return err
		}
	}
	if b.onlySmoke() || slices.ContainsFunc(b.signs, func(s sign) bool { return s.Good }) {
		return nil
	}
	if len(b.reasons) == 0 {
		b.reasons = []string{"no place to look for one is given"}
	}
	reason := strings.Join(b.reasons, "; ")
	b.found = append(b.found, install.Finding{
		Code: b.Code, Detail: fmt.Sprintf("no backup younger than %s: %s", b.MaxAge, reason), Fields: map[string]string{"max_age": b.MaxAge, "reason": reason},
	})
	return nil
}

// judge keeps a sign.
func (b *backup) judge(what string, age time.Duration) {
	good := age >= -time.Hour && age <= b.limit // a clock may be off by a little
	b.signs = append(b.signs, sign{What: what, Age: age.Round(time.Minute).Hours(), Good: good})
	switch {
	case age < -time.Hour:
		b.reasons = append(b.reasons, what+" is dated in the future")
	case !good:
		b.reasons = append(b.reasons, fmt.Sprintf("%s is %s old", what, age.Round(time.Minute)))
	}
}

// server asks the database.
func (b *backup) server(ctx context.Context) error {
	target, err := postgres.Parse(b.URL)
	if err != nil {
		return err
	}
	conn, err := target.Connect(ctx, b.CA, b.wait)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if b.Archive {
		if err := b.archive(ctx, conn); err != nil {
			return err
		}
	}
	if b.Smoke {
		return b.smoke(ctx, conn)
	}
	return nil
}

// queryArchiver asks how the archiving of WAL goes; ages are in seconds by the
// server's clock.
const queryArchiver = `SELECT current_setting('archive_mode'), coalesce(last_archived_wal, ''),
 coalesce(extract(epoch FROM clock_timestamp() - last_archived_time)::text, ''),
 coalesce(extract(epoch FROM clock_timestamp() - last_failed_time)::text, '') FROM pg_stat_archiver`

// archive looks at the WAL archive.
func (b *backup) archive(ctx context.Context, conn *postgres.Conn) error {
	row, err := conn.Row(ctx, 4, queryArchiver)
	if err != nil {
		return queryFailed("how the archiving of WAL goes", err)
	}
	mode, wal := row[0], row[1]
	done, ok := seconds(row[2])
	failed, hasFailed := seconds(row[3])
	switch {
	case mode != "on" && mode != "always":
		b.reasons = append(b.reasons, "archive_mode of "+conn.Host.String()+" is off")
	case !ok:
		b.reasons = append(b.reasons, "the server archives WAL and has archived none yet")
	case hasFailed && failed < done:
		b.reasons = append(b.reasons, fmt.Sprintf("archiving WAL fails: the last attempt that failed is %s old, the last that succeeded %s", failed.Round(time.Second), done.Round(time.Second)))
	default:
		b.judge(fmt.Sprintf("the last archived WAL segment (%.60q)", wal), done)
	}
	return nil
}

// seconds reads an age of at most a century.
func seconds(s string) (time.Duration, bool) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f > -3.2e9 && f < 3.2e9) {
		return 0, false
	}
	return time.Duration(f * float64(time.Second)), true
}

// files looks at the youngest file of a place. Links are not followed and empty
// files are no backup.
func (b *backup) files(ctx context.Context) error {
	info, err := os.Stat(b.Path)
	if err != nil {
		b.reasons = append(b.reasons, fmt.Sprintf("%s cannot be read: %s", b.Path, reasonOf(err)))
		return nil
	}
	newest, name, count := time.Time{}, "", 0
	keep := func(path string, info fs.FileInfo) {
		if info.Mode().IsRegular() && info.Size() > 0 && info.ModTime().After(newest) {
			newest, name = info.ModTime(), path
		}
	}
	if !info.IsDir() {
		keep(b.Path, info)
	} else {
		err = filepath.WalkDir(b.Path, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if count++; count > maxEntries {
				return fmt.Errorf("more than %d entries", maxEntries)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if info, err := e.Info(); err == nil { // gone meanwhile: a backup is being rotated
				keep(path, info)
			}
			return nil
		})
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		b.reasons = append(b.reasons, fmt.Sprintf("%s cannot be read: %s", b.Path, reasonOf(err)))
	case name == "":
		b.reasons = append(b.reasons, b.Path+" holds no file with content")
	default:
		b.judge("the youngest file, "+name+",", b.now().Sub(newest))
	}
	return nil
}

// reasonOf is an error of the file system without the path.
func reasonOf(err error) string {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err.Error()
	}
	return err.Error()
}
