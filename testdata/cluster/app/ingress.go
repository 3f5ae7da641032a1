package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"time"
)

// account is where a pod finds the login of its service account.
const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

// ingress stands in for an ingress controller: it hands a request to the Service
// that the first rule for its host names in an Ingress of the class, and gives
// such Ingresses the address of its own Service.
func ingress(class string) {
	go func() {
		for ; ; time.Sleep(500 * time.Millisecond) {
			if err := publish(class); err != nil {
				fmt.Println("publish:", err)
			}
		}
	}()
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		to, err := backend(class, r.Host)
		switch {
		case err != nil:
			http.Error(w, "stand-in: "+err.Error(), http.StatusBadGateway)
		case to == "":
			http.Error(w, "stand-in: no Ingress for "+r.Host, http.StatusNotFound)
		default:
			httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: to}).ServeHTTP(w, r)
		}
	})
	listen(mux)
}

// routes are the Ingresses of a cluster.
type routes struct {
	Items []struct {
		Metadata struct{ Namespace, Name string }
		Spec     struct {
			IngressClassName string
			Rules            []struct {
				Host string
				HTTP struct {
					Paths []struct {
						Backend struct {
							Service struct {
								Name string
								Port struct{ Number int }
							}
						}
					}
				}
			}
		}
		Status balanced
	}
}

// balanced is the status of what has an address.
type balanced struct {
	LoadBalancer struct {
		Ingress []struct {
			IP string `json:"ip"`
		} `json:"ingress"`
	} `json:"loadBalancer"`
}

// publish gives Ingresses of the class that have no address the one of the
// stand-in's Service.
func publish(class string) error {
	namespace, err := os.ReadFile(account + "namespace")
	if err != nil {
		return err
	}
	var own struct{ Status balanced }
	if err := ask("/api/v1/namespaces/"+string(namespace)+"/services/ingress-nginx-controller", &own); err != nil || len(own.Status.LoadBalancer.Ingress) == 0 {
		return err
	}
	var list routes
	if err := ask("/apis/networking.k8s.io/v1/ingresses", &list); err != nil {
		return err
	}
	for _, i := range list.Items {
		if i.Spec.IngressClassName != class || len(i.Status.LoadBalancer.Ingress) > 0 {
			continue
		}
		body, err := json.Marshal(map[string]any{"status": own.Status})
		if err != nil {
			return err
		}
		if err := call(http.MethodPatch, "/apis/networking.k8s.io/v1/namespaces/"+i.Metadata.Namespace+"/ingresses/"+i.Metadata.Name+"/status", body, nil); err != nil {
			return err
		}
	}
	return nil
}

// backend is the address of the Service for a host, "" if there is none.
func backend(class, host string) (string, error) {
	var list routes
	if err := ask("/apis/networking.k8s.io/v1/ingresses", &list); err != nil {
		return "", err
	}
	for _, i := range list.Items {
		for _, r := range i.Spec.Rules {
			if i.Spec.IngressClassName != class || r.Host != host || len(r.HTTP.Paths) == 0 {
				continue
			}
			s := r.HTTP.Paths[0].Backend.Service
			var svc struct{ Spec struct{ ClusterIP string } }
			if err := ask("/api/v1/namespaces/"+i.Metadata.Namespace+"/services/"+s.Name, &svc); err != nil {
				return "", err
			}
			return net.JoinHostPort(svc.Spec.ClusterIP, fmt.Sprint(s.Port.Number)), nil
		}
	}
	return "", nil
}

// ask reads from the API server.
func ask(path string, into any) error { return call(http.MethodGet, path, nil, into) }

// call asks the API server, as the pod's service account. A body is a JSON merge
// patch.
func call(method, path string, body []byte, into any) error {
	token, err := os.ReadFile(account + "token")
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(account + "ca.crt")
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}}}
	req, err := http.NewRequest(method, "https://"+net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))+path, bytes.NewReader(body)) //nolint:noctx // the client has a timeout
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	req.Header.Set("Authorization", "Bearer "+string(token))
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, resp.Status)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(into)
}
