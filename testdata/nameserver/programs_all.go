//go:build all

package nameserver

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A TSIG key that Named knows.
const (
	KeyName   = "airlock"
	KeySecret = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ="
)

// freePort is a port of 127.0.0.1 that is free for UDP and TCP.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = p.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// Named runs BIND as the primary of a zone that the key Key may update; names
// below denied are refused. records are lines of the zone file.
func Named(t testing.TB, zone string, records ...string) (address string) {
	t.Helper()
	dir, port := t.TempDir(), freePort(t)
	conf := fmt.Sprintf(`
options {
	directory %[1]q; pid-file none; session-keyfile none; managed-keys-directory %[1]q; bindkeys-file "/dev/null";
	listen-on port %[2]s { 127.0.0.1; }; listen-on-v6 { none; };
	recursion no; dnssec-validation no; allow-transfer { none; }; notify no;
};
controls { };
key %[4]q { algorithm hmac-sha256; secret %[5]q; };
zone %[3]q { type primary; file "zone"; update-policy { deny %[4]q subdomain denied.%[3]s; grant %[4]q subdomain %[3]s A AAAA CNAME; }; };
`, dir, port, zone, KeyName, KeySecret)
	soa := fmt.Sprintf("$TTL 300\n@ SOA ns.%[1]s. hostmaster.%[1]s. 1 3600 600 86400 60\n@ NS ns.%[1]s.\nns.%[1]s. A 127.0.0.1\n", zone)
	for name, text := range map[string]string{"named.conf": conf, "zone": soa + strings.Join(records, "\n") + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "all zones loaded", "named", "-g", "-c", filepath.Join(dir, "named.conf"), "-n", "1")
	return "127.0.0.1:" + port
}

// Dnsmasq runs dnsmasq as a resolver that forwards to upstream (host:port) and
// answers the hosts given (name/address) itself.
func Dnsmasq(t testing.TB, upstream string, hosts ...string) (address string) {
	t.Helper()
	port := freePort(t)
	host, up, err := net.SplitHostPort(upstream)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{
		"--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root", "--log-facility=-", "--pid-file",
		"--listen-address=127.0.0.1", "--bind-interfaces", "--port=" + port, "--server=" + host + "#" + up,
	}
	for _, h := range hosts {
		args = append(args, "--address=/"+h)
	}
	run(t, "using nameserver", "dnsmasq", args...)
	return "127.0.0.1:" + port
}

// run starts a program and waits until it says that it is up.
func run(t testing.TB, up string, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	started, ended := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		var log strings.Builder
		for s := bufio.NewScanner(r); s.Scan(); {
			log.WriteString(s.Text() + "\n")
			if strings.Contains(s.Text(), up) {
				select {
				case started <- "":
				default:
				}
			}
		}
		select {
		case started <- log.String():
		default:
		}
	}()
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed
		_ = w.Close()
		close(exited)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
		<-ended
	})
	if log := <-started; log != "" {
		t.Fatalf("%s does not start:\n%s", name, log)
	}
}
