// App is the only program in the images that end-to-end tests run on a real
// node: the pause process of every pod, a web server, a job, or a stand-in for an
// ingress controller. Its first argument says which.
//
//	app pause          waits for a signal and reaps orphans
//	app job [TEXT]     prints a text and succeeds
//	app fail [TEXT]    prints a text and fails
//	app ingress CLASS  does on :8080 what Ingresses of a class say
//	app                serves on :8080, /healthz and everything else
package main

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	mode, text := "serve", ""
	if len(os.Args) > 1 {
		mode, text = os.Args[1], strings.Join(os.Args[2:], " ")
	}
	switch mode {
	case "pause":
		pause()
	case "job":
		fmt.Println("job done", text)
	case "fail":
		fmt.Println("job failed", text)
		os.Exit(1)
	case "ingress":
		ingress(text)
	default:
		serve()
	}
}

// pause is the parent of whatever a pod orphans.
func pause() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for s := range signals {
		if s != syscall.SIGCHLD {
			return
		}
		for pid := 1; pid > 0; {
			pid, _ = syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		}
	}
}

func serve() {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		name, _ := os.Hostname()
		fmt.Fprintln(w, "hello from", name)
	})
	listen(mux)
}

// listen serves until it is told to end.
func listen(h http.Handler) {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	go func() {
		<-end
		os.Exit(0)
	}()
	fmt.Println("listening on :8080")
	fmt.Println(http.ListenAndServe(":8080", h))
	os.Exit(1)
}
