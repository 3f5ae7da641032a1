package harbor

import "testing"

func TestCompile(t *testing.T) {
	tests := []struct {
		pattern, name string
		want          bool
	}{
		{"", "anything/at/all", true},
		{"**", "v1", true},
		{"**", "a/b/c", true},
		{"*", "v1", true},
		{"*", "a/b", false},
		{"v*", "v1.2.3", true},
		{"v*", "av1", false},
		{"v?", "v1", true},
		{"v?", "v12", false},
		{"v[0-9]", "v7", true},
		{"v[^0-9]", "v7", false},
		{"v[!0-9]", "vx", true},
		{"[^a]", "/", false},
		{"web/**", "web", true},
		{"web/**", "web/a/b", true},
		{"web/**", "website", false},
		{"**/web", "web", true},
		{"**/web", "a/b/web", true},
		{"a/**/z", "a/z", true},
		{"a/**/z", "a/b/c/z", true},
		{"a**z", "abcz", true},
		{"a**z", "a/z", false},
		{"{dev,test}-*", "test-1", true},
		{"{dev,test}-*", "prod-1", false},
		{"{a,b{c,d}}", "bd", true},
		{`v\*`, "v*", true},
		{`v\*`, "v1", false},
		{"v1.2", "v1x2", false},
		{"a,b", "a,b", true},
	}
	for _, tt := range tests {
		re, err := compile(tt.pattern)
		if err != nil {
			t.Errorf("compile(%q): %v", tt.pattern, err)
			continue
		}
		if got := re.MatchString(tt.name); got != tt.want {
			t.Errorf("%q takes %q: %t", tt.pattern, tt.name, got)
		}
	}
	for _, p := range []string{"[", "[]", "[z-a]", "{a", `a\`, "[a-", "\xff", string(make([]byte, maxPattern+1))} {
		if _, err := compile(p); err == nil {
			t.Errorf("compile takes %q", p)
		}
		if !(selector{Kind: "doublestar", Decoration: "matches", Pattern: p}).takes("v1") {
			t.Errorf("a selector with pattern %q keeps quiet", p)
		}
	}
}

func FuzzCompile(f *testing.F) {
	for _, p := range []string{"**", "v*", "{a,b}", "[a-z]", "[^/]", `\*`, "a/**/b", "{,}", "[--9]", "{**/x,y}"} {
		f.Add(p, "v1")
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		re, err := compile(pattern)
		if err != nil {
			return
		}
		if re.MatchString(name) && pattern == "*" && len(name) > 0 && name[0] == '/' {
			t.Errorf("'*' crosses a slash in %q", name)
		}
		// Without special characters a pattern is the name itself.
		if regexpFree(pattern) && pattern != "" && (!re.MatchString(pattern) || name != pattern && re.MatchString(name)) {
			t.Errorf("literal pattern %q: takes itself %t, takes %q %t", pattern, re.MatchString(pattern), name, re.MatchString(name))
		}
	})
}

func regexpFree(s string) bool {
	for _, r := range s {
		switch r {
		case '*', '?', '[', '{', '}', '\\':
			return false
		}
	}
	return true
}
