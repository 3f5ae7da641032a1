package certmanager

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/airlock-project/airlock/install"
	cluster "github.com/airlock-project/airlock/install/internal/kube"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	maxCA     = 1 << 20
	maxChain  = 20
	probeName = "airlock-probe-"
)

var challenges = schema.GroupVersionResource{Group: "acme.cert-manager.io", Version: "v1", Resource: "challenges"}

// issue has a certificate made, looks at it, and removes it.
func (w *work) issue(ctx context.Context) (found *install.Finding, err error) {
	certificates, err := w.resource(ctx, "Certificate")
	if err != nil {
		return nil, err
	}
	name := probeName + w.Name
	// What a probe left that was killed would prove nothing.
	if err := w.remove(ctx, name); err != nil {
		return nil, err
	}
	defer func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleaning)
		defer cancel()
		err = errors.Join(err, w.remove(late, name))
	}()
	o := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": apiVersion, "kind": "Certificate",
		"metadata": map[string]any{"name": name, "namespace": w.Namespace, "labels": map[string]any{"app.kubernetes.io/managed-by": cluster.Manager}},
		"spec": map[string]any{
			"secretName": name, "dnsNames": []any{w.Issue},
			"privateKey": map[string]any{"algorithm": "ECDSA", "size": int64(256), "rotationPolicy": "Always"},
			"issuerRef":  map[string]any{"group": "cert-manager.io", "kind": w.Kind, "name": w.Name},
		},
	}}
	_, err = certificates.Create(ctx, o, metav1.CreateOptions{FieldManager: cluster.Manager})
	reason, err := cluster.Refusal(w.Explain(err))
	if err != nil {
		return nil, fmt.Errorf("create certificate %s/%s: %w", w.Namespace, name, err)
	}
	if reason != "" {
		f := w.Report(codeReady, "a Certificate is refused: "+reason, w.fields(reason))
		return &f, nil
	}
	err = w.poll(ctx, func() (bool, error) {
		now, err := certificates.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return true, fmt.Errorf("read certificate %s/%s: %w", w.Namespace, name, w.Explain(err))
		}
		if said, ok := failed(now); ok {
			reason = said
			return true, nil
		}
		reason = cluster.Unmet(now, "Ready")
		return reason == "", nil
	})
	if err != nil {
		return nil, err
	}
	if reason != "" {
		return w.unissued(ctx, reason)
	}
	return w.chain(ctx, name)
}

// unissued says why nothing was issued in time: an ACME challenge that nobody
// answers, or else what the Certificate says.
func (w *work) unissued(ctx context.Context, reason string) (*install.Finding, error) {
	code := codeReady
	list, err := w.Dynamic().Resource(challenges).Namespace(w.Namespace).List(ctx, metav1.ListOptions{Limit: 100})
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("list challenges of %s: %w", w.Namespace, w.Explain(err))
	}
	if err == nil {
		for i := range list.Items {
			o := list.Items[i].Object
			name, _, _ := unstructured.NestedString(o, "spec", "dnsName")
			said, _, _ := unstructured.NestedString(o, "status", "reason")
			if name == w.Issue {
				code, reason = codeChallenge, cluster.Clean(said)
			}
		}
	}
	f := w.Report(code, fmt.Sprintf("no certificate for %s: %s", w.Issue, reason), w.fields(reason))
	return &f, nil
}

// chain verifies what was issued.
func (w *work) chain(ctx context.Context, name string) (*install.Finding, error) {
	s, err := w.Clientset().CoreV1().Secrets(w.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read secret %s/%s: %w", w.Namespace, name, w.Explain(err))
	}
	reason, err := w.verify(s)
	if err != nil || reason == "" {
		return nil, err
	}
	f := w.Report(codeChain, fmt.Sprintf("the certificate for %s is not one that clients trust: %s", w.Issue, reason), w.fields(reason))
	return &f, nil
}

// verify says what is wrong with the certificate in a Secret, "" if nothing is.
func (w *work) verify(s *corev1.Secret) (string, error) {
	list, err := parse(s.Data[corev1.TLSCertKey])
	if err != nil {
		return err.Error(), nil //nolint:nilerr // it is what is wrong with the certificate
	}
	if err := list[0].VerifyHostname(w.Issue); err != nil {
		return cluster.Clean(err.Error()), nil
	}
	if w.CA == "" {
		return "", nil
	}
	data, err := cluster.File(w.site, w.CA, maxCA)
	if err != nil {
		return "", fmt.Errorf("read authorities: %w", err)
	}
	options := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), DNSName: w.Issue}
	if !options.Roots.AppendCertsFromPEM(data) {
		return "", fmt.Errorf("read authorities: %s holds no certificate", w.CA)
	}
	for _, c := range list[1:] {
		options.Intermediates.AddCert(c)
	}
	if _, err := list[0].Verify(options); err != nil {
		return cluster.Clean(err.Error()) + "; its issuer is " + cluster.Clean(list[0].Issuer.String()), nil
	}
	return "", nil
}

func parse(data []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for len(out) < maxChain {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("its Secret holds no certificate that can be read")
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("its Secret holds no certificate")
	}
	return out, nil
}

// remove removes what issue made, if it is there.
func (w *work) remove(ctx context.Context, name string) error {
	certificates, err := w.resource(ctx, "Certificate")
	if err != nil {
		return err
	}
	err = certificates.Delete(ctx, name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("remove certificate %s/%s: %w", w.Namespace, name, w.Explain(err))
	}
	err = w.Clientset().CoreV1().Secrets(w.Namespace).Delete(ctx, name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("remove secret %s/%s: %w", w.Namespace, name, w.Explain(err))
	}
	return nil
}
