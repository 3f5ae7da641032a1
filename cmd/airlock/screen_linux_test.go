package main

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
)

// TestScreen shows a checklist on a terminal, with words in between, which end
// the bars that were drawn before.
func TestScreen(t *testing.T) {
	master, slave := pseudoTerminal(t)
	var mu sync.Mutex
	var seen bytes.Buffer
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			mu.Lock()
			seen.Write(buf[:n])
			mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	a := &app{stdin: strings.NewReader(""), stdout: &bytes.Buffer{}, stderr: slave, output: "text"}
	listen := a.installEvents()
	a.say("state %s", "here")
	listen(install.Event{Op: "run-started", Items: 2})
	listen(install.Event{Op: "item-started", Phase: 1, Item: "a", Title: "first thing"})
	a.warn("the registry is slow")
	listen(install.Event{Op: "step-planned", Phase: 1, Item: "a", Title: "first thing", Plan: &install.Change{Summary: "upgrade it", Details: []string{"change its colour"}}})
	listen(install.Event{Op: "item-finished", Phase: 1, Item: "a", Title: "first thing", State: install.StatePass, Started: true})
	listen(install.Event{Op: "item-started", Phase: 1, Item: "b", Title: "second thing"})
	listen(install.Event{Op: "item-finished", Phase: 1, Item: "b", Title: "second thing", State: install.StateFail, Text: "why", Started: true})
	a.progressDone()
	a.say("end of it")
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		mu.Lock()
		text := seen.String()
		mu.Unlock()
		if strings.Contains(text, "end of it") {
			for _, want := range []string{"state here", "the registry is slow", "first thing", "first thing: upgrade it", "change its colour", "second thing: why"} {
				if !strings.Contains(text, want) {
					t.Errorf("the terminal lacks %q:\n%q", want, text)
				}
			}
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the terminal shows %q", text)
		}
	}
}
