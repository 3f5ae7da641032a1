package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/awsstandin"
	"github.com/airlock-project/airlock/testdata/nameserver"
	"github.com/airlock-project/airlock/testdata/objectstore"
	"github.com/airlock-project/airlock/testdata/pki"
	"github.com/airlock-project/airlock/testdata/spacelift"
)

// nowhere answers no more than what a site file must hold, and leads nowhere.
func nowhere(t *testing.T) map[string]any {
	t.Helper()
	dir := t.TempDir()
	return map[string]any{
		"hosts.server": netHost, "license.token": "a-token-to-come", "db.url": "postgres://spacelift:to-come@127.0.0.1:1/spacelift",
		"storage.type": "minio", "storage.minio.endpoint": "127.0.0.1:1",
		"tls.cert_file": filepath.Join(dir, "server.pem"), "tls.key_file": filepath.Join(dir, "server.key"),
	}
}

// front puts a product's server behind a load balancer that has the site's
// certificate. Its issuer is the load balancer's URL.
func front(t *testing.T, cert tls.Certificate, uploads string) (s *spacelift.Server, at string) {
	t.Helper()
	srv := httptest.NewUnstartedServer(nil)
	at = "https://" + srv.Listener.Addr().String()
	s = spacelift.Start(t, spacelift.Options{Issuer: at, Uploads: uploads})
	ca, err := os.ReadFile(s.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	behind, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	proxy := httputil.NewSingleHostReverseProxy(behind)
	proxy.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	srv.Config.Handler, srv.Config.ErrorLog, srv.TLS = proxy, log.New(io.Discard, "", 0), &tls.Config{Certificates: []tls.Certificate{cert}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return s, at
}

// fullAnswers starts the servers that every platform has and answers with them.
func fullAnswers(t *testing.T, f *fullRun, root *pki.Authority, cert tls.Certificate) map[string]any {
	t.Helper()
	store := objectstore.New(t, false)
	store.Origin = storageOrigin
	endpoint, db := store.Endpoint(), fakeDatabase(t, 160004, nil)
	if f.near != nil {
		_, after, _ := strings.Cut(db, "@")
		local, _, _ := strings.Cut(after, "/")
		endpoint, db = f.near(endpoint), strings.Replace(db, local, f.near(local), 1)
	}
	s, at := front(t, cert, "http://"+endpoint)
	issuer := at // the product signs as what it listens on
	if f.near != nil {
		at = "https://" + f.near(strings.TrimPrefix(at, "https://"))
	}
	f.product, f.tokens = s, append(f.tokens, s.Tokens)
	f.secrets["database password, escaped"] = databaseEscaped
	copies := rowFile(t, []byte("a copy elsewhere"))
	in := storageInputs(store, map[string]any{
		"storage.manage": "create", "storage.bucket.binaries": "spacelift-binaries",
		"license.type": "jwt", "license.token": rowToken("RS256", 300), "license.reference": "contract 4711",
		"tls.ca_file": root.File(t), "trust.system_bundle": root.File(t), "db.url": db, "storage.minio.endpoint": endpoint,
		"network.flows":    []any{map[string]any{"from": "workers", "to": "server", "endpoint": at}},
		"networks.allowed": []any{"10.0.0.0/8"}, "validation.server_url": at, "validation.issuer": issuer,
		"admin.username": "root", "admin.password": "a-password-of-the-admin", "account.name": "enclave-1",
		"api.key_id": apiKeyID, "api.key_secret": apiKeySecret,
		"pool.steady": "20ms", "pool.poll": "5ms", "validation.poll": "1ms", "validation.run_within": "1m", "validation.repository": "infra/validation",
		"usage.from": "2026-01-01", "usage.until": "2026-01-20",
		"dr.versioned": []any{"states", "modules", "policy-inputs", "run-logs"}, "dr.key_escrow": true, "dr.bundle_copy": copies, "dr.ledger_copy": copies,
		"dr.drill_date": "2026-06-30", "dr.rpo": "1 h", "dr.rto": "8 h", "dr.owner": "platform team",
	})
	return in
}

// onpremAnswers are those of a site with everything that an isolated one can use:
// workers in the cluster, GitLab, single sign-on, a collector, Vault.
func onpremAnswers(t *testing.T, f *fullRun) map[string]any {
	t.Helper()
	const vcsToken = "glpat-of-the-enclave-vcs"
	root := pki.New(t, "Site A root")
	names := []string{netHost, "localhost", "127.0.0.1"}
	if f.host != "" {
		names = append(names, f.host)
	}
	cert := root.Server(t, names)
	chain, key := pki.Files(t, cert)
	vcs, vcsCA, _ := spacelift.TLS(t, spacelift.VCS(vcsToken))
	sso, ssoCA := idp(t, []string{"openid", "email"}, "")
	in := fullAnswers(t, f, root, cert)
	server, _ := in["validation.server_url"].(string)
	maps.Copy(in, map[string]any{
		"tls.cert_file": chain, "tls.key_file": key, "encryption.type": "rsa", "queue.type": "postgres",
		"networks.pods": []any{"10.244.0.0/16"}, "networks.services": []any{"10.96.0.0/12"}, "networks.nodes": []any{"192.168.7.0/24"}, "networks.database": []any{"192.168.7.9"},
		"networks.server_endpoint": strings.TrimPrefix(server, "https://"),
		"dns.resolvers":            []any{nameserver.Start(t, nameserver.Zone(t, netHost+". A 10.1.2.3"))}, "dns.server_addresses": []any{"10.1.2.3"},
		"pull.username": "puller", "pull.password": "password-of-the-puller",
		"vcs.type": "gitlab", "vcs.url": vcs, "vcs.token": vcsToken, "vcs.ca_file": vcsCA,
		"sso.type": "oidc", "sso.issuer": sso, "sso.ca_file": ssoCA, "admin.disable": true,
		"observability.promex_url": netHTTP(t, map[string]string{"/health": "ok", "/metrics": "spacelift_public_worker_queue 0\n"}),
		"telemetry.vendor":         "OpenTelemetry", "telemetry.endpoint": "http://" + netCollector(t),
		"federation.target": "Vault", "federation.issuer": in["validation.issuer"],
	})
	return in
}

// eksAnswers are those of a site in an isolated region of AWS: keys of KMS, queues
// of SQS, a certificate of ACM, workers on hosts of their own.
func eksAnswers(t *testing.T, f *fullRun) map[string]any {
	t.Helper()
	s := awsstandin.New(t)
	rowBalancer(s)
	s.Balancers[0].HealthPath, s.Balancers[0].HealthPort = "/readiness", "8080"
	for _, service := range []string{"kms", "sqs"} {
		s.Network.Endpoints["com.amazonaws.eu-central-1."+service] = "available"
	}
	s.Keys["enc"] = &awsstandin.Key{State: "Enabled", Usage: "ENCRYPT_DECRYPT", Spec: "SYMMETRIC_DEFAULT"}
	s.Keys["sig"] = &awsstandin.Key{State: "Enabled", Usage: "SIGN_VERIFY", Spec: "RSA_4096"}
	f.secrets["secret key of AWS"] = os.Getenv("AWS_SECRET_ACCESS_KEY")
	root := pki.New(t, "Site A root")
	cert := root.Server(t, []string{netHost, "localhost", "127.0.0.1"})
	broker := pki.Listen(t, &tls.Config{Certificates: []tls.Certificate{cert}}, refuseMQTT)
	vcs, vcsCA, _ := spacelift.TLS(t, spacelift.VCS("unused"))
	zone := nameserver.Zone(t, netHost+". CNAME lb.site-a.example.", "lb.site-a.example. A 10.1.2.3", "mqtt.site-a.example. A 10.1.2.4")
	in := fullAnswers(t, f, root, cert)
	maps.Copy(in, queues(s))
	maps.Copy(in, map[string]any{
		"infra.variables": map[string]any{"rds_engine_version": "16.6", "number_of_images_to_retain": 100},
		"infra.providers": map[string]any{"aws": "~> 6.0"}, "infra.modules": map[string]any{"terraform-aws-eks-spacelift-selfhosted": "v3.10.0"},
		"tls.mode": "acm", "tls.acm_arn": rowCert,
		"encryption.type": "kms", "encryption.kms.encryption_key_id": "enc", "encryption.kms.signing_key_id": "sig",
		"aws.vpc_id": "vpc-1", "aws.private_subnet_ids": []any{"subnet-a", "subnet-b"}, "aws.security_group_ids": []any{"sg-1"}, "aws.server_load_balancer": "spacelift",
		"networks.services": []any{"172.20.0.0/16"}, "networks.enclave": []any{"10.50.0.0/16"},
		"hosts.mqtt": "mqtt.site-a.example", "mqtt.endpoint": "tls://" + netLocal(broker), "mqtt.lb_address": broker,
		"workers.location": "external", "workers.kind": "docker",
		"dns.resolvers": []any{nameserver.Start(t, zone)}, "dns.server_target": "lb.site-a.example", "dns.mqtt_addresses": []any{"10.1.2.4"},
		"vcs.ca_file": vcsCA, "validation.repository_url": vcs + "/infra.git",
	})
	return in
}

var onpremEmpty = states{
	// Rules about names and defaults hold without anything being there.
	install.StatePass: "choose-hostnames mqtt-broker",
	install.StateFail: `verify-installation-archive license-expiry prepare-tls-certificate postgresql-database object-storage encryption message-queue
		configure-networking network-vpc-subnets kubernetes-deployments configure-kubectl-credentials`,
	install.StateBlocked: `create-kubernetes-namespace install-ingress-controller create-kubernetes-secrets reach-from-cluster deploy-helm-chart
		install-workerpool-controller deploy-worker-pool obtain-license-and-materials network-firewall-rules setup-registry-push-images render-charts configure-dns-records login-admin
		create-account issue-api-key setup-vcs-integration create-worker-pool prepare-runner-image default-runner-image verify-ui-loads verify-workers-connect names-from-cluster
		create-test-stack trigger-run usage-reporting hand-over-usage-data disaster-recovery`,
	install.StateSkipped: `minio-credentials escrow-encryption-key network-internet-gateway network-nat-gateway network-https-load-balancer
		network-mqtt-load-balancer mirror-terraform-providers vendor-terraform-modules review-terraform-variables deploy-infrastructure-terraform
		upload-launcher-binary eks-ingress-class install-cert-manager choose-issuer create-cluster-issuer distribute-ca-trust gke-database-grants image-pull-credentials
		deploy-ecs-services ecs-deployment vcs-gateway served-certificate configure-sso check-vcs-server attest-vcs-app prove-other-login disable-admin-login install-promex observability
		telemetry slack-integration telemetry-rollout cloud-integrations-oidc export-oidc-keys`,
}

var onpremReady = states{
	install.StatePass: `verify-installation-archive license-expiry choose-hostnames prepare-tls-certificate postgresql-database object-storage encryption
		message-queue mqtt-broker configure-networking network-vpc-subnets network-https-load-balancer network-firewall-rules setup-registry-push-images
		upload-launcher-binary distribute-ca-trust render-charts configure-dns-records served-certificate check-vcs-server setup-vcs-integration
		create-worker-pool default-runner-image verify-ui-loads verify-workers-connect create-test-stack trigger-run observability telemetry
		export-oidc-keys usage-reporting prove-other-login`,
	install.StateWarn: "prepare-runner-image", // the bundle has no runner for Ansible
	install.StateAttested: `obtain-license-and-materials escrow-encryption-key login-admin create-account configure-sso issue-api-key
		cloud-integrations-oidc hand-over-usage-data disaster-recovery`,
	install.StateWaived: `kubernetes-deployments configure-kubectl-credentials create-kubernetes-namespace install-ingress-controller
		create-kubernetes-secrets image-pull-credentials reach-from-cluster names-from-cluster deploy-helm-chart install-workerpool-controller deploy-worker-pool disable-admin-login
		telemetry-rollout`,
	install.StateSkipped: `minio-credentials network-internet-gateway network-nat-gateway network-mqtt-load-balancer mirror-terraform-providers
		vendor-terraform-modules review-terraform-variables deploy-infrastructure-terraform eks-ingress-class install-cert-manager choose-issuer create-cluster-issuer
		gke-database-grants deploy-ecs-services ecs-deployment vcs-gateway attest-vcs-app install-promex slack-integration`,
}

var eksEmpty = states{
	install.StatePass: "choose-hostnames mqtt-broker",
	install.StateFail: `verify-installation-archive license-expiry prepare-tls-certificate encryption message-queue configure-networking
		network-vpc-subnets review-terraform-variables`,
	install.StateBlocked: `kubernetes-deployments configure-kubectl-credentials create-kubernetes-namespace eks-ingress-class create-kubernetes-secrets
		reach-from-cluster names-from-cluster deploy-helm-chart install-workerpool-controller deploy-worker-pool obtain-license-and-materials postgresql-database object-storage network-firewall-rules setup-registry-push-images render-charts
		configure-dns-records login-admin create-account issue-api-key setup-vcs-integration create-worker-pool prepare-runner-image default-runner-image
		verify-ui-loads verify-workers-connect create-test-stack trigger-run usage-reporting hand-over-usage-data disaster-recovery`,
	install.StateUnavailable: "mirror-terraform-providers vendor-terraform-modules deploy-infrastructure-terraform",
	install.StateSkipped: `minio-credentials escrow-encryption-key network-internet-gateway network-nat-gateway network-https-load-balancer
		network-mqtt-load-balancer upload-launcher-binary install-ingress-controller install-cert-manager choose-issuer create-cluster-issuer distribute-ca-trust
		gke-database-grants image-pull-credentials deploy-ecs-services ecs-deployment vcs-gateway served-certificate configure-sso check-vcs-server
		attest-vcs-app prove-other-login disable-admin-login install-promex observability telemetry slack-integration telemetry-rollout cloud-integrations-oidc export-oidc-keys`,
}

var eksReady = states{
	install.StatePass: `verify-installation-archive license-expiry choose-hostnames prepare-tls-certificate postgresql-database object-storage encryption
		message-queue mqtt-broker configure-networking network-vpc-subnets network-internet-gateway network-nat-gateway network-https-load-balancer
		network-mqtt-load-balancer network-firewall-rules review-terraform-variables setup-registry-push-images upload-launcher-binary distribute-ca-trust
		render-charts configure-dns-records served-certificate check-vcs-server setup-vcs-integration create-worker-pool default-runner-image
		verify-ui-loads verify-workers-connect create-test-stack trigger-run usage-reporting`,
	install.StateWarn:     "prepare-runner-image",
	install.StateAttested: `obtain-license-and-materials login-admin create-account issue-api-key hand-over-usage-data disaster-recovery`,
	install.StateWaived: `mirror-terraform-providers vendor-terraform-modules deploy-infrastructure-terraform kubernetes-deployments
		configure-kubectl-credentials create-kubernetes-namespace eks-ingress-class create-kubernetes-secrets reach-from-cluster names-from-cluster deploy-helm-chart`,
	install.StateSkipped: `minio-credentials escrow-encryption-key install-ingress-controller install-cert-manager choose-issuer create-cluster-issuer
		gke-database-grants image-pull-credentials deploy-ecs-services ecs-deployment vcs-gateway configure-sso attest-vcs-app
		install-workerpool-controller deploy-worker-pool prove-other-login disable-admin-login install-promex observability telemetry slack-integration telemetry-rollout
		cloud-integrations-oidc export-oidc-keys`,
}
