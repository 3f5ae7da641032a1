package mirror

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle/remote"
)

// Where nothing arrived the error lists every item, the first ones by name.
func TestNothingArrived(t *testing.T) {
	refusePut := func(w http.ResponseWriter, r *http.Request) bool {
		if isUpload(r, http.MethodPut) {
			answerWith(http.StatusForbidden, "DENIED")(w, r)
			return true
		}
		return false
	}
	refuseAll := func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	for name, fault := range map[string]func(http.ResponseWriter, *http.Request) bool{"while sending": refusePut, "before": refuseAll} {
		t.Run(name, func(t *testing.T) {
			reg := newOlareg(t, true)
			f := newFake(t)
			for i := range 12 {
				f.root(fmt.Sprintf("quay.io/a/x%02d:1", i), f.image(strconv.Itoa(i)))
			}
			reg.setFault(fault)
			o := options(t, reg)
			m, result, err := run(t.Context(), f, o)
			e := as[*FailedError](t, err)
			if len(e.Missing) != 12 || e.Missing[0] != o.To+"/a/x00:1" || e.Missing[11] != o.To+"/a/x11:1" || result.Pushed != 0 || len(m.Entries) != 0 {
				t.Errorf("%+v, %+v", e.Missing, result)
			}
			for _, want := range []string{o.To + "/a/x00:1", o.To + "/a/x09:1", "and 2 more"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "x10") {
				t.Errorf("error is not bounded: %v", err)
			}
		})
	}
}

// Nobody listens: the error says so and what is missing.
func TestNothingArrivedUnreachable(t *testing.T) {
	ts := httptest.NewServer(http.NotFoundHandler())
	ts.Close()
	f := newFake(t)
	f.root("quay.io/a/x:1", f.image("x"))
	o := options(t, &registry{host: strings.TrimPrefix(ts.URL, "http://")})
	_, _, err := runPaused(t.Context(), f, o)
	_ = as[*remote.UnreachableError](t, err)
	if e := as[*FailedError](t, err); len(e.Missing) != 1 {
		t.Errorf("missing %v", e.Missing)
	}
}
