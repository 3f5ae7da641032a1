//go:build all

package main

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/airlock-project/airlock/testdata/cluster"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// startCluster starts a real control plane that the tests of this package
// share. Its pods stay pending.
var startCluster = sync.OnceValues(func() (*cluster.Cluster, error) {
	c, err := cluster.Run(cluster.Options{})
	if err == nil {
		atEnd = append(atEnd, func() {
			if err := c.Close(); err != nil {
				fmt.Println(err)
			}
		})
	}
	return c, err
})

func rowCluster(t *testing.T) *cluster.Cluster {
	t.Helper()
	c, err := startCluster()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// secretsOf writes the Opaque Secrets of a namespace, a line for each key: values
// here are of tests.
func secretsOf(t *testing.T, c kubernetes.Interface, namespace string) string {
	t.Helper()
	list, err := c.CoreV1().Secrets(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, s := range list.Items {
		fmt.Fprintf(&b, "%s %s\n", s.Name, s.Type)
		for _, key := range slices.Sorted(maps.Keys(s.Data)) {
			value := string(s.Data[key])
			if strings.ContainsAny(value, "\n\x00") {
				value = "base64 " + base64.StdEncoding.EncodeToString(s.Data[key])
			}
			fmt.Fprintf(&b, "  %s=%s\n", key, value)
		}
	}
	return b.String()
}
