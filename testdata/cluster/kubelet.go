package cluster

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// kubelet is the part of a kubelet that the API server talks to: it serves the
// logs of containers.
type kubelet struct {
	*httptest.Server
	port int32
}

func startKubelet(n *node) *kubelet {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", func(w http.ResponseWriter, r *http.Request) {
		o, found, err := n.pods.GetByKey(r.PathValue("namespace") + "/" + r.PathValue("pod"))
		p, ok := o.(*corev1.Pod)
		if err != nil || !found || !ok {
			http.Error(w, "no such pod", http.StatusNotFound)
			return
		}
		log := logOf(p)
		if tail, err := strconv.Atoi(r.URL.Query().Get("tailLines")); err == nil {
			log = last(log, tail)
		}
		if limit, err := strconv.Atoi(r.URL.Query().Get("limitBytes")); err == nil {
			log = log[:min(limit, len(log))]
		}
		_, _ = io.WriteString(w, log)
	})
	k := &kubelet{Server: httptest.NewTLSServer(mux)}
	if addr, ok := k.Listener.Addr().(*net.TCPAddr); ok {
		k.port = int32(addr.Port)
	}
	return k
}

// last returns the last n lines of a text.
func last(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return strings.Join(lines[max(0, len(lines)-n):], "")
}
