//go:build all

package mqtt

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/pki"
	"github.com/google/go-cmp/cmp"
)

// startBroker runs one on a free port of 127.0.0.1 until the test ends.
func startBroker(t *testing.T, conf string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	_, port, _ := net.SplitHostPort(at)
	l.Close()
	file := filepath.Join(t.TempDir(), "mosquitto.conf")
	text := fmt.Sprintf("listener %s 127.0.0.1\nuser root\nlog_dest stderr\n%s", port, conf)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "mosquitto", "-v", "-c", file)
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	up, ended := make(chan bool, 1), make(chan struct{})
	go func() {
		defer close(ended)
		for s := bufio.NewScanner(out); s.Scan(); {
			if strings.Contains(s.Text(), "running") {
				up <- true
			}
		}
		up <- false
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		_ = cmd.Wait()
	})
	if !<-up {
		t.Fatal("mosquitto does not start")
	}
	return at
}

func TestMosquitto(t *testing.T) {
	root := pki.New(t, "Site A root")
	cert, key := pki.Files(t, root.Server(t, []string{"127.0.0.1"}))
	secure := fmt.Sprintf("certfile %s\nkeyfile %s\n", cert, key)
	for name, c := range map[string]struct {
		conf string
		want []string
	}{
		"refuses":          {secure + "allow_anonymous false\n", nil},
		"asks for a cert":  {secure + "allow_anonymous false\nrequire_certificate true\ncafile " + root.File(t) + "\n", nil},
		"lets anybody in":  {secure + "allow_anonymous true\n", []string{"MQTT-05"}},
		"does no TLS":      {"allow_anonymous false\n", []string{"MQTT-04"}},
		"TLS 1.2 and less": {secure + "allow_anonymous false\ntls_version tlsv1.2\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			res, err := Dial{}.Run(t.Context(), install.Input{With: map[string]any{"endpoint": "tls://" + startBroker(t, c.conf), "ca": root.File(t), "timeout": "3s"}})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, codes(t, Dial{}, res)); d != "" {
				t.Errorf("%s\n%+v", d, res.Findings)
			}
		})
	}
}
