//go:build e2e

package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/testdata/nameserver"
	"github.com/airlock-project/airlock/testdata/spacelift"
	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// boxRegistry is where the node of a box looks for every image.
	boxRegistry  = "127.0.0.1:5000"
	pullPassword = "password-of-the-puller"
	namespace    = "spacelift"
)

// box is the cluster of the box, and a registry for its node.
type box struct {
	clients *kubernetes.Clientset
	dynamic dynamic.Interface
	node    string // address
	product atomic.Pointer[spacelift.Server]

	mu   sync.Mutex
	sent map[string]int // blobs below jobs/: how often each was uploaded
	took map[string]int // manifests below real/: how often each was asked for
	lost string         // repository whose manifests the registry does not have
	held chan<- struct{}
	gate <-chan struct{} // that pulls of the backend wait for, see hold
}

func newBox(t *testing.T) *box {
	t.Helper()
	if os.Getenv("BOX_APP") == "" || os.Getenv("AIRLOCK_E2E_TOOL") == "" {
		t.Fatal("not in a box: run the tests with `make e2e`")
	}
	rc, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	e := &box{sent: map[string]int{}, took: map[string]int{}}
	if e.clients, err = kubernetes.NewForConfig(rc); err != nil {
		t.Fatal(err)
	}
	if e.dynamic, err = dynamic.NewForConfig(rc); err != nil {
		t.Fatal(err)
	}
	nodes, err := e.clients.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(nodes.Items) != 1 {
		t.Fatalf("nodes: %v, %v", nodes, err)
	}
	e.node = nodes.Items[0].Status.Addresses[0].Address
	// A controller that is there already, and does nothing.
	class := &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: "nginx"}, Spec: networkingv1.IngressClassSpec{Controller: "example.test/ingress"}}
	if _, err := e.clients.NetworkingV1().IngressClasses().Create(t.Context(), class, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	e.serveRegistry(t)
	e.work(t)
	e.balance(t)
	return e
}

// serveRegistry serves the enclave's registry: airlock may push, puller pull, and
// who has no login may pull neither backend nor launcher. What lies in upstream/
// is anybody's.
func (e *box) serveRegistry(t *testing.T) {
	t.Helper()
	reg := olareg.New(config.Config{Storage: config.ConfigStorage{StoreType: config.StoreMem}})
	l, err := net.Listen("tcp", boxRegistry)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		read := r.Method == http.MethodGet || r.Method == http.MethodHead
		open := strings.HasPrefix(r.URL.Path, "/v2/upstream/") || read && r.URL.Path != "/v2/" && !strings.Contains(r.URL.Path, "spacelift-backend") && !strings.Contains(r.URL.Path, "spacelift-launcher")
		ok := open || user == "airlock" && password == "password-of-the-registry" || user == "puller" && password == pullPassword && read
		if !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="enclave"`)
			http.Error(w, "a login is needed", http.StatusUnauthorized)
			return
		}
		if digest := r.URL.Query().Get("digest"); r.Method == http.MethodPut && digest != "" && strings.HasPrefix(r.URL.Path, "/v2/jobs/") {
			e.mu.Lock()
			e.sent[digest]++
			e.mu.Unlock()
		}
		if strings.HasPrefix(r.URL.Path, "/v2/real/") && strings.Contains(r.URL.Path, "/manifests/") {
			e.mu.Lock()
			e.took[r.URL.Path]++
			e.mu.Unlock()
		}
		e.wait(r, user)
		e.mu.Lock()
		lost := e.lost
		e.mu.Unlock()
		if lost != "" && strings.HasSuffix(r.URL.Path[:max(0, strings.LastIndex(r.URL.Path, "/manifests/"))], "/"+lost) {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`) // to a client that may have left
			return
		}
		reg.ServeHTTP(w, r)
	}), ReadHeaderTimeout: time.Minute}
	go func() { _ = srv.Serve(l) }() // ends with the test
	t.Cleanup(func() { _ = srv.Close() })
}

// lose lets the registry answer that it has no manifest of a repository; "" is
// none.
func (e *box) lose(repository string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lost = repository
}

// names stands in for the cluster's DNS, at the address that pods ask.
func (e *box) names(t *testing.T, records ...string) {
	t.Helper()
	host, port, err := net.SplitHostPort(nameserver.StartAt(t, e.node, nameserver.Zone(t, records...)))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(port, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	number, udp, tcp, yes := int32(n), corev1.ProtocolUDP, corev1.ProtocolTCP, true
	udpName, tcpName := "dns", "dns-tcp"
	meta := metav1.ObjectMeta{Name: "kube-dns", Namespace: "kube-system"}
	service := &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.10", Ports: []corev1.ServicePort{{Name: udpName, Protocol: udp, Port: 53}, {Name: tcpName, Protocol: tcp, Port: 53}}}}
	if _, err := e.clients.CoreV1().Services(meta.Namespace).Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	meta.Labels = map[string]string{discoveryv1.LabelServiceName: meta.Name}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{host}, Conditions: discoveryv1.EndpointConditions{Ready: &yes}}},
		Ports:     []discoveryv1.EndpointPort{{Name: &udpName, Protocol: &udp, Port: &number}, {Name: &tcpName, Protocol: &tcp, Port: &number}},
	}
	if _, err := e.clients.DiscoveryV1().EndpointSlices(meta.Namespace).Create(t.Context(), slice, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = e.clients.CoreV1().Services(meta.Namespace).Delete(context.Background(), meta.Name, metav1.DeleteOptions{}) // the box goes, too
	})
}

// work has a stand-in for the worker controller look at pools, once there is a
// product that they belong to.
func (e *box) work(t *testing.T) {
	t.Helper()
	tend(t, 500*time.Millisecond, func(ctx context.Context) {
		if product := e.product.Load(); product != nil {
			poolController{e.clients, e.dynamic, product}.tick(ctx)
		}
	})
}

func (e *box) site(f *fullRun) *manifests.SiteRegistry {
	f.secrets["registry.password"] = "password-of-the-registry"
	return &manifests.SiteRegistry{To: boxRegistry + "/airlock", PlainHTTP: true, Username: "airlock", Password: "file:" + rowFile(f.t, []byte("password-of-the-registry"))}
}

// answers are those that a cluster adds.
func (e *box) answers(f *fullRun, in map[string]any) map[string]any {
	e.product.Store(f.product)
	return map[string]any{
		"k8s.kubeconfig": f.cluster, "network.endpoints": []any{in["storage.minio.endpoint"]},
		"pull.username": "puller", "pull.password": pullPassword,
		"ingress.install": true, "ingress.class": "enclave", "ingress.address": ingressAddress,
	}
}

// forward gives a server of this process an address that pods reach.
func (e *box) forward(t *testing.T, to string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(e.node, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				out, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer out.Close()
				// What a side that hung up does not get, the other end sees as an end.
				// What is forwarded ends when one side ends, in whatever way.
				go func() { _, _ = io.Copy(out, in); _ = out.(*net.TCPConn).CloseWrite() }()
				_, _ = io.Copy(in, out)
			}()
		}
	}()
	return l.Addr().String()
}

func (e *box) run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s %v: %v: %s", program, args, err, out)
	}
	return string(out)
}
