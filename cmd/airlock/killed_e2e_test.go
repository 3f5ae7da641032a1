//go:build e2e

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
	"github.com/goccy/go-yaml"
)

// wrongPullSecret installs with a wrong password of the puller: the report says
// which pod and image, and that the registry does not know it. What never worked
// is removed again, and with the right password the next run repairs it.
func (e *box) wrongPullSecret(t *testing.T, f *fullRun) {
	t.Helper()
	const wrong = "password-of-nobody-at-all"
	f.secrets["wrong password of the puller"] = wrong
	login := func(password string) {
		t.Helper()
		f.answer(map[string]any{"pull.password": password})
		f.open()
		// What pulls with it is done again too.
		if f.run("image-pull-credentials", "install-ingress-controller"); f.item("image-pull-credentials").State != install.StatePass {
			t.Fatalf("image-pull-credentials: %+v", f.item("image-pull-credentials"))
		}
	}
	login(wrong)
	it := e.within(t, f, 40*time.Second, nil, "deploy-helm-chart")
	cannotPull(t, it, "401", "image-pull-credentials")
	if out := e.run(t, "helm", "list", "--all", "--short", "--namespace", namespace); out != "" {
		t.Errorf("left of what never worked: %s", out)
	}
	login(pullPassword)
	// It looks from a pod that uses the secret: a process that is killed meanwhile
	// would leave its Job for as long as the cluster keeps one.
	f.run("reach-from-cluster")
}

// cannotPull expects that a release failed because of its image, that the cause
// names pod, image and reason, and that the fix names the item.
func cannotPull(t *testing.T, it install.ItemReport, reason, item string) {
	t.Helper()
	i := slices.IndexFunc(it.Findings, func(f install.FindingReport) bool { return f.Code == "HELM-01" })
	if it.State != install.StateFail || i < 0 {
		t.Fatalf("got %s (%s): %+v", it.State, it.Reason, it.Findings)
	}
	for _, want := range []string{"pod spacelift-", boxRegistry + "/airlock/spacelift-backend:" + fullVersion + "@sha256:", reason} {
		if !strings.Contains(it.Findings[i].Cause, want) {
			t.Errorf("the cause lacks %q: %s", want, it.Findings[i].Cause)
		}
	}
	if !strings.Contains(it.Findings[i].Fix, item) {
		t.Errorf("fix: %s", it.Findings[i].Fix)
	}
}

// killed kills a process that installs in the middle of Helm's wait, looks at
// what it left, and has another finish it.
func (e *box) killed(t *testing.T, f *fullRun, b opened, pending string) {
	t.Helper()
	held, free := e.hold()
	defer free()
	cmd, said := e.installer(t, f, b, "--resume", "--phase", "1-4")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-held: // a pod pulls with the right password, and Helm waits for it
	case err := <-ended:
		t.Fatalf("the installation ended: %v: %s", err, said())
	case <-time.After(2 * time.Minute):
		_ = cmd.Process.Kill() // it may have ended just now; the test has failed already
		t.Fatalf("nothing is pulled: %s", said())
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Fatal("the killed installation ended in order")
	}
	if got := e.history(t); len(got) == 0 || !strings.HasSuffix(got[len(got)-1], " "+pending) {
		t.Fatalf("helm history after the kill: %q; %s", got, said())
	}
	before := e.ledger(t, f)
	if before.running != "deploy-helm-chart" {
		t.Errorf("killed in the middle of %q", before.running)
	}
	free()
	if out, said, code := e.install(t, f, b, "--resume", "--phase", "1-4"); code != exitDone && code != exitWaiting {
		t.Fatalf("--resume ends with code %d: %s%s", code, out, said)
	}
	after, actions := e.ledger(t, f), 0
	for _, it := range f.list.Items { // checks may look again
		if it.Kind != manifests.ItemAction && before.finished[it.ID] && after.started[it.ID] != before.started[it.ID] {
			t.Logf("%s looked again: %s", it.ID, after.stale[it.ID])
		}
		if it.Kind != manifests.ItemAction || !before.finished[it.ID] {
			continue
		}
		if actions++; after.started[it.ID] != before.started[it.ID] {
			t.Errorf("%s was finished and begun again", it.ID)
		}
	}
	if actions < 5 {
		t.Errorf("only %d actions were finished before", actions)
	}
	if _, err := install.VerifyState(f.opts.State, nil); err != nil {
		t.Errorf("the record: %v", err)
	}
	f.run("deploy-helm-chart")
	if it := f.item("deploy-helm-chart"); it.State != install.StatePass || !it.Reused {
		t.Errorf("after it: %s (%s), reused %t", it.State, it.Reason, it.Reused)
	}
}

// hold keeps pods from pulling the backend: held says that one tries, free lets
// them.
func (e *box) hold() (held <-chan struct{}, free func()) {
	at, gate := make(chan struct{}, 1), make(chan struct{})
	e.mu.Lock()
	e.held, e.gate = at, gate
	e.mu.Unlock()
	return at, sync.OnceFunc(func() {
		e.mu.Lock()
		e.held, e.gate = nil, nil
		e.mu.Unlock()
		close(gate)
	})
}

// wait makes a pull of the backend wait while it is held.
func (e *box) wait(r *http.Request, user string) {
	e.mu.Lock()
	held, gate := e.held, e.gate
	e.mu.Unlock()
	if gate == nil || user != "puller" || !strings.Contains(r.URL.Path, "spacelift-backend") {
		return
	}
	select {
	case held <- struct{}{}:
	default:
	}
	select {
	case <-gate:
	case <-r.Context().Done():
	}
}

// installer is airlock bundle install as a process of its own, as a person runs
// it, with what it has said so far.
func (e *box) installer(t *testing.T, f *fullRun, b opened, args ...string) (cmd *exec.Cmd, said func() string) {
	t.Helper()
	raw, err := yaml.Marshal(f.site)
	if err != nil {
		t.Fatal(err)
	}
	site := filepath.Join(f.opts.SiteDir, "site.yaml")
	if err := os.WriteFile(site, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	var text lockedText
	cmd = exec.CommandContext(t.Context(), os.Getenv("AIRLOCK_E2E_TOOL"), append([]string{"bundle", "install", b.path, "--policy", b.policy, "--site", site, "--state", f.opts.State}, args...)...)
	cmd.Env = append(os.Environ(), "AIRLOCK_KEY_PASSWORD=password-of-operator")
	cmd.Stderr = &text
	return cmd, text.String
}

// install runs it to its end.
func (e *box) install(t *testing.T, f *fullRun, b opened, args ...string) (out, said string, code int) {
	t.Helper()
	cmd, errors := e.installer(t, f, b, args...)
	raw, err := cmd.Output()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(raw), errors(), cmd.ProcessState.ExitCode()
}

// lockedText is a buffer that may be read while a process writes.
type lockedText struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// history is what the stock helm says of the release: "1 superseded 1.0.0".
func (e *box) history(t *testing.T) []string {
	t.Helper()
	var list []struct {
		Revision      int
		Status, Chart string
	}
	if err := json.Unmarshal([]byte(e.run(t, "helm", "history", "spacelift", "--namespace", namespace, "--output", "json")), &list); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range list {
		out = append(out, fmt.Sprintf("%d %s %s", r.Revision, strings.TrimPrefix(r.Chart, "spacelift-"), r.Status))
	}
	return out
}

// ledgerItems is what a ledger says of items.
type ledgerItems struct {
	started  map[string]int
	finished map[string]bool // passed, and nothing has come after it
	running  string
	stale    map[string]string // why it does not hold any more
}

func (e *box) ledger(t *testing.T, f *fullRun) ledgerItems {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(f.opts.State, "ledger.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	out := ledgerItems{started: map[string]int{}, finished: map[string]bool{}, stale: map[string]string{}}
	for line := range strings.Lines(string(raw)) {
		var entry install.Entry
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		switch entry.Event {
		case "started":
			out.started[entry.Item]++
			out.finished[entry.Item], out.running = false, entry.Item
		case "finished":
			out.finished[entry.Item], out.running = strings.Contains(string(entry.Data), `"status":"pass"`), ""
		case "stale":
			out.finished[entry.Item], out.stale[entry.Item] = false, string(entry.Data)
		}
	}
	return out
}
