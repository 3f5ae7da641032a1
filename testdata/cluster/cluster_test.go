//go:build all

package cluster

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/airlock-project/airlock/testdata/fixture"
)

// kube is the cluster of all tests here, and mirror the registry behind it,
// which wants a login for repositories that begin with private/.
var (
	kube   *Cluster
	mirror *httptest.Server
)

func TestMain(m *testing.M) {
	reg := olareg.New(config.Config{Storage: config.ConfigStorage{StoreType: config.StoreMem}})
	mirror = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if strings.HasPrefix(r.URL.Path, "/v2/private/") && (user != "robot" || password != "right") {
			w.Header().Set("WWW-Authenticate", `Basic realm="mirror"`)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"the robot says no"}]}`)
			return
		}
		reg.ServeHTTP(w, r)
	}))
	fill := httptest.NewServer(reg)
	for _, ref := range []string{"demo/web:1", "private/web:1", "demo/setup:1", "library/web:1"} {
		if err := fixture.Push(context.Background(), strings.TrimPrefix(fill.URL, "http://"), ref); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	code := Main(m, &kube, Options{Node: true, Mirror: host()})
	fill.Close()
	mirror.Close()
	os.Exit(code)
}

func host() string { return strings.TrimPrefix(mirror.URL, "http://") }

// wait asks until ok, at most for half a minute.
func wait(t *testing.T, what string, ok func() (bool, string)) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); ; {
		done, seen := ok()
		if done {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not after 30 s, but: %s", what, seen)
		}
		<-tick.C
	}
}

func podSpec(image string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}, Annotations: map[string]string{}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: image}}},
	}
}

func deploy(t *testing.T, ns string, pod corev1.PodTemplateSpec) {
	t.Helper()
	_, err := kube.Clientset.AppsV1().Deployments(ns).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, Template: pod},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func waitAvailable(t *testing.T, ns string) {
	t.Helper()
	wait(t, "deployment available", func() (bool, string) {
		d, err := kube.Clientset.AppsV1().Deployments(ns).Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return d.Status.AvailableReplicas == 1, fmt.Sprint(d.Status.Conditions, pods(t, ns))
	})
}

func pods(t *testing.T, ns string) []corev1.Pod {
	t.Helper()
	l, err := kube.Clientset.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return l.Items
}

// waitWaiting waits until the only pod waits for a reason and returns the message.
func waitWaiting(t *testing.T, ns, reason string) string {
	t.Helper()
	message := ""
	wait(t, reason, func() (bool, string) {
		all := pods(t, ns)
		for _, p := range all {
			for _, s := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
				if w := s.State.Waiting; w != nil && w.Reason == reason {
					message = w.Message
					return true, ""
				}
			}
		}
		return false, fmt.Sprint(all)
	})
	return message
}

// TestDeployment runs images by upstream name, by the mirror's own, by a bare
// name, pinned, and with an init container.
func TestDeployment(t *testing.T) {
	res, err := http.Head(mirror.URL + "/v2/demo/web/manifests/1")
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
	for name, image := range map[string]string{
		"upstream": "example.test/demo/web:1", "mirror": host() + "/demo/web:1", "bare": "web:1",
		"pinned": host() + "/demo/web:1@" + res.Header.Get("Docker-Content-Digest"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := kube.Namespace(t)
			pod := podSpec(image)
			pod.Spec.InitContainers = []corev1.Container{{Name: "setup", Image: "example.test/demo/setup:1"}}
			deploy(t, ns, pod)
			waitAvailable(t, ns)
			p := pods(t, ns)[0]
			if s := p.Status.InitContainerStatuses[0]; s.State.Terminated == nil || s.ImageID == "" {
				t.Errorf("init container: %+v", s)
			}
			if s := p.Status.ContainerStatuses[0]; !strings.Contains(s.ImageID, "@sha256:") || p.Status.PodIP == "" {
				t.Errorf("container: %+v, address %q", s, p.Status.PodIP)
			}
		})
	}
}

func TestMissingImage(t *testing.T) {
	ns := kube.Namespace(t)
	deploy(t, ns, podSpec("example.test/demo/missing:7"))
	message := waitWaiting(t, ns, "ImagePullBackOff")
	if !strings.Contains(message, "example.test/demo/missing:7") || !strings.Contains(message, "not found") {
		t.Errorf("message: %s", message)
	}
	wait(t, "event", func() (bool, string) {
		events, err := kube.Clientset.CoreV1().Events(ns).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events.Items {
			if e.Reason == "Failed" && strings.Contains(e.Message, "missing:7") {
				return true, ""
			}
		}
		return false, fmt.Sprint(events.Items)
	})
	// What was missing is pulled once it is there.
	if err := fixture.Push(t.Context(), host(), "demo/missing:7"); err != nil {
		t.Fatal(err)
	}
	waitAvailable(t, ns)
}

func TestInitImageMissing(t *testing.T) {
	ns := kube.Namespace(t)
	pod := podSpec("example.test/demo/web:1")
	pod.Spec.InitContainers = []corev1.Container{{Name: "setup", Image: "example.test/demo/nosetup:1"}}
	deploy(t, ns, pod)
	if message := waitWaiting(t, ns, "ImagePullBackOff"); !strings.Contains(message, "demo/nosetup:1") {
		t.Errorf("message: %s", message)
	}
	waitWaiting(t, ns, "PodInitializing")
}

func TestInvalidImageName(t *testing.T) {
	ns := kube.Namespace(t)
	deploy(t, ns, podSpec("Example.test/Not A Name"))
	waitWaiting(t, ns, "InvalidImageName")
}

func TestPullSecret(t *testing.T) {
	image := host() + "/private/web:1"
	secret := func(t *testing.T, ns, at, password string) corev1.PodTemplateSpec {
		t.Helper()
		_, err := kube.Clientset.CoreV1().Secrets(ns).Create(t.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: "pull"}, Type: corev1.SecretTypeDockerConfigJson,
			StringData: map[string]string{corev1.DockerConfigJsonKey: fmt.Sprintf(`{"auths":{%q:{"username":"robot","password":%q}}}`, at, password)},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		pod := podSpec(image)
		pod.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "pull"}}
		return pod
	}
	refused := func(t *testing.T, ns string) {
		t.Helper()
		if message := waitWaiting(t, ns, "ImagePullBackOff"); !strings.Contains(message, image) || !strings.Contains(message, "401") {
			t.Errorf("message: %s", message)
		}
	}
	t.Run("right", func(t *testing.T) {
		t.Parallel()
		ns := kube.Namespace(t)
		deploy(t, ns, secret(t, ns, host(), "right"))
		waitAvailable(t, ns)
	})
	t.Run("wrong", func(t *testing.T) {
		t.Parallel()
		ns := kube.Namespace(t)
		deploy(t, ns, secret(t, ns, host(), "wrong"))
		if message := waitWaiting(t, ns, "ImagePullBackOff"); !strings.Contains(message, "the robot says no") {
			t.Errorf("message: %s", message)
		}
		refused(t, ns)
	})
	t.Run("other registry", func(t *testing.T) {
		t.Parallel()
		ns := kube.Namespace(t)
		deploy(t, ns, secret(t, ns, "elsewhere.test", "right"))
		refused(t, ns)
	})
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		ns := kube.Namespace(t)
		deploy(t, ns, podSpec(image))
		refused(t, ns)
	})
	t.Run("absent", func(t *testing.T) {
		t.Parallel()
		ns := kube.Namespace(t)
		pod := podSpec(image)
		pod.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "absent"}}
		deploy(t, ns, pod)
		refused(t, ns)
	})
}

func TestJob(t *testing.T) {
	for name, o := range map[string]Outcome{"succeeds": "", "fails": Fail, "hangs": Hang} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := kube.Namespace(t)
			pod := podSpec("example.test/demo/web:1")
			pod.Spec.RestartPolicy = corev1.RestartPolicyNever
			pod.Annotations[OutcomeAnnotation] = string(o)
			pod.Annotations[TextAnnotation] = "one\ntwo"
			jobs := kube.Clientset.BatchV1().Jobs(ns)
			_, err := jobs.Create(t.Context(), &batchv1.Job{
				ObjectMeta: metav1.ObjectMeta{Name: "job"}, Spec: batchv1.JobSpec{Template: pod, BackoffLimit: new(int32)},
			}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			wait(t, "job", func() (bool, string) {
				j, err := jobs.Get(t.Context(), "job", metav1.GetOptions{})
				if err != nil {
					t.Fatal(err)
				}
				s := j.Status
				reached := map[Outcome]bool{"": s.Succeeded == 1, Fail: s.Failed == 1, Hang: s.Ready != nil && *s.Ready == 1}
				return reached[o], fmt.Sprintf("%+v", s)
			})
			log, err := kube.Clientset.CoreV1().Pods(ns).GetLogs(pods(t, ns)[0].Name, &corev1.PodLogOptions{TailLines: new(int64(1))}).DoRaw(t.Context())
			if err != nil || string(log) != "two\n" {
				t.Errorf("log: %q, %v", log, err)
			}
			policy := metav1.DeletePropagationForeground
			if err := jobs.Delete(t.Context(), "job", metav1.DeleteOptions{PropagationPolicy: &policy}); err != nil {
				t.Fatal(err)
			}
			wait(t, "job gone", func() (bool, string) {
				_, err := jobs.Get(t.Context(), "job", metav1.GetOptions{})
				return apierrors.IsNotFound(err) && len(pods(t, ns)) == 0, fmt.Sprint(err)
			})
		})
	}
}

// TestOutcomes looks at pods that are wrong on purpose, and at one that gets well.
func TestOutcomes(t *testing.T) {
	t.Run("crash", func(t *testing.T) {
		t.Parallel()
		ns := kube.Namespace(t)
		pod := podSpec("example.test/demo/web:1")
		pod.Annotations[OutcomeAnnotation] = string(Crash)
		deploy(t, ns, pod)
		waitWaiting(t, ns, "CrashLoopBackOff")
		s := pods(t, ns)[0].Status.ContainerStatuses[0]
		if l := s.LastTerminationState.Terminated; l == nil || l.ExitCode != 1 || s.RestartCount == 0 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("never ready", func(t *testing.T) {
		t.Parallel()
		ns := kube.Namespace(t)
		pod := podSpec("example.test/demo/web:1")
		pod.Annotations[OutcomeAnnotation] = string(NeverReady)
		deploy(t, ns, pod)
		wait(t, "running, not ready", func() (bool, string) {
			all := pods(t, ns)
			return len(all) == 1 && all[0].Status.Phase == corev1.PodRunning && !all[0].Status.ContainerStatuses[0].Ready, fmt.Sprint(all)
		})
		p := pods(t, ns)[0]
		delete(p.Annotations, OutcomeAnnotation)
		if _, err := kube.Clientset.CoreV1().Pods(ns).Update(t.Context(), &p, metav1.UpdateOptions{}); err != nil && !apierrors.IsConflict(err) {
			t.Fatal(err)
		}
		waitAvailable(t, ns)
	})
}

func TestUser(t *testing.T) {
	ns, other := kube.Namespace(t), kube.Namespace(t)
	read := rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get", "list"}}
	for name, file := range map[string]string{"everywhere": kube.User(t, "reader", read), "here": kube.UserIn(t, "local", ns, read)} {
		c := open(t, file)
		if _, err := c.CoreV1().ConfigMaps(ns).List(t.Context(), metav1.ListOptions{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := c.CoreV1().ConfigMaps(other).List(t.Context(), metav1.ListOptions{}); apierrors.IsForbidden(err) != (name == "here") {
			t.Errorf("%s, another namespace: %v", name, err)
		}
		_, err := c.CoreV1().Secrets(ns).List(t.Context(), metav1.ListOptions{})
		if !apierrors.IsForbidden(err) {
			t.Errorf("%s: reads secrets: %v", name, err)
		}
	}
}

func open(t *testing.T, kubeconfig string) *kubernetes.Clientset {
	t.Helper()
	rc, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	c, err := kubernetes.NewForConfig(rc)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
