package certmanager

import (
	"context"
	"fmt"
	"regexp"
	"slices"

	cluster "github.com/airlock-project/airlock/install/internal/kube"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Reasons with which cert-manager always ends its tries: nothing happens until
// somebody changes the issuer or its Secret (pkg/issuer/*/setup.go).
var ended = []string{"ErrInvalidKeyPair", "InvalidConfig", "InvalidURL"}

// under tells, for reasons that also stand for what cert-manager tries again, by
// which words it has ended its tries. A refusal of the ACME server is 4xx; it is
// said as "status urn:…: detail". An authority that is not trusted is tried
// again, but only another caBundle helps.
var under = map[string]*regexp.Regexp{
	"ErrRegisterACMEAccount": regexp.MustCompile(`: 4\d\d urn:|external account binding key data|x509: certificate`),
	"ErrUpdateACMEAccount":   regexp.MustCompile(`: ?4\d\d urn:|x509: certificate`),
	"ErrVerifyACMEAccount":   regexp.MustCompile(`^Account private key is invalid: |is not of type RSA|disableAccountKeyGeneration`),
	"InvalidSolver":          regexp.MustCompile(`does not have key`),
	"VaultError":             regexp.MustCompile(`cannot be empty|require[ds]|cannot be set on|cannot be used with|x509: certificate`),
}

// final says whether what the issuer's condition says will not change by itself.
// A Secret that is missing is looked for: cert-manager may have said so before it
// was made, and looks again when it is.
func (w *work) final(ctx context.Context, o *unstructured.Unstructured) (bool, error) {
	_, reason, message := cluster.Condition(o, "Ready")
	if slices.Contains(ended, reason) {
		return true, nil
	}
	if m := lost.FindStringSubmatch(message); m != nil {
		_, err := w.Clientset().CoreV1().Secrets(w.Namespace).Get(ctx, m[1], metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		if err != nil {
			return true, fmt.Errorf("read secret %s/%s: %w", w.Namespace, m[1], w.Explain(err))
		}
		return false, nil
	}
	words := under[reason]
	return words != nil && words.MatchString(message), nil
}

// failed says whether a request for a Certificate has ended without one;
// cert-manager tries again after an hour at the earliest.
func failed(o *unstructured.Unstructured) (string, bool) {
	status, reason, message := cluster.Condition(o, "Issuing")
	if status != "False" || stale(o, "Issuing") || !slices.Contains([]string{"Failed", "Denied", "InvalidRequest", "InvalidCertificate"}, reason) {
		return "", false
	}
	return reason + ": " + message, true
}

// stale says whether a condition is about an earlier state of the object. One
// that does not tell is not.
func stale(o *unstructured.Unstructured, kind string) bool {
	list, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, v := range list {
		c, ok := v.(map[string]any)
		if !ok || c["type"] != kind {
			continue
		}
		seen, ok := c["observedGeneration"].(int64)
		return ok && seen < o.GetGeneration()
	}
	return false
}
