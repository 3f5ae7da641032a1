//go:build all

package flows

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/pki"
)

// The test binary runs itself inside the namespaces, in one of these roles.
const (
	roleVar   = "AIRLOCK_FLOWS_ROLE"
	roleServe = "serve" // arguments: ADDRESS CERT KEY, three for each listener
	roleProbe = "probe" // stdin: the step's with, stdout: its result
)

func TestMain(m *testing.M) {
	switch os.Getenv(roleVar) {
	case roleServe:
		if err := serveAll(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case roleProbe:
		if err := probe(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		os.Exit(m.Run())
	}
}

// serveAll serves HTTPS until stdin ends.
func serveAll(args []string) error {
	for ; len(args) >= 3; args = args[3:] {
		pair, err := tls.LoadX509KeyPair(args[1], args[2])
		if err != nil {
			return err
		}
		l, err := tls.Listen("tcp", args[0], &tls.Config{Certificates: []tls.Certificate{pair}})
		if err != nil {
			return err
		}
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer conn.Close()
					if _, err := conn.Read(make([]byte, 1024)); err == nil {
						_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
					}
				}()
			}
		}()
	}
	fmt.Println("up")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

func probe() error {
	var with map[string]any
	if err := json.NewDecoder(os.Stdin).Decode(&with); err != nil {
		return err
	}
	res, err := Probe{}.Run(context.Background(), install.Input{With: with})
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(res)
}

// command runs a program of iproute2 or nftables.
func command(t *testing.T, stdin, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// namespaces makes two networks joined by a cable: the client has 10.77.0.1, the
// servers 10.77.0.2 behind a firewall.
func namespaces(t *testing.T) (client, servers string) {
	t.Helper()
	id := os.Getpid() % 100000
	client, servers = fmt.Sprintf("alc%d", id), fmt.Sprintf("als%d", id)
	for _, ns := range []string{client, servers} {
		command(t, "", "ip", "netns", "add", ns)
		t.Cleanup(func() {
			if out, err := exec.Command("ip", "netns", "del", ns).CombinedOutput(); err != nil {
				t.Errorf("ip netns del %s: %v %s", ns, err, out)
			}
		})
	}
	command(t, "", "ip", "link", "add", "c0", "netns", client, "type", "veth", "peer", "name", "s0", "netns", servers)
	for _, end := range [][3]string{{client, "c0", "10.77.0.1/24"}, {servers, "s0", "10.77.0.2/24"}} {
		command(t, "", "ip", "-n", end[0], "addr", "add", end[2], "dev", end[1])
		command(t, "", "ip", "-n", end[0], "link", "set", end[1], "up")
		command(t, "", "ip", "-n", end[0], "link", "set", "lo", "up")
	}
	command(t, `
table inet airlock {
	chain input { type filter hook input priority 0; tcp dport 5001 drop; tcp dport 5002 reject with tcp reset; }
	chain proxy { type nat hook prerouting priority -100; tcp dport 444 redirect to :8443; }
}`, "ip", "netns", "exec", servers, "nft", "-f", "-")
	return client, servers
}

// TestNamespaces looks at real packets: dropped, refused, intercepted, without a
// route.
func TestNamespaces(t *testing.T) {
	client, servers := namespaces(t)
	root, proxy := pki.New(t, "Site A root"), pki.New(t, "Corporate proxy")
	cert, key := pki.Files(t, root.Server(t, []string{"10.77.0.2"}))
	pcert, pkey := pki.Files(t, proxy.Server(t, []string{"10.77.0.2"}))
	serve(t, servers, "10.77.0.2:443", cert, key, "10.77.0.2:444", cert, key, "10.77.0.2:5001", cert, key, "10.77.0.2:8443", pcert, pkey)
	flow := func(to, endpoint string) map[string]any {
		return map[string]any{"from": "server", "to": to, "endpoint": endpoint}
	}
	res := ask(t, client, map[string]any{
		"ca": root.File(t), "timeout": "2s",
		"flows": []any{
			flow("open", "https://10.77.0.2:443"), flow("dropped", "https://10.77.0.2:5001"), flow("rejected", "https://10.77.0.2:5002"),
			flow("unused", "https://10.77.0.2:5003"), flow("intercepted", "https://10.77.0.2:444"), flow("no route", "https://192.0.2.1:443"),
		},
		"deny": []any{"10.77.0.2:443", "10.77.0.2:5001", "192.0.2.1:443"},
	})
	got := map[string]string{}
	for _, f := range res.Findings {
		got[f.Fields["to"]+f.Code] = f.Fields["reason"] + f.Fields["issuer"]
	}
	for what, says := range map[string]string{
		"droppedNET-01": "timeout", "rejectedNET-01": "refused", "unusedNET-01": "refused", "interceptedNET-02": "Corporate proxy",
		"no routeNET-01": "no route", "NET-05": "a connection is made",
	} {
		if !strings.Contains(got[what], says) {
			t.Errorf("%s: %q, want %q", what, got[what], says)
		}
	}
	if len(res.Findings) != 6 {
		t.Errorf("%d findings: %+v", len(res.Findings), res.Findings)
	}
}

// serve runs this binary as servers inside a namespace.
func serve(t *testing.T, ns string, args ...string) {
	t.Helper()
	cmd := inside(t, ns, roleServe, args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Log(err)
		}
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "up\n" {
		t.Fatalf("the servers say %q, %v", line, err)
	}
}

func ask(t *testing.T, ns string, with map[string]any) install.Result {
	t.Helper()
	raw, err := json.Marshal(with)
	if err != nil {
		t.Fatal(err)
	}
	cmd := inside(t, ns, roleProbe)
	cmd.Stdin = strings.NewReader(string(raw))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var res install.Result
	if err := json.Unmarshal(out, &res); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return res
}

func inside(t *testing.T, ns, role string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("ip", append([]string{"netns", "exec", ns, self}, args...)...)
	cmd.Env, cmd.Stderr = append(os.Environ(), roleVar+"="+role), os.Stderr
	return cmd
}
