package sdk

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestDoer(t *testing.T) {
	var asked string
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Path
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "/there", http.StatusFound)
			return
		}
		_, _ = io.WriteString(w, strings.Repeat("x", 100)) // a client that left is no concern of ours
	}))
	defer ts.Close()
	refuse := &http.Client{Transport: &http.Transport{Proxy: func(*http.Request) (*url.URL, error) { return nil, io.ErrClosedPipe }}}
	d := &Doer{Client: refuse, Metadata: MetadataClient(), MaxAnswer: 10}
	get := func(address string) (*http.Response, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		return d.Do(req)
	}
	resp, err := get(ts.URL + "/x")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || len(raw) != 10 || d.Failure() != nil {
		t.Errorf("read %d bytes, %v, failure %v", len(raw), err, d.Failure())
	}
	if resp, err = get(ts.URL + "/away"); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusFound || asked != "/away" {
		t.Errorf("status %d, last asked %q", resp.StatusCode, asked)
	}
	if resp, err = get("http://api.test/"); err == nil {
		resp.Body.Close()
		t.Error("a request to another host went past its client")
	}
	if d.Failure() == nil {
		t.Error("the failure is not kept")
	}
}

func TestLocal(t *testing.T) {
	for name, want := range map[string]bool{
		"localhost": true, "LOCALHOST": true, "127.0.0.1": true, "::1": true, "169.254.169.254": true, "fe80::1": true,
		"10.0.0.1": false, "localhost.test": false, "api.test": false, "": false, "fd00:ec2::254": false,
	} {
		if Local(name) != want {
			t.Errorf("Local(%q) = %v", name, !want)
		}
	}
}

func TestQuoteSome(t *testing.T) {
	for want, names := range map[string][]string{
		"": nil, `"a"`: {"a"}, `"a", "b", "c"`: {"a", "b", "c"}, `"a", "b", "c" and 2 more`: {"a", "b", "c", "d", "e"},
	} {
		if got := QuoteSome(names); got != want {
			t.Errorf("QuoteSome(%q) = %s, want %s", names, got, want)
		}
	}
}
