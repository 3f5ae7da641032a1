package helm

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/kube"
)

// workload is one that is not ready.
type workload struct {
	Name        string // Deployment spacelift/server
	Ready, Want int
	Reason      string // where no pod says more
	Pods        []kube.Reason
}

const (
	// lookTime bounds the search for reasons.
	lookTime = 30 * time.Second
	// maxFindings bounds what is told of one release.
	maxFindings = 10
)

// notEnded is what there is to say of work whose time is up: Helm has no word on
// what it waited for.
const notEnded = "not all of it was done in the time it had"

// said is an error of Helm in a person's words: with the server's name where that
// gave no answer, and without the list of one that Helm makes of an error.
func (s *session) said(err error) string {
	if s.explain != nil && !errors.Is(err, context.DeadlineExceeded) {
		explained := s.explain(err)
		_, down := errors.AsType[*kube.UnreachableError](explained)
		_, out := errors.AsType[*kube.UnauthorizedError](explained)
		if down || out {
			return explained.Error()
		}
	}
	return strings.NewReplacer("1 error occurred:\n\t* ", "", "timed out waiting for the condition", notEnded,
		context.DeadlineExceeded.Error(), notEnded, "\n\n", "").Replace(err.Error())
}

// unanswered says how the API server fails to answer, to be added to what is told;
// "" if it does answer. It takes half of the time that is left.
func (s *session) unanswered(ctx context.Context, namespace string) string {
	most := lookTime
	if deadline, ok := ctx.Deadline(); ok {
		most = min(most, time.Until(deadline)/2)
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	if _, err := s.cluster.namespace(ctx, namespace, false); err != nil {
		return "; " + err.Error()
	}
	return ""
}

// reasons says why the release is not ready. What Helm said goes along, and is
// all there is where no workload explains it.
func (j *job) reasons(ctx context.Context, s *session, said string) []install.Finding {
	look, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	list, err := s.cluster.unready(look, j.p.refs(stage(j.p.objects, func(s chart.Stage) bool { return s != chart.StageCRD })))
	if err != nil {
		said += "; its workloads cannot be looked at: " + kube.Clean(err.Error())
	}
	var out []install.Finding
	var told []string
	for _, w := range list {
		for _, f := range w.findings(j.a.Release, j.a.Classes) {
			// Replicas fail alike.
			alike := strings.Join([]string{f.Code, f.Fields["workload"], f.Fields["container"], f.Fields["image"]}, " ")
			if !slices.Contains(told, alike) && len(out) < maxFindings {
				told, out = append(told, alike), append(out, f)
			}
		}
	}
	if len(out) == 0 {
		return []install.Finding{{Code: codeUnready, Detail: said, Fields: map[string]string{
			"release": j.a.Release, "workload": "release " + j.a.Release, "ready": "not all", "want": "all", "reason": said,
		}}}
	}
	return append(out, install.Finding{Severity: install.SeverityInfo, Detail: said})
}

// findings are a workload's reasons under their codes.
func (w workload) findings(release string, causes kube.Causes) []install.Finding {
	if len(w.Pods) == 0 {
		return []install.Finding{w.unready(release, w.Reason, w.Name+": "+w.Reason)}
	}
	var out []install.Finding
	for _, r := range w.Pods {
		detail := r.String()
		if len(r.Events) > 0 {
			detail += "\nevents:\n  " + strings.Join(r.Events, "\n  ")
		}
		reason := r.Reason
		if r.Message != "" {
			reason += ": " + r.Message
		}
		if len(r.Log) > 0 {
			detail += "\nlog:\n  " + strings.Join(r.Log, "\n  ")
			reason += ": " + r.Log[len(r.Log)-1]
			if kind, text := causes.Ended(r); kind != "" {
				reason = text
			}
		}
		code := map[kube.Class]string{kube.ClassPull: codePull, kube.ClassConfig: codeConfig, kube.ClassCrash: codeCrash}[r.Class]
		if code == "" {
			out = append(out, w.unready(release, reason, detail))
			continue
		}
		f := install.Finding{Code: code, Detail: detail, Fields: map[string]string{
			"release": release, "workload": w.Name, "pod": r.Pod, "container": r.Container, "reason": reason,
		}}
		if code == codePull {
			f.Fields["image"] = r.Image
		}
		out = append(out, f)
	}
	return out
}

func (w workload) unready(release, reason, detail string) install.Finding {
	return install.Finding{Code: codeUnready, Detail: detail, Fields: map[string]string{
		"release": release, "workload": w.Name, "ready": strconv.Itoa(w.Ready), "want": strconv.Itoa(w.Want), "reason": reason,
	}}
}
