//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/airlock-project/airlock/testdata/cluster/appimage"
)

// mirror is where the node looks for images. To pull repositories that begin
// with private/ it wants a login.
const mirror = "127.0.0.1:5000"

var clients *kubernetes.Clientset

func TestMain(m *testing.M) {
	if err := begin(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func begin(ctx context.Context) error {
	app := os.Getenv("BOX_APP")
	if app == "" {
		return errors.New("not in a box: run the tests with `make e2e`")
	}
	rc, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return err
	}
	if clients, err = kubernetes.NewForConfig(rc); err != nil {
		return err
	}
	reg := olareg.New(config.Config{Storage: config.ConfigStorage{StoreType: config.StoreMem}})
	l, err := net.Listen("tcp", mirror)
	if err != nil {
		return err
	}
	login := func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		pull := r.Method == http.MethodGet || r.Method == http.MethodHead
		if pull && strings.HasPrefix(r.URL.Path, "/v2/private/") && (user != "robot" || password != "right") {
			w.Header().Set("WWW-Authenticate", `Basic realm="mirror"`)
			http.Error(w, "a login is needed", http.StatusUnauthorized)
			return
		}
		reg.ServeHTTP(w, r)
	}
	go func() { _ = http.Serve(l, http.HandlerFunc(login)) }() // ends with the tests
	return errors.Join(
		appimage.Push(ctx, mirror, "demo/web:1", app),
		appimage.Push(ctx, mirror, "demo/job:1", app, "job"),
		appimage.Push(ctx, mirror, "demo/fail:1", app, "fail"),
		appimage.Push(ctx, mirror, "private/web:1", app),
	)
}

// wait asks until ok, at most for a minute and a half.
func wait(t *testing.T, what string, ok func() (bool, string)) {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(90 * time.Second); ; {
		done, seen := ok()
		if done {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not after 90 s, but: %s", what, seen)
		}
		<-tick.C
	}
}

func namespace(t *testing.T, name string) string {
	t.Helper()
	if _, err := clients.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	wait(t, "service account", func() (bool, string) {
		_, err := clients.CoreV1().ServiceAccounts(name).Get(t.Context(), "default", metav1.GetOptions{})
		return err == nil, fmt.Sprint(err)
	})
	return name
}

func pod(t *testing.T, ns string) *corev1.Pod {
	t.Helper()
	l, err := clients.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Items) == 0 {
		return &corev1.Pod{}
	}
	return &l.Items[0]
}

func template(image string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: image}}},
	}
}

// waiting waits for a reason why the only pod does not run and returns the
// message.
func waiting(t *testing.T, ns, reason string) string {
	t.Helper()
	var message string
	wait(t, reason, func() (bool, string) {
		p := pod(t, ns)
		for _, s := range p.Status.ContainerStatuses {
			if w := s.State.Waiting; w != nil && w.Reason == reason {
				message = w.Message
				return true, ""
			}
		}
		return false, fmt.Sprintf("%+v", p.Status)
	})
	return message
}

// TestWeb runs a web server by an upstream name, with a probe, behind a Service.
func TestWeb(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "web")
	tmpl := template("upstream.test/demo/web:1")
	tmpl.Spec.Containers[0].ReadinessProbe = &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(8080)}}, PeriodSeconds: 1,
	}
	_, err := clients.AppsV1().Deployments(ns).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, Template: tmpl},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	svc, err := clients.CoreV1().Services(ns).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "deployment available", func() (bool, string) {
		d, err := clients.AppsV1().Deployments(ns).Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return d.Status.AvailableReplicas == 1, fmt.Sprintf("%+v", pod(t, ns).Status)
	})
	c := &http.Client{Timeout: 2 * time.Second}
	wait(t, "service", func() (bool, string) {
		res, err := c.Get("http://" + svc.Spec.ClusterIP + "/")
		if err != nil {
			return false, err.Error()
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		return strings.HasPrefix(string(body), "hello from web-"), fmt.Sprint(string(body), err)
	})
}

// TestJobs reads what containers wrote.
func TestJobs(t *testing.T) {
	t.Parallel()
	for name, log := range map[string]string{"job": "job done", "fail": "job failed"} {
		ns := namespace(t, "run-"+name)
		tmpl := template("upstream.test/demo/" + name + ":1")
		tmpl.Spec.RestartPolicy = corev1.RestartPolicyNever
		jobs := clients.BatchV1().Jobs(ns)
		_, err := jobs.Create(t.Context(), &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: batchv1.JobSpec{Template: tmpl, BackoffLimit: new(int32)}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		wait(t, "end of "+name, func() (bool, string) {
			j, err := jobs.Get(t.Context(), name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return name == "job" && j.Status.Succeeded == 1 || name == "fail" && j.Status.Failed == 1, fmt.Sprintf("%+v %+v", j.Status, pod(t, ns).Status)
		})
		got, err := clients.CoreV1().Pods(ns).GetLogs(pod(t, ns).Name, &corev1.PodLogOptions{}).DoRaw(t.Context())
		if err != nil || !strings.HasPrefix(string(got), log) {
			t.Errorf("log of %s: %q, %v", name, got, err)
		}
	}
}

func TestMissingImage(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "missing")
	tmpl := template("upstream.test/demo/missing:7")
	create(t, ns, tmpl)
	if message := waiting(t, ns, "ImagePullBackOff"); !strings.Contains(message, "upstream.test/demo/missing:7") {
		t.Errorf("message: %s", message)
	}
}

// TestPullSecret pulls from a registry that wants a login, without and with it.
func TestPullSecret(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "secret")
	_, err := clients.CoreV1().Secrets(ns).Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "pull"}, Type: corev1.SecretTypeDockerConfigJson,
		StringData: map[string]string{corev1.DockerConfigJsonKey: `{"auths":{"` + mirror + `":{"username":"robot","password":"right"}}}`},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tmpl := template(mirror + "/private/web:1")
	create(t, ns, tmpl)
	if message := waiting(t, ns, "ImagePullBackOff"); !strings.Contains(message, "401") && !strings.Contains(message, "authoriz") {
		t.Errorf("message: %s", message)
	}
	tmpl.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "pull"}}
	if err := clients.CoreV1().Pods(ns).Delete(t.Context(), "web", metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		t.Fatal(err)
	}
	create(t, ns, tmpl)
	wait(t, "pod running", func() (bool, string) {
		p := pod(t, ns)
		return p.Status.Phase == corev1.PodRunning, fmt.Sprintf("%+v", p.Status)
	})
}

func create(t *testing.T, ns string, tmpl corev1.PodTemplateSpec) {
	t.Helper()
	_, err := clients.CoreV1().Pods(ns).Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: tmpl.Spec}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// TestNoWayOut looks for a route and tries one: 192.0.2.0/24 is for
// documentation, so nobody has it.
func TestNoWayOut(t *testing.T) {
	f, err := os.Open("/proc/net/route")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if fields := strings.Fields(s.Text()); len(fields) > 1 && fields[1] == "00000000" {
			t.Errorf("default route: %s", s.Text())
		}
	}
	conn, err := net.DialTimeout("tcp", "192.0.2.1:443", 2*time.Second)
	if err == nil {
		_ = conn.Close()
	}
	if !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("dial: %v", err)
	}
}
