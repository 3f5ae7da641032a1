package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// build is what this binary says of itself, all of it from build information.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// develVersion stands where a binary was built without version control
// information; it meets no bundle's minTool.
const develVersion = "v0.0.0-devel"

func buildVersion() build {
	b := build{Version: develVersion, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		b.Version = v
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show version and commit", Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			b := buildVersion()
			return a.result(b, func(w io.Writer) { fmt.Fprintln(w, versionLine()) })
		},
	}
}

// versionLine is the version for people.
func versionLine() string {
	b := buildVersion()
	s := fmt.Sprintf("airlock %s %s %s", b.Version, b.Platform, b.Go)
	if b.Commit != "" {
		s += " commit " + b.Commit
	}
	if b.Modified {
		s += " (modified)"
	}
	return s
}
