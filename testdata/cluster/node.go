package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// NodeName is the name of the fake node.
const NodeName = "node1"

const (
	nodeIP    = "127.0.0.1" // where the API server fetches logs
	heartbeat = 10 * time.Second
	pullAgain = time.Second
	workers   = 4 // pods looked at side by side
)

// node stands in for a kubelet: it starts nothing, but pulls what it would run.
type node struct {
	clients *kubernetes.Clientset
	puller  puller
	kubelet *kubelet
	pods    cache.Store
	queue   workqueue.TypedRateLimitingInterface[string]
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex
	lastIP int
	known  map[types.UID]*record
}

// record is what the node remembers of a pod.
type record struct {
	ip   string
	said map[string]bool // its events, so that none is written twice
}

// startNode registers the node and begins to serve its pods.
func startNode(ctx context.Context, clients *kubernetes.Clientset, mirror string) (*node, error) {
	ctx, cancel := context.WithCancel(ctx)
	n := &node{
		clients: clients, puller: puller{mirror}, cancel: cancel, known: map[types.UID]*record{},
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[string]()),
	}
	n.kubelet = startKubelet(n)
	if err := n.register(ctx); err != nil {
		n.close()
		return nil, fmt.Errorf("register node: %w", err)
	}
	enqueue := func(o any) {
		if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(o); err == nil {
			n.queue.Add(key)
		}
	}
	var informer cache.Controller
	n.pods, informer = cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.NewListWatchFromClient(clients.CoreV1().RESTClient(), "pods", "", fields.OneTermEqualSelector("spec.nodeName", NodeName)),
		ObjectType:    &corev1.Pod{},
		Handler:       cache.ResourceEventHandlerFuncs{AddFunc: enqueue, UpdateFunc: func(_, o any) { enqueue(o) }},
	})
	n.running.Go(func() { informer.RunWithContext(ctx) })
	for range workers {
		n.running.Go(func() { n.work(ctx) })
	}
	n.running.Go(func() {
		tick := time.NewTicker(heartbeat)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_ = n.beat(ctx) // the next one may come through
			case <-ctx.Done():
				return
			}
		}
	})
	return n, nil
}

func (n *node) close() {
	n.cancel()
	n.queue.ShutDown()
	n.running.Wait()
	n.kubelet.Close()
}

func (n *node) register(ctx context.Context) error {
	_, err := n.clients.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: NodeName, Labels: map[string]string{
		corev1.LabelHostname: NodeName, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64",
	}}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	return n.beat(ctx)
}

// beat reports the node as ready.
func (n *node) beat(ctx context.Context) error {
	have := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("256Gi"),
		corev1.ResourcePods: resource.MustParse("500"), corev1.ResourceEphemeralStorage: resource.MustParse("1Ti"),
	}
	now := metav1.Now()
	return n.patch(ctx, func(ctx context.Context, data []byte) error {
		_, err := n.clients.CoreV1().Nodes().PatchStatus(ctx, NodeName, data)
		return err
	}, map[string]any{"status": corev1.NodeStatus{
		Capacity: have, Allocatable: have,
		Conditions:      []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "FakeNode", LastHeartbeatTime: now, LastTransitionTime: now}},
		Addresses:       []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: nodeIP}, {Type: corev1.NodeHostName, Address: NodeName}},
		DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: n.kubelet.port}},
		NodeInfo:        corev1.NodeSystemInfo{OperatingSystem: "linux", Architecture: "amd64", KubeletVersion: "v1.37.2", ContainerRuntimeVersion: "fake://1"},
	}})
}

func (n *node) patch(ctx context.Context, do func(context.Context, []byte) error, change map[string]any) error {
	data, err := json.Marshal(change)
	if err != nil {
		return err
	}
	return do(ctx, data)
}

// work takes pods from the queue until it is shut down.
func (n *node) work(ctx context.Context) {
	for {
		key, shutdown := n.queue.Get()
		if shutdown {
			return
		}
		switch again, err := n.look(ctx, key); {
		case err != nil && ctx.Err() == nil:
			n.queue.AddRateLimited(key)
		case again:
			n.queue.AddAfter(key, pullAgain)
		default:
			n.queue.Forget(key)
		}
		n.queue.Done(key)
	}
}

// look brings one pod's status up to date. It says whether to come again
// though nothing changes.
func (n *node) look(ctx context.Context, key string) (again bool, err error) {
	o, found, err := n.pods.GetByKey(key)
	if err != nil || !found {
		return false, err
	}
	p, ok := o.(*corev1.Pod)
	if !ok {
		return false, fmt.Errorf("pod %s: unexpected %T", key, o)
	}
	if p.DeletionTimestamp != nil {
		return false, n.remove(ctx, p)
	}
	if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return false, nil
	}
	v := view{pod: p, now: metav1.Now(), ip: n.record(p).ip}
	if v.outcome, err = outcome(p); err != nil {
		n.warn(ctx, p, "UnknownOutcome", err.Error())
		return false, nil
	}
	v.images, again = n.pullAll(ctx, p)
	st := v.status()
	if !equality.Semantic.DeepEqual(st, p.Status) {
		if err := n.report(ctx, p, st); err != nil {
			return false, err
		}
	}
	n.complain(ctx, v)
	return again, nil
}

// record returns what the node remembers of a pod; a new one gets an address.
func (n *node) record(p *corev1.Pod) *record {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.known[p.UID]
	if r == nil {
		n.lastIP++
		r = &record{ip: fmt.Sprintf("10.244.%d.%d", n.lastIP/250%250, n.lastIP%250+2), said: map[string]bool{}}
		n.known[p.UID] = r
	}
	return r
}

// report writes a pod's status, unless another pod has its name by now.
func (n *node) report(ctx context.Context, p *corev1.Pod, st corev1.PodStatus) error {
	err := n.patch(ctx, func(ctx context.Context, data []byte) error {
		_, err := n.clients.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.StrategicMergePatchType, data, metav1.PatchOptions{}, "status")
		return err
	}, map[string]any{"metadata": map[string]any{"uid": p.UID}, "status": st})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// remove lets go of a pod that is being deleted.
func (n *node) remove(ctx context.Context, p *corev1.Pod) error {
	n.mu.Lock()
	delete(n.known, p.UID)
	n.mu.Unlock()
	err := n.clients.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64), Preconditions: &metav1.Preconditions{UID: &p.UID},
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// pullAll pulls what containers have no image of yet. Init containers run one
// after another, so nothing is pulled behind one that waits.
func (n *node) pullAll(ctx context.Context, p *corev1.Pod) (images map[string]pulled, again bool) {
	images = map[string]pulled{}
	for _, s := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
		if s.ImageID != "" {
			images[s.Name] = pulled{id: s.ImageID}
		}
	}
	logins := n.logins(ctx, p)
	try := func(c corev1.Container) bool {
		if images[c.Name].id != "" {
			return true
		}
		got := n.pullOne(ctx, c, logins)
		images[c.Name] = got
		return got.reason == ""
	}
	for _, c := range p.Spec.InitContainers {
		if !try(c) {
			return images, true
		}
	}
	for _, c := range p.Spec.Containers {
		again = !try(c) || again
	}
	return images, again
}

func (n *node) pullOne(ctx context.Context, c corev1.Container, logins map[string]login) pulled {
	id, err := n.puller.pull(ctx, c.Image, logins)
	if err == nil {
		return pulled{id: id}
	}
	if bad, ok := errors.AsType[*invalidNameError](err); ok {
		return pulled{reason: "InvalidImageName", message: fmt.Sprintf("Failed to apply default image tag %q: %s", c.Image, bad)}
	}
	return pulled{reason: "ImagePullBackOff", message: fmt.Sprintf("Back-off pulling image %q: ErrImagePull: %s", c.Image, err)}
}

// logins reads the pod's pull secrets. One that is missing counts for nothing,
// as with the kubelet.
func (n *node) logins(ctx context.Context, p *corev1.Pod) map[string]login {
	out := map[string]login{}
	for _, ref := range p.Spec.ImagePullSecrets {
		s, err := n.clients.CoreV1().Secrets(p.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		if err != nil {
			n.warn(ctx, p, "FailedToRetrieveImagePullSecret",
				fmt.Sprintf("Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", ref.Name))
			continue
		}
		var file struct {
			Auths map[string]login `json:"auths"`
		}
		if err := json.Unmarshal(s.Data[corev1.DockerConfigJsonKey], &file); err != nil {
			continue
		}
		for host, l := range file.Auths {
			if _, ok := out[host]; !ok {
				out[host] = l
			}
		}
	}
	return out
}

// complain tells what goes wrong with a pod, in the kubelet's words.
func (n *node) complain(ctx context.Context, v view) {
	for _, c := range append(v.pod.Spec.InitContainers, v.pod.Spec.Containers...) {
		if got := v.images[c.Name]; got.reason != "" {
			n.warn(ctx, v.pod, "Failed", got.message)
			return
		}
	}
	switch v.outcome {
	case NeverReady:
		n.warn(ctx, v.pod, "Unhealthy", "Readiness probe failed: "+v.pod.Annotations[TextAnnotation])
	case Crash:
		n.warn(ctx, v.pod, "BackOff", "Back-off restarting failed container in pod "+v.pod.Name)
	}
}

// warn writes an event of a pod, once.
func (n *node) warn(ctx context.Context, p *corev1.Pod, reason, message string) {
	r := n.record(p)
	n.mu.Lock()
	told := r.said[reason+message]
	r.said[reason+message] = true
	n.mu.Unlock()
	if told {
		return
	}
	now := metav1.Now()
	// An event is a courtesy: in a namespace that ends it is refused.
	_, _ = n.clients.CoreV1().Events(p.Namespace).Create(ctx, &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{GenerateName: p.Name + ".", Namespace: p.Namespace},
		InvolvedObject: corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID},
		Type:           corev1.EventTypeWarning, Reason: reason, Message: message[:min(len(message), 1024)], Count: 1, FirstTimestamp: now, LastTimestamp: now,
		Source: corev1.EventSource{Component: "kubelet", Host: NodeName},
	}, metav1.CreateOptions{})
}
