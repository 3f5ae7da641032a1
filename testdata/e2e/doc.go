// Package e2e holds tests on a real Kubernetes node without a way out. They have
// the build tag e2e and run inside a box (testdata/cluster/box): `make e2e`.
//
// Inside, KUBECONFIG is an administrator's, and every registry that a pod names
// is looked for on 127.0.0.1:5000 over plain HTTP, which the tests serve
// themselves. BOX_APP is a static program that runs in an image of its own
// (testdata/cluster/app, testdata/cluster/appimage).
package e2e
