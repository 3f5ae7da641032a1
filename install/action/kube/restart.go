package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/airlock-project/airlock/install"
	cluster "github.com/airlock-project/airlock/install/internal/kube"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// codeRollout is a restart that does not come to an end.
const codeRollout = "RST-01"

const defaultRollout = 10 * time.Minute

// Restart is the action k8s.restart: deployments whose pods run with older
// content of their Secrets get new pods, in the order in which they are named.
// Each has to be up before the next one's turn, so that settings which the first
// does not start with leave the others as they are. Where no pod is older,
// nothing happens. Its zero value is ready and safe for concurrent use.
type Restart struct{}

type restartArguments struct {
	cluster.Access
	Namespace   string   `json:"namespace"`
	Deployments []string `json:"deployments"`
	Optional    []string `json:"optional"` // further ones, that need not be there
	Secrets     []string `json:"secrets"`  // default: those that a deployment's environment comes from
	Wait        string   `json:"wait"`     // for all new pods; default 10m

	Classes cluster.Causes `json:"classes"` // what a crash is, by the log; the first that matches counts
}

// Codes implements install.Coder.
func (Restart) Codes() map[string][]string {
	return cluster.General(map[string][]string{codeRollout: {"namespace", "workload", "pod", "image", "ready", "want", "reason"}})
}

// restarting is one run.
type restarting struct {
	restartArguments
	*cluster.Client
	wait time.Duration
}

// due is a deployment and whether its pods have to be made anew.
type due struct {
	name   string
	reason string // "" if they need not
	mark   string // what the pods then started with
}

func beginRestart(ctx context.Context, in install.Input) (*restarting, error) {
	w := &restarting{wait: defaultRollout}
	if err := in.Decode(&w.restartArguments); err != nil {
		return w, err
	}
	if w.Namespace == "" || len(w.Deployments) == 0 {
		return w, errors.New("want a namespace and deployments")
	}
	if w.Wait != "" {
		d, err := time.ParseDuration(w.Wait)
		if err != nil || d <= 0 {
			return w, fmt.Errorf("wait %q is not a duration such as 10m", w.Wait)
		}
		w.wait = d
	}
	// A part of the step's time is for saying why it was not enough.
	if deadline, ok := ctx.Deadline(); ok {
		w.wait = min(w.wait, time.Until(deadline)*3/4)
	}
	var err error
	w.Client, err = w.Open(ctx)
	return w, err
}

// Plan names the deployments that would be restarted, and why.
func (Restart) Plan(ctx context.Context, in install.Input) (install.Change, error) {
	w, err := beginRestart(ctx, in)
	if err != nil {
		return install.Change{}, err
	}
	list, missing, err := w.survey(ctx)
	if err != nil {
		return install.Change{}, err
	}
	return w.change(list, missing), nil
}

// survey looks at all deployments, in order. missing are those that have to be
// there and are not.
func (w *restarting) survey(ctx context.Context) (list []due, missing []string, err error) {
	for i, name := range slices.Concat(w.Deployments, w.Optional) {
		d, err := w.look(ctx, name)
		switch {
		case apierrors.IsNotFound(err) && i < len(w.Deployments):
			missing = append(missing, name)
		case apierrors.IsNotFound(err):
		case err != nil:
			return nil, nil, err
		default:
			list = append(list, d)
		}
	}
	return list, missing, nil
}

// change is what a survey comes to, for people.
func (w *restarting) change(list []due, missing []string) install.Change {
	c := install.Change{Summary: "no pod runs with older secrets"}
	for _, name := range missing {
		c.Details = append(c.Details, "there is no deployment "+name+" yet")
	}
	for _, d := range list {
		if d.reason != "" {
			c.Details = append(c.Details, "restart deployment "+d.name+": "+d.reason)
		}
	}
	if c.Nothing = len(c.Details) == 0; !c.Nothing {
		c.Summary = "restart deployments of " + w.Namespace
	}
	return c
}

// Apply restarts those that need it, each when the one before is up, and waits
// until all are.
func (Restart) Apply(ctx context.Context, in install.Input) (install.Result, error) {
	w, err := beginRestart(ctx, in)
	if err != nil {
		return w.failed(err)
	}
	list, missing, err := w.survey(ctx)
	if err != nil {
		return w.failed(err)
	}
	var res install.Result
	for _, name := range missing {
		res.Findings = append(res.Findings, w.Report(codeRollout, "there is no deployment "+name+" in "+w.Namespace, map[string]string{
			"namespace": w.Namespace, "workload": name, "ready": "0", "want": "1",
		}))
	}
	if len(missing) > 0 {
		return res, nil
	}
	if c := w.change(list, nil); !c.Nothing && in.Announce != nil {
		in.Announce(c)
	}
	end := time.Now().Add(w.wait)
	for _, d := range list {
		if d.reason != "" {
			if err := w.restart(ctx, d); err != nil {
				return w.ended(res.Changed, nil, err)
			}
			res.Changed = true
		}
		findings, err := w.rollout(ctx, d.name, time.Until(end))
		if err != nil || len(findings) > 0 {
			return w.ended(res.Changed, findings, err)
		}
	}
	return res, nil
}

// ended is the result of a run that stops before the last deployment.
func (w *restarting) ended(changed bool, findings []install.Finding, err error) (install.Result, error) {
	res := install.Result{Findings: findings}
	if err != nil {
		res, err = w.failed(err)
	}
	res.Changed = changed
	return res, err
}

func (w *restarting) failed(err error) (install.Result, error) {
	return w.Failed(err, map[string]string{"namespace": w.Namespace})
}

// look compares a deployment's pods with its secrets: by the hashes that an
// earlier restart left on it, else by time.
func (w *restarting) look(ctx context.Context, name string) (due, error) {
	d, err := w.Clientset().AppsV1().Deployments(w.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return due{}, fmt.Errorf("read deployment %s/%s: %w", w.Namespace, name, w.Explain(err))
	}
	out := due{name: name}
	// New pods start with all secrets as they are: the mark names them all, so that
	// another step that looks at others need not restart again.
	all := environment(&d.Spec.Template.Spec)
	names := w.Secrets
	if len(names) == 0 {
		names = all
	}
	now, hashes, changed := make(map[string]string), make(map[string]string), make(map[string]time.Time)
	for _, secret := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(names, all)))) {
		s, err := w.Clientset().CoreV1().Secrets(w.Namespace).Get(ctx, secret, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue // an optional one; if not, no pod starts and the rollout says so
		}
		if err != nil {
			return due{}, fmt.Errorf("read secret %s/%s: %w", w.Namespace, secret, w.Explain(err))
		}
		now[secret] = cluster.ContentHash(s)
		if slices.Contains(names, secret) {
			hashes[secret], changed[secret] = now[secret], changedAt(s)
		}
	}
	out.mark = marks(now)
	old, marked := d.Spec.Template.Annotations[cluster.AnnotationSecrets]
	if marked {
		if out.reason = differs(old, hashes); out.reason == "" {
			return out, nil
		}
	}
	reason, err := w.older(ctx, d, changed, !marked)
	if !marked || reason == "" {
		out.reason = reason // an upgrade may have made the pods anew since, and left the mark
	}
	return out, err
}

// changedAt is when the content of a Secret last changed: what started after it
// has read it. Times are known to a second. Of a Secret that is as it was made it
// is just before that second: what needs it cannot have started without it.
func changedAt(s *corev1.Secret) time.Time {
	at, made := cluster.SecretChanged(s), s.CreationTimestamp.Time
	if at.Equal(made) {
		return made.Add(-time.Nanosecond)
	}
	return at
}

// marks writes hashes as an annotation holds them.
func marks(hashes map[string]string) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(hashes)) {
		out = append(out, name+"="+hashes[name])
	}
	return strings.Join(out, ",")
}

// differs names the secrets whose hash is not that of the annotation.
func differs(old string, hashes map[string]string) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(hashes)) {
		if cluster.Marked(old, name) != hashes[name] {
			out = append(out, name)
		}
	}
	if len(out) == 0 {
		return ""
	}
	return "changed since its pods started: " + strings.Join(out, ", ")
}

// older finds a pod that may have started before a secret changed. What was made
// after it, by the server's own clock, has not; nor, where clock is set, has what
// started after it by the clock of its node.
func (w *restarting) older(ctx context.Context, d *appsv1.Deployment, changed map[string]time.Time, clock bool) (string, error) {
	pods, err := w.Clientset().CoreV1().Pods(w.Namespace).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(d.Spec.Selector), Limit: 500})
	if err != nil {
		return "", fmt.Errorf("list pods of %s: %w", w.Namespace, w.Explain(err))
	}
	for i := range pods.Items {
		p := &pods.Items[i]
		began := cluster.Began(p)
		if began.IsZero() || p.DeletionTimestamp != nil {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(changed)) {
			// One restart too many is better than one too few.
			if !p.CreationTimestamp.After(changed[name]) && (!clock || !began.After(changed[name])) {
				return fmt.Sprintf("pod %s started before %s changed", p.Name, name), nil
			}
		}
	}
	return "", nil
}

// environment are the secrets that the environment of a pod comes from.
func environment(spec *corev1.PodSpec) []string {
	var out []string
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		for _, e := range c.EnvFrom {
			if e.SecretRef != nil {
				out = append(out, e.SecretRef.Name)
			}
		}
		for _, e := range c.Env {
			if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
				out = append(out, e.ValueFrom.SecretKeyRef.Name)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// restart changes the pod template, as kubectl rollout restart does.
func (w *restarting) restart(ctx context.Context, d due) error {
	body, err := json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{"metadata": map[string]any{"annotations": map[string]string{
		cluster.AnnotationRestarted: time.Now().UTC().Format(time.RFC3339), cluster.AnnotationSecrets: d.mark,
	}}}}})
	if err != nil {
		return fmt.Errorf("encode deployment %s: %w", d.name, err)
	}
	_, err = w.Clientset().AppsV1().Deployments(w.Namespace).Patch(ctx, d.name, types.StrategicMergePatchType, body, metav1.PatchOptions{FieldManager: cluster.Manager})
	if err != nil {
		return fmt.Errorf("restart deployment %s/%s: %w", w.Namespace, d.name, w.Explain(err))
	}
	return nil
}

// rollout waits until a deployment is up, and says why it is not.
func (w *restarting) rollout(ctx context.Context, name string, wait time.Duration) ([]install.Finding, error) {
	var r cluster.Rollout
	err := poll(ctx, max(wait, time.Millisecond), func() (bool, error) {
		var err error
		r, err = w.Rollout(ctx, cluster.KindDeployment, w.Namespace, name)
		return r.Done, err
	})
	if err != nil || r.Done {
		return nil, err
	}
	fields := map[string]string{
		"namespace": w.Namespace, "workload": r.Name, "ready": strconv.Itoa(r.Available), "want": strconv.Itoa(r.Want), "reason": r.Reason,
	}
	detail := fmt.Sprintf("deployment %s is not up after %s: %s", r.Name, w.wait.Round(time.Second), r.Reason)
	var reasons []cluster.Reason
	if r.Selector != "" { // else it has gone meanwhile
		if reasons, err = w.Why(ctx, w.Namespace, r.Selector); err != nil {
			return nil, err
		}
	}
	if len(reasons) > 0 {
		why := reasons[0]
		fields["pod"], fields["image"], fields["reason"] = why.Pod, why.Image, why.String()
		detail += "; " + why.String()
		if len(why.Log) > 0 {
			detail += "; its log ends: " + strings.Join(why.Log, " | ")
		}
		if kind, text := w.Classes.Ended(why); kind != "" {
			fields["reason"] = text
		}
	}
	return []install.Finding{w.Report(codeRollout, detail, fields)}, nil
}
