package remote

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAskHelper: nothing that a helper writes is repeated, whether it fails or
// answers nonsense, and what it knows is used.
func TestAskHelper(t *testing.T) {
	bin := t.TempDir()
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	for name, script := range map[string]string{
		"good":    `read host; echo "{\"Username\":\"u\",\"Secret\":\"$host\"}"; echo hunter2 >&2`,
		"token":   `echo '{"Username":"<token>","Secret":"t"}'`,
		"none":    `echo 'credentials not found in native keychain'; exit 1`,
		"fails":   `echo hunter2; echo hunter2 >&2; exit 3`,
		"babbles": `echo '{"Username": hunter2'`,
		"floods":  `head -c 3000000 /dev/zero`,
	} {
		if err := os.WriteFile(filepath.Join(bin, "docker-credential-"+name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	stderr := os.Stderr
	said, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	os.Stderr = said
	defer func() { os.Stderr = stderr }()
	for _, tt := range []struct {
		helper string
		want   Credential
		err    string
	}{
		{"good", Credential{Username: "u", Password: "h.test"}, ""},
		{"token", Credential{RefreshToken: "t"}, ""},
		{"none", Credential{}, ""},
		{"fails", Credential{}, "exit status 3; what it says is not shown, run docker-credential-fails get by hand"},
		{"babbles", Credential{}, "no JSON document"},
		{"floods", Credential{}, "no JSON document"},
		{"missing", Credential{}, "executable file not found"},
	} {
		got, err := place{helper: tt.helper}.ask(t.Context(), "h.test")
		if got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.helper, got, tt.want)
		}
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: error %v, want %q", tt.helper, err, tt.err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error repeats what the helper said: %v", tt.helper, err)
		}
	}
	if data, err := os.ReadFile(said.Name()); err != nil || len(data) > 0 {
		t.Errorf("stderr of helpers came through: %q, %v", data, err)
	}
}
