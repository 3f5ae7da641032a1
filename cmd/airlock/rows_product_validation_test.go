package main

import (
	"net/http"
	"slices"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/spacelift"
)

func TestRowVerifyUI(t *testing.T) {
	const uploads = "https://uploads.site-a.example"
	good := spacelift.Start(t, spacelift.Options{Uploads: uploads})
	start := func(o spacelift.Options) *spacelift.Server { return spacelift.Start(t, o) }
	down, nowhere := start(spacelift.Options{Status: http.StatusBadGateway}), start(spacelift.Options{Status: http.StatusNotFound})
	old, mixed := start(spacelift.Options{Version: "4.2.0"}), start(spacelift.Options{Issuer: "https://other.example"})
	away, noKey := start(spacelift.Options{Away: "https://elsewhere.example/"}), map[string]any{"api.key_id": nil, "api.key_secret": nil}
	runRows(t, "verify-ui-loads", good, []row{
		{name: "good", inputs: at(good, nil), given: map[string]any{"storage.uploads_url": uploads}, want: install.StatePass},
		{name: "without a key", inputs: at(good, noKey), want: install.StatePass},
		{name: "502", inputs: at(down, nil), want: install.StateFail, code: "UI-01", says: []string{down.URL, "502", "spacelift-server"}},
		{name: "404", inputs: at(nowhere, nil), want: install.StateFail, code: "UI-02", says: []string{nowhere.URL, "Ingress"}},
		{name: "version", inputs: at(old, nil), want: install.StateFail, code: "UI-03", says: []string{"4.2.0", "v4.3.0"}},
		{name: "issuer", inputs: at(mixed, nil), want: install.StateFail, code: "UI-04", says: []string{"https://other.example", mixed.URL, "SERVER_DOMAIN"}},
		{name: "uploads", inputs: at(old, nil), given: map[string]any{"storage.uploads_url": uploads}, want: install.StateFail, code: "UI-05", says: []string{uploads, "OBJECT_STORAGE_BUCKET_UPLOADS_URL"}},
		{name: "another host", inputs: at(away, nil), want: install.StateFail, code: "HTTP-01", says: []string{"elsewhere.example", "redirect"}},
		{name: "unknown CA", inputs: at(good, map[string]any{"tls.ca_file": nil}), want: install.StateFail, code: "HTTP-05", says: []string{good.URL, "tls.ca_file"}},
	})
}

func TestRowWorkersConnect(t *testing.T) {
	pool := func(workers ...spacelift.Worker) (*spacelift.Server, map[string]any) {
		s := spacelift.Start(t, spacelift.Options{Workers: func(int) []spacelift.Worker { return workers }})
		return s, map[string]any{"pool.id": s.AddPool("enclave")}
	}
	quick := map[string]any{"pool.steady": "20ms", "pool.poll": "5ms"}
	good, goodID := pool(spacelift.Worker{ID: "a"})
	none, noneID := pool()
	drained, drainedID := pool(spacelift.Worker{ID: "a", Drained: true})
	busy, busyID := pool(spacelift.Worker{ID: "a", Busy: true})
	flap := spacelift.Start(t, spacelift.Options{Workers: func(asked int) []spacelift.Worker {
		if asked > 2 {
			return nil
		}
		return []spacelift.Worker{{ID: "a"}}
	}})
	flapID := map[string]any{"pool.id": flap.AddPool("enclave")}
	runRows(t, "verify-workers-connect", good, []row{
		{name: "good", inputs: at(good, quick), given: goodID, want: install.StatePass},
		{name: "none", inputs: at(none, quick), given: noneID, want: install.StateFail, code: "WK-01", says: []string{"0 workers", "MQTT broker"}},
		{name: "too few", inputs: at(good, map[string]any{"pool.size": 3, "pool.steady": "5ms", "pool.poll": "5ms"}), given: goodID, want: install.StateFail, code: "WK-01", says: []string{"at least 3"}},
		{name: "drained", inputs: at(drained, quick), given: drainedID, want: install.StateFail, code: "WK-02", says: []string{"0 are not drained"}},
		{name: "no idle one", inputs: at(busy, quick), given: busyID, want: install.StateFail, code: "WK-04", says: []string{"0 are idle", "pool.size"}},
		{name: "flapping", inputs: at(flap, map[string]any{"pool.steady": "10m", "pool.poll": "1ms"}), given: flapID, want: install.StateFail, code: "WK-03", says: []string{"came and went", "idle timeout"}},
		{name: "502", inputs: at(spacelift.Start(t, spacelift.Options{Status: http.StatusBadGateway}), quick), given: goodID, want: install.StateFail, code: "GQL-01", says: []string{"502"}},
	})
}

func TestRowTestStack(t *testing.T) {
	s, unknown := spacelift.Start(t, spacelift.Options{}), spacelift.Start(t, spacelift.Options{UnknownVCS: true})
	given := map[string]any{"relocation.map": relocated(), "pool.id": "pool-1"}
	integrated := map[string]any{"relocation.map": relocated(), "pool.id": "pool-1", "vcs.integration_id": "enclave"}
	repo := map[string]any{"validation.repository": "infra/validation", "validation.repository_url": "https://vcs.site-a.example/infra/validation.git"}
	gitlab := map[string]any{"validation.repository": "infra/validation", "validation.stack": "by-gitlab", "vcs.type": "gitlab"}
	runRows(t, "create-test-stack", s, []row{
		{name: "good", inputs: at(s, repo), given: given, want: install.StatePass},
		{name: "again", inputs: at(s, repo), given: given, want: install.StatePass},
		{name: "gitlab", inputs: at(s, gitlab), given: integrated, want: install.StatePass},
		{name: "unknown repository", inputs: at(unknown, repo), given: given, want: install.StateFail, code: "STK-01", says: []string{"infra/validation not found", "validation.branch"}},
		{name: "no repository", inputs: at(s, nil), given: given, want: install.StateFail, code: "STK-02", says: []string{"validation.repository is missing", "terraform_data"}},
		{name: "another pool", inputs: at(s, repo), given: map[string]any{"relocation.map": relocated(), "pool.id": "pool-2"}, want: install.StateFail, code: "STK-03", says: []string{"pool-1", "pool-2"}},
		{name: "bad key", inputs: at(s, map[string]any{"validation.repository": "a/b", "validation.repository_url": "https://vcs.site-a.example/a/b", "api.key_id": "01OTHER"}), given: given, want: install.StateFail, code: "GQL-02", says: []string{"01OTHER"}},
	})
	if n := s.Calls("stackCreate"); n != 2 {
		t.Errorf("stacks were made %d times, want 2", n)
	}
}

func TestRowTriggerRun(t *testing.T) {
	quick := map[string]any{"validation.poll": "1ms", "validation.run_within": "100ms"}
	for _, c := range []struct {
		name   string
		o      spacelift.Options
		want   install.State
		code   string
		says   []string
		within string
	}{
		{name: "good", want: install.StatePass, within: "1m"},
		{name: "slow", o: spacelift.Options{Script: slices.Concat(slices.Repeat([]string{"QUEUED"}, 30), []string{"PREPARING", "FINISHED"})}, want: install.StatePass, within: "1m"},
		{name: "no worker", o: spacelift.Options{Script: []string{"QUEUED"}}, want: install.StateFail, code: "RUN-01", says: []string{"still QUEUED after 100ms", "no idle worker"}},
		{name: "no image", o: spacelift.Options{Script: []string{"QUEUED", "PREPARING"}}, want: install.StateFail, code: "RUN-02", says: []string{"PREPARING", "pulling"}},
		{name: "download", o: spacelift.Options{Script: []string{"QUEUED", "PREPARING", "INITIALIZING", "FAILED"}}, want: install.StateFail, code: "RUN-03", says: []string{"FAILED in INITIALIZING", "exit status 1", ".tofurc"}},
		{name: "no logs", o: spacelift.Options{NoLogs: true}, want: install.StateFail, code: "RUN-04", says: []string{"exists is false", "presigned"}, within: "1m"},
		{name: "stuck elsewhere", o: spacelift.Options{Script: []string{"PLANNING"}}, want: install.StateFail, code: "RUN-06", says: []string{"PLANNING", "validation.run_within"}},
		{name: "failed elsewhere", o: spacelift.Options{Script: []string{"QUEUED", "PLANNING", "FAILED"}}, want: install.StateFail, code: "RUN-07", says: []string{"FAILED in PLANNING"}},
	} {
		s := spacelift.Start(t, c.o)
		in := at(s, quick)
		in["validation.run_within"] = orDefault(c.within, "100ms")
		given := map[string]any{"test.stack_id": s.AddStack("airlock-validation", "pool-1")}
		runRows(t, "trigger-run", s, []row{{name: c.name, inputs: in, given: given, want: c.want, code: c.code, says: c.says}})
		if c.name == "good" {
			// A run of today is proof enough: no second one.
			runRows(t, "trigger-run", s, []row{{name: "again", inputs: in, given: given, want: install.StatePass}})
			if n := s.Calls("runTrigger"); n != 1 {
				t.Errorf("%d runs were started, want 1", n)
			}
		}
	}
	s := spacelift.Start(t, spacelift.Options{})
	runRows(t, "trigger-run", s, []row{{
		name: "no stack", inputs: at(s, quick), given: map[string]any{"test.stack_id": "gone"}, want: install.StateFail, code: "RUN-05", says: []string{"stack not found", "locked"},
	}})
}
