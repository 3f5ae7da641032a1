package vantage

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/airlock-project/airlock/bundle/regular"
	"github.com/airlock-project/airlock/install"
)

const (
	// Dir is where a pod finds its task. /airlock is the program.
	Dir      = "/task"
	taskFile = "task.json"
	// mark begins the line of a pod's log that holds the answer. Standard output
	// and standard error are one log.
	mark = "airlock-answer "

	// maxTask bounds a task with its files: Kubernetes takes Secrets of 1 MiB.
	maxTask = 900 << 10
	// maxAnswer bounds the answer, and the log that holds it.
	maxAnswer = 1 << 20
)

// task is what a pod is to do.
type task struct {
	Kind  string         `json:"kind"`
	With  map[string]any `json:"with"`
	Files []file         `json:"files,omitempty"`
	Nonce string         `json:"nonce"` // one task, one answer
}

// file is one that goes along.
type file struct {
	Argument string `json:"argument"` // dotted path in With
	Name     string `json:"name"`     // beside the task
	SHA256   string `json:"sha256"`
}

// reply is what a pod saw. Task is the SHA-256 of the task it answers: a log of
// another pod, or of an earlier run, is not taken for it.
type reply struct {
	Task   string         `json:"task"`
	Error  string         `json:"error,omitempty"`
	Result install.Result `json:"result"`
}

// pack makes the content of a Secret: the task, and the files that its arguments
// name by their paths here.
func pack(kind string, with map[string]any, paths []string) (content map[string][]byte, sum string, err error) {
	t := task{Kind: kind, With: with, Nonce: rand.Text()}
	content = make(map[string][]byte)
	size := 0
	for i, path := range paths {
		at, key, err := locate(with, path)
		if err != nil {
			return nil, "", err
		}
		local, _ := at[key].(string)
		if local == "" {
			continue
		}
		data, err := regular.Read(local, maxTask)
		if err != nil {
			return nil, "", fmt.Errorf("read %s: %w", path, err)
		}
		f := file{Argument: path, Name: "file" + strconv.Itoa(i), SHA256: digest(data)}
		at[key] = f.Name
		content[f.Name] = data
		t.Files = append(t.Files, f)
		size += len(data)
	}
	raw, err := json.Marshal(t)
	if err != nil {
		return nil, "", fmt.Errorf("encode task: %w", err)
	}
	if size += len(raw); size > maxTask {
		return nil, "", fmt.Errorf("the task and its files have %d bytes, a Secret takes %d", size, maxTask)
	}
	content[taskFile] = raw
	return content, digest(raw), nil
}

// locate finds the map that holds a dotted path, nil if there is none. What is
// there must be the path of a file or nothing.
func locate(with map[string]any, path string) (at map[string]any, key string, err error) {
	parts := strings.Split(path, ".")
	at = with
	for _, p := range parts[:len(parts)-1] {
		at, _ = at[p].(map[string]any)
	}
	key = parts[len(parts)-1]
	switch at[key].(type) {
	case nil, string:
		return at, key, nil
	}
	return nil, "", fmt.Errorf("step argument %q is not the path of a file", path)
}

// Perform does in a pod what the task in dir says, with the probes that are
// registered, and writes the answer as one line. What the probe cannot do is in
// the answer; an error means that there is none.
func Perform(ctx context.Context, dir string, probes map[string]install.Probe, out io.Writer) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open task: %w", err)
	}
	defer root.Close()
	raw, err := read(root, taskFile)
	if err != nil {
		return fmt.Errorf("read task: %w", err)
	}
	var t task
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&t); err != nil {
		return errors.New("read task: it is not one") // the decoder may quote it
	}
	if err := t.place(root, dir); err != nil {
		return fmt.Errorf("read task: %w", err)
	}
	r := reply{Task: digest(raw)}
	if p := probes[t.Kind]; p == nil {
		r.Error = fmt.Sprintf("this version of airlock has no probe %q", t.Kind)
	} else if r.Result, err = p.Run(ctx, install.Input{With: t.With, Site: dir}); err != nil {
		r.Error = err.Error()
	}
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	if len(line) > maxAnswer/2 { // what a probe found is worth more than its evidence
		r.Result.Evidence = nil
		if line, err = json.Marshal(r); err != nil {
			return fmt.Errorf("encode answer: %w", err)
		}
	}
	_, err = fmt.Fprintf(out, "%s%s\n", mark, line)
	return err
}

// place checks the files and puts their paths into the arguments.
func (t *task) place(root *os.Root, dir string) error {
	for _, f := range t.Files {
		data, err := read(root, f.Name)
		if err != nil {
			return err
		}
		if digest(data) != f.SHA256 {
			return fmt.Errorf("%s is not the file that was sent", f.Name)
		}
		at, key, err := locate(t.With, f.Argument)
		if err != nil || at == nil {
			return errors.Join(fmt.Errorf("no argument %q", f.Argument), err)
		}
		at[key] = filepath.Join(dir, f.Name)
	}
	return nil
}

func read(root *os.Root, name string) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxTask+1))
	if err == nil && len(data) > maxTask {
		err = fmt.Errorf("%s has more than %d bytes", name, maxTask)
	}
	return data, err
}

// errNoAnswer says that a log holds no answer to a task.
var errNoAnswer = errors.New("its log holds no answer to this task")

// unpack finds the answer to the task in a log.
func unpack(log []byte, sum string) (reply, error) {
	for line := range bytes.Lines(log) {
		rest, ok := bytes.CutPrefix(line, []byte(mark))
		if !ok {
			continue
		}
		var r reply
		d := json.NewDecoder(bytes.NewReader(rest))
		d.DisallowUnknownFields()
		if d.Decode(&r) == nil && r.Task == sum {
			return r, nil
		}
	}
	return reply{}, errNoAnswer
}

func digest(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}
