package gql

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/testdata/spacelift"
)

const (
	token  = "eyJ.hunter2-token.sig"
	secret = "hunter2-key-secret"
)

// client asks a server whose answers to everything but the login are h's.
func client(t *testing.T, until int64, h http.HandlerFunc) (*Client, *int) {
	t.Helper()
	logins := 0
	mux := http.NewServeMux()
	mux.HandleFunc("POST /graphql", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			logins++
			fmt.Fprintf(w, `{"data":{"login":{"jwt":%q,"until":%d}}}`, token, until)
			return
		}
		h(w, r)
	})
	url, ca, _ := spacelift.TLS(t, mux)
	c, err := New(Config{
		URL: url + "/graphql", CA: ca, KeyID: "01KEY", KeySecret: secret,
		Login: &Login{Query: "mutation L($id: ID!, $secret: String!) { login }", Token: "login.jwt", Expires: "login.until"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.HTTP.CloseIdleConnections)
	return c, &logins
}

func TestAnswers(t *testing.T) {
	later := time.Now().Add(time.Hour).Unix()
	long := strings.Repeat("x", 5000)
	for name, c := range map[string]struct {
		answer     http.HandlerFunc
		code, says string
	}{
		"good": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"data":{"a":1}}`) }, "", ""},
		"errors that echo": {func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, `{"errors":[{"message":"bad header %s and %s"},{"message":"b"},{"message":"c"},{"message":"d"}],"data":{}}`, r.Header.Get("Authorization"), secret)
		}, CodeRefused, "bad header Bearer [secret] and [secret]; b; c; and 1 more"},
		"a long error": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"errors":[{"message":%q}]}`, long) }, CodeRefused, "…"},
		"a page":       {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>"+secret) }, CodeAnswer, "in place of JSON"},
		"no data":      {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{}`) }, CodeAnswer, "without data"},
		"null":         {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `null`) }, CodeAnswer, "without data"},
		"too large":    {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, MaxAnswer+1)) }, CodeAnswer, "larger than"},
		"sent elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.invalid/", http.StatusTemporaryRedirect)
		}, CodeAnswer, "status 307"},
		"status and JSON":     {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500); fmt.Fprint(w, `{"data":{"a":1}}`) }, CodeAnswer, "status 500"},
		"a closed connection": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, CodeAnswer, ""},
	} {
		cl, _ := client(t, later, c.answer)
		data, err := cl.Do(t.Context(), "{ a }", nil)
		if c.code == "" {
			if err != nil || data["a"] == nil {
				t.Errorf("%s: %v, %v", name, data, err)
			}
			continue
		}
		f, ok := cl.Finding(err)
		if !ok || f.Code != c.code || !strings.Contains(f.Detail, c.says) || len(f.Detail) > 1000 || strings.Contains(fmt.Sprint(f), "hunter2") {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
}

// TestToken shows when a token is used again and when a new one is got.
func TestToken(t *testing.T) {
	good := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"data":{"a":1}}`) }
	at := time.Unix(1_800_000_000, 0)
	c, logins := client(t, at.Add(time.Hour).Unix(), good)
	c.now = func() time.Time { return at }
	ask := func(want int) {
		t.Helper()
		if _, err := c.Do(t.Context(), "{ a }", nil); err != nil || *logins != want {
			t.Errorf("%d logins, want %d: %v", *logins, want, err)
		}
	}
	ask(1)
	ask(1)
	at = at.Add(59*time.Minute - time.Second)
	ask(1)
	at = at.Add(2 * time.Second)
	ask(2)
	c.Forget()
	ask(3)

	// A server that takes no token is asked twice, not for ever.
	asked := 0
	c, logins = client(t, time.Now().Add(time.Hour).Unix(), func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"errors":[{"message":"unauthorized"}]}`)
	})
	for range 2 {
		if _, err := c.Do(t.Context(), "{ a }", nil); err == nil {
			t.Error("refused, and no error")
		}
	}
	if *logins != 2 || asked != 3 {
		t.Errorf("%d logins and %d questions, want 2 and 3", *logins, asked)
	}
}

func TestContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c, _ := client(t, 0, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then does the server see that the client is gone
		cancel()
		<-r.Context().Done()
	})
	if _, err := c.Do(ctx, "{ a }", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
