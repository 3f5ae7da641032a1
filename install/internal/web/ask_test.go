package web

import (
	"strings"
	"testing"
)

func TestQuote(t *testing.T) {
	if got := Quote("bad \"hunter2\"\n\x1b[31mred\u009b", "hunter2", ""); got != `bad "[secret]" [31mred` {
		t.Errorf("%q", got)
	}
	if got := Quote(strings.Repeat("ä", 500)); len([]rune(got)) != maxQuoted+1 {
		t.Errorf("%d characters", len([]rune(got)))
	}
}

func TestAddress(t *testing.T) {
	for s, want := range map[string]bool{
		"https://a.example": true, "https://a.example:8443/x?y": true, "http://a.example": false, "https://u:p@a.example": false, "a.example": false, "": false,
	} {
		if err := Address(s, true); (err == nil) != want {
			t.Errorf("%q: %v", s, err)
		} else if err != nil && strings.Contains(err.Error(), "u:p") {
			t.Errorf("it quotes the password: %v", err)
		}
	}
	if err := Address("http://a.example", false); err != nil {
		t.Error(err)
	}
}
