package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/airlock-project/airlock/bundle/regular"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// line is the command line that an error came from: hints name its flags, and
// a path that it does not name comes from a document.
type line struct{ cmd *cobra.Command }

func (l line) command() string {
	if l.cmd == nil {
		return "airlock"
	}
	return l.cmd.CommandPath()
}

func (l line) is(command string) bool { return l.command() == "airlock "+command }

func (l line) has(flag string) bool { return l.cmd != nil && l.cmd.Flags().Lookup(flag) != nil }

// outputs are the flags that say where to write, in the order in which hints
// offer them.
func outputs() []string {
	return []string{"out", "relocation-map", "name", "dir", "state", "render-to"}
}

// outFlag is the flag to write somewhere else with than path: the one that
// names a directory above it, or else the first. Empty if there is none.
func (l line) outFlag(path string) string {
	names := slices.DeleteFunc(outputs(), func(name string) bool { return !l.has(name) })
	for i, name := range names {
		if v := l.cmd.Flags().Lookup(name).Value.String(); v != "" && strings.HasPrefix(path, v) {
			names = names[i:]
			break
		}
	}
	if len(names) == 0 {
		return ""
	}
	if f := l.cmd.Flags().Lookup(names[0]); f.Shorthand != "" {
		return "-" + f.Shorthand
	}
	return "--" + names[0]
}

// source finds out what names a path: a flag, an argument (then flag is empty),
// or neither.
func (l line) source(path string) (flag string, named bool) {
	if l.cmd == nil {
		return "", false
	}
	l.cmd.Flags().VisitAll(func(f *pflag.Flag) {
		values := []string{f.Value.String()}
		if s, ok := f.Value.(pflag.SliceValue); ok {
			values = s.GetSlice()
		}
		if slices.ContainsFunc(values, func(v string) bool { return v != "" && filepath.Clean(v) == filepath.Clean(path) }) {
			flag, named = "--"+f.Name, true
		}
	})
	return flag, named || slices.Contains(l.cmd.Flags().Args(), path)
}

// writes says whether an error came from writing. Opening has one name for both
// directions: then a path that belongs to an output, or one where nothing is
// and nothing may be, was to be written.
func (l line) writes(e *fs.PathError) bool {
	if !slices.Contains([]string{"open", "openat", "stat", "statat", "lstat", "lstatat", "read", "readlink", "readdirent", "seek"}, e.Op) {
		return true
	}
	for _, name := range outputs() {
		if !l.has(name) {
			continue
		}
		v := l.cmd.Flags().Lookup(name).Value.String()
		if v == "" || name == "dir" && v == "." {
			continue
		}
		if e.Path == v || strings.HasPrefix(e.Path, v+".") || strings.HasPrefix(e.Path, v+string(filepath.Separator)) || e.Path == filepath.Dir(v) {
			return true
		}
	}
	_, err := os.Lstat(e.Path)
	return errors.Is(e.Err, fs.ErrPermission) && errors.Is(err, fs.ErrNotExist)
}

// pathVerdict is about a file that could not be used. One that is not there,
// or is of another kind, was named wrongly.
func pathVerdict(l line, e *fs.PathError) verdict {
	switch {
	case errors.Is(e.Err, syscall.ENOSPC):
		return verdict{exitFailed, ""} // the whole error says whether to resume
	case errors.Is(e.Err, fs.ErrExist):
		return verdict{exitFailed, existHint(l, e.Path)}
	case errors.Is(e.Err, fs.ErrNotExist):
		return verdict{exitUsage, missingHint(l, e)}
	case errors.Is(e.Err, syscall.EISDIR):
		return verdict{exitUsage, "it is a directory: name the file"}
	case errors.Is(e.Err, regular.ErrNotRegular):
		return verdict{exitUsage, "it is a pipe, a device or a socket: name a file, or hand a pipe over as <(command)"}
	case errors.Is(e.Err, syscall.ENOTDIR):
		return verdict{exitUsage, "part of the path is a file: check the path"}
	case errors.Is(e.Err, syscall.EROFS), errors.Is(e.Err, fs.ErrPermission) && l.writes(e):
		return verdict{exitFailed, elsewhere(l, e.Path, "write as a user who may write there")}
	case errors.Is(e.Err, fs.ErrPermission):
		return verdict{exitFailed, "you may not read it: ask its owner, or run the command as a user who may"}
	case l.writes(e):
		return verdict{exitFailed, elsewhere(l, e.Path, "check the file system")}
	}
	return verdict{exitFailed, "the file cannot be read: check the medium and the file system, or copy it again"}
}

// loginHint is about a host that wants another login than it was shown.
func loginHint(l line, host string) string {
	given := func(flag string) bool { return l.has(flag) && l.cmd.Flags().Changed(flag) }
	switch {
	case given("token-stdin"):
		return "the token that --token-stdin read was refused: check that it is for " + host + ", still valid, and may do this"
	case given("username"):
		return "the login given with --username was refused: check user name and password, and what that user may do"
	case given("anonymous"):
		return "leave out --anonymous, or give a login with --username and --password-file"
	}
	return "log in to " + host + " (docker login, podman login), or give --auth-file"
}

func elsewhere(l line, path, other string) string {
	if f := l.outFlag(path); f != "" {
		return "write somewhere else with " + f + ", or " + other
	}
	return other
}

func missingHint(l line, e *fs.PathError) string {
	flag, named := l.source(e.Path)
	other := named && flag != "" && flag != "--state" && flag != "--site"
	if strings.HasPrefix(l.command(), "airlock checklist ") && !other {
		return "airlock bundle install keeps a record there; --state or --site name another place"
	}
	switch {
	case l.writes(e):
		return elsewhere(l, e.Path, "make the folder first")
	case named && flag != "" && !l.cmd.Flags().Changed(strings.TrimPrefix(flag, "--")):
		return "name the file with " + flag
	case named && flag != "":
		return "check the path given with " + flag
	case named:
		return "check the path"
	}
	return "check the path; relative paths in a document start from the document"
}

// pathOf is the path that an error is about, "" if it names none.
func pathOf(err error) string {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Path
	}
	return ""
}

func existHint(l line, path string) string {
	if f := l.outFlag(path); f != "" {
		return "nothing is ever overwritten: remove it or choose another name with " + f
	}
	return "nothing is ever overwritten: remove it first"
}

// fullHint is about a full disk; only create goes on where it stopped.
func fullHint(err error) string {
	if _, ok := errors.AsType[*resumableError](err); ok {
		return "the disk is full: free space and run the same command again, it goes on from where it stopped"
	}
	return "the disk is full: free space and run the command again"
}

func passwordHint(l line) string {
	hint := "set AIRLOCK_KEY_PASSWORD or use --password-file"
	if l.is("bundle create") {
		hint += "; nothing was downloaded"
	}
	return hint
}

// goOn says how to go on after an interrupt.
func (l line) goOn(err error) string {
	_, resumable := errors.AsType[*resumableError](err)
	switch {
	case resumable:
		return "run the same command again: it goes on from where it stopped"
	case l.has("resume"):
		return "run the same command again with --resume: what is done is not done again"
	case l.is("mirror"):
		return "run the same command again: what is there is not sent again"
	}
	return "run the same command again"
}

// lastHint is for errors that no row knows.
func (l line) lastHint() string {
	switch {
	case l.is("bundle create"), l.is("bundle lock"):
		return "the file is not what the definition says it is, or it is damaged: correct the entry, or get the file again (docker save, helm package, the vendor's archive with its own checksums)"
	}
	return ""
}

// settingError is a flag or setting that cannot be used, with its own hint.
type settingError struct {
	err  error
	hint string
}

func (e *settingError) Error() string { return e.err.Error() }
func (e *settingError) Unwrap() error { return e.err }
