package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// setup is what the stages of box tell each other.
type setup struct {
	Kubebox string
	Dir     string // on disk, of this run
	Logs    string
	Cgroup  string // below each controller
}

func (s *setup) run() string        { return filepath.Join(s.Dir, "run") } // in memory, seen inside only
func (s *setup) app() string        { return filepath.Join(s.Dir, "app") }
func (s *setup) in(n string) string { return filepath.Join(s.run(), n) }
func (s *setup) kubeconfig() string { return s.in("plane/kubeconfig") }
func (s *setup) bin() string        { return s.in("bin") }
func (s *setup) certs() string      { return s.in("certs.d") }

// self is a command that runs box again as one of its inner stages. The file
// becomes the stage's descriptor 3.
func (s *setup) self(stage string, ready *os.File) (*exec.Cmd, error) {
	data, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe, stage, string(data))
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = os.Stderr, os.Stderr, []*os.File{ready}
	return cmd, nil
}

// stage runs an inner stage; it returns with an error only.
func stage(name, data string) error {
	var s setup
	if err := json.Unmarshal([]byte(data), &s); err != nil {
		return err
	}
	ready := os.NewFile(3, "ready")
	switch name {
	case "box-init":
		return s.init(ready)
	case "box-node":
		return s.node(ready)
	}
	return fmt.Errorf("unknown stage %q", name)
}

// remove takes away what prepare made.
func (s *setup) remove() error {
	return errors.Join(removeCgroups(s.Cgroup), os.RemoveAll(s.Dir))
}
