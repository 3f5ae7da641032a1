package vantage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/kube"
)

// look is a probe that says what it was given.
type look struct{}

func (look) Codes() map[string][]string { return map[string][]string{"LOOK-01": {"text"}} }

func (look) Run(_ context.Context, in install.Input) (install.Result, error) {
	var a struct {
		Text string `json:"text"`
		TLS  struct {
			CA string `json:"ca"`
		} `json:"tls"`
		Fail string `json:"fail"`
	}
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	if a.Fail != "" {
		return install.Result{}, errors.New(a.Fail)
	}
	data, err := os.ReadFile(a.TLS.CA)
	if err != nil && a.TLS.CA != "" {
		return install.Result{}, err
	}
	return install.Result{
		Findings: []install.Finding{{Code: "LOOK-01", Severity: install.SeverityWarn, Fields: map[string]string{"text": a.Text}, Detail: string(data)}},
		Outputs:  map[string]any{"x": "y"},
		Evidence: []install.Evidence{{Name: "seen", Media: "text/plain", Data: []byte(a.Text)}},
	}, nil
}

// pod does what a pod would do, in a directory of the test.
func pod(t *testing.T, change func(content map[string][]byte), noise string) func(context.Context, kube.Config, kube.Job) ([]byte, error) {
	t.Helper()
	return func(ctx context.Context, c kube.Config, j kube.Job) ([]byte, error) {
		if c.Kubeconfig != "kc" || j.Namespace != "ns" || j.Image != "r.test/airlock:v1@sha256:0" || strings.Join(j.Args, " ") != "probe "+j.Mount {
			t.Errorf("job %+v of %+v", j, c)
		}
		if change != nil {
			change(j.Content)
		}
		dir := t.TempDir()
		for name, data := range j.Content {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		log := bytes.NewBufferString(noise)
		if err := Perform(ctx, dir, map[string]install.Probe{"look": look{}}, log); err != nil {
			fmt.Fprintln(log, err)
		}
		return log.Bytes(), nil
	}
}

func arg(with map[string]any, files ...any) install.Input {
	return install.Input{With: map[string]any{
		"kubeconfig": "kc", "namespace": "ns", "image": "r.test/airlock:v1@sha256:0", "run": "look", "with": with, "files": files,
	}}
}

func TestRun(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, []byte("authority"), 0o600); err != nil {
		t.Fatal(err)
	}
	with := map[string]any{"text": "hello", "tls": map[string]any{"ca": ca}}
	tests := map[string]struct {
		change func(map[string][]byte)
		noise  string
		with   map[string]any
		code   string
		detail string
	}{
		"answer":         {with: with, code: "LOOK-01", detail: "from a pod in namespace ns: authority"},
		"noise in a log": {with: with, noise: "panic\nairlock-answer {}\nairlock-answer x\n", code: "LOOK-01", detail: "authority"},
		"probe fails":    {with: map[string]any{"fail": "no way"}, code: codeAnswer, detail: "no way"},
		"foreign answer": {with: with, change: func(c map[string][]byte) { c[taskFile] = append(c[taskFile], '\n') }, code: codeAnswer, detail: errNoAnswer.Error()},
		"foreign file":   {with: with, change: func(c map[string][]byte) { c["file0"] = []byte("other") }, code: codeAnswer, detail: errNoAnswer.Error()},
		"not a task":     {with: with, change: func(c map[string][]byte) { c[taskFile] = []byte("{") }, code: codeAnswer, detail: errNoAnswer.Error()},
		"unknown in pod": {with: with, change: func(c map[string][]byte) {
			c[taskFile] = bytes.Replace(c[taskFile], []byte(`"look"`), []byte(`"lo"`), 1)
		}, code: codeAnswer, detail: errNoAnswer.Error()},
		"no file, no ca":  {with: map[string]any{"text": "x"}, code: "LOOK-01", detail: "namespace ns"},
		"truncated by it": {with: map[string]any{"text": strings.Repeat("x", maxAnswer/2)}, code: "LOOK-01", detail: "namespace ns"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := Probe{Probes: map[string]install.Probe{"look": look{}}, run: pod(t, tt.change, tt.noise)}
			res, err := p.Run(t.Context(), arg(tt.with, "tls.ca"))
			if err != nil {
				t.Fatal(err)
			}
			if len(res.Findings) != 1 || res.Findings[0].Code != tt.code || !strings.Contains(res.Findings[0].Detail, tt.detail) {
				t.Fatalf("findings %+v", res.Findings)
			}
			if len(res.Outputs) > 0 {
				t.Errorf("outputs %v", res.Outputs)
			}
		})
	}
	if with["tls"].(map[string]any)["ca"] != ca {
		t.Error("the step's arguments were changed")
	}
}

func TestRefused(t *testing.T) {
	p := Probe{Probes: map[string]install.Probe{"look": look{}}}
	for name, in := range map[string]install.Input{
		"unknown probe":  {With: map[string]any{"kubeconfig": "kc", "namespace": "ns", "image": "i", "run": "cluster.probe"}},
		"missing file":   arg(map[string]any{"ca": filepath.Join(t.TempDir(), "none")}, "ca"),
		"not a path":     arg(map[string]any{"ca": map[string]any{}}, "ca"),
		"no kubeconfig":  arg(map[string]any{"text": "x"}),
		"negative time":  {With: map[string]any{"kubeconfig": "kc", "namespace": "ns", "image": "i", "run": "look", "timeout": "-1s"}},
		"unknown key":    {With: map[string]any{"kubeconfig": "kc", "colour": "red"}},
		"much too large": arg(map[string]any{"text": strings.Repeat("x", maxTask)}),
	} {
		if _, err := p.Run(t.Context(), in); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	none, err := p.Run(t.Context(), install.Input{With: map[string]any{"kubeconfig": "kc", "namespace": "ns", "run": "look"}})
	if err != nil || len(none.Findings) != 1 || none.Findings[0].Code != codeStart || none.Findings[0].Detail != noImage {
		t.Errorf("without an image: %+v, %v", none, err)
	}
	p.run = func(context.Context, kube.Config, kube.Job) ([]byte, error) {
		return nil, &kube.JobError{Namespace: "ns", Reason: "ImagePullBackOff"}
	}
	res, err := p.Run(t.Context(), arg(map[string]any{"text": "x"}))
	if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != codeStart || res.Findings[0].Fields["reason"] != "ImagePullBackOff" {
		t.Errorf("%+v, %v", res, err)
	}
	if _, ok := p.Codes()["LOOK-01"]; !ok {
		t.Error("codes of the probe inside are not listed")
	}
}
