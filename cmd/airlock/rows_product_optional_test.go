package main

import (
	"maps"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/spacelift"
)

func TestRowSlack(t *testing.T) {
	all := map[string]any{"hosts.server": "spacelift.site-a.example", "slack.client_id": "1.2", "slack.client_secret": "slack-client-secret", "slack.signing_secret": "slack-signing-secret"}
	half := maps.Clone(all)
	delete(half, "slack.signing_secret")
	runRows(t, "slack-integration", nil, []row{
		{name: "partial", airgap: "partial", inputs: all, want: install.StateWaiting},
		{name: "half set", airgap: "partial", inputs: half, want: install.StateFail, code: "SLK-01", says: []string{"slack.signing_secret", "SLACK_SECRET"}},
		{name: "none set", airgap: "partial", inputs: map[string]any{"hosts.server": "spacelift.site-a.example"}, want: install.StateFail, code: "SLK-01", says: []string{"slack.client_id"}},
	})
	got := runRow(t, row{item: "slack-integration", inputs: all, want: install.StateSkipped})
	if !strings.Contains(got.Reason, "Slack calls the server from the public Internet") {
		t.Errorf("it is skipped because %q", got.Reason)
	}
}

func TestRowUsage(t *testing.T) {
	s, weak := spacelift.Start(t, spacelift.Options{}), spacelift.Start(t, spacelift.Options{NoAdmin: true})
	broken := spacelift.Start(t, spacelift.Options{BrokenMetrics: true})
	days := func(more map[string]any) map[string]any {
		in := map[string]any{"usage.from": "2026-01-01", "usage.until": "2026-01-20"}
		maps.Copy(in, more)
		return in
	}
	runRows(t, "usage-reporting", s, []row{
		{name: "good", inputs: at(s, days(nil)), want: install.StatePass},
		{name: "by hand", inputs: at(s, map[string]any{"usage.method": "manual"}), want: install.StatePass},
		{name: "no admin", inputs: at(weak, days(nil)), want: install.StateFail, code: "USG-01", says: []string{"403", apiKeyID, "admin key"}},
		{name: "public API", inputs: at(s, days(map[string]any{"usage.public_api": "https://app.spacelift.io"})), want: install.StateFail, code: "USG-02", says: []string{"https://app.spacelift.io", "SPACELIFT_PUBLIC_API"}},
		{name: "automatic", inputs: at(s, map[string]any{"usage.method": "automatic"}), want: install.StateFail, code: "USG-02", says: []string{"isolated"}},
		{name: "not JSON", inputs: at(broken, days(nil)), want: install.StateFail, code: "USG-05", says: []string{"not JSON"}},
		{name: "no start", inputs: at(s, nil), want: install.StateFail, code: "USG-06", says: []string{"usage.from"}},
		{name: "bad key", inputs: at(s, days(map[string]any{"api.key_secret": "of-somebody-else"})), want: install.StateFail, code: "GQL-02", says: []string{apiKeyID}},
	})
	runRows(t, "hand-over-usage-data", nil, []row{
		{name: "waiting", inputs: nil, want: install.StateWaiting},
		{name: "automatic", airgap: "partial", inputs: map[string]any{"usage.method": "automatic"}, want: install.StateSkipped},
	})
}
