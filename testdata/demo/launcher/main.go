// Command launcher stands in for a product's launcher in the demo: it answers health
// checks and does nothing else.
package main

import (
	"log"
	"net/http"
	"time"
)

func main() {
	http.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		if _, err := w.Write([]byte("launcher is up\n")); err != nil {
			log.Print(err)
		}
	})
	s := &http.Server{Addr: ":1983", ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(s.ListenAndServe())
}
