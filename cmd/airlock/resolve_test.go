package main

import "testing"

func TestSplitResolve(t *testing.T) {
	for in, want := range map[string][2]string{
		"a.test:10.0.0.1":         {"a.test", "10.0.0.1"},
		"a.test:443:10.0.0.1":     {"a.test:443", "10.0.0.1"},
		"a.test:10.0.0.1:8443":    {"a.test", "10.0.0.1:8443"},
		"a.test:443:10.0.0.1:84":  {"a.test:443", "10.0.0.1:84"},
		"a.test:[fd00::1]":        {"a.test", "fd00::1"},
		"a.test:443:[fd00::1]":    {"a.test:443", "fd00::1"},
		"a.test:443:[fd00::1]:84": {"a.test:443", "[fd00::1]:84"},
	} {
		if host, to, ok := splitResolve(in); !ok || host != want[0] || to != want[1] {
			t.Errorf("%s: %q, %q, %t; want %q", in, host, to, ok, want)
		}
	}
	for _, in := range []string{"", "a.test", ":10.0.0.1", "a.test:b.test", "a.test:fd00::1", "a.test:443", "a.test:10.0.0.1:", "a.test:[fd00::1", "a.test:10.0.0.1:99999"} {
		if host, to, ok := splitResolve(in); ok {
			t.Errorf("%q is taken as %q, %q", in, host, to)
		}
	}
}
