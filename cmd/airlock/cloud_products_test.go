package main

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/airlock-project/airlock/mirror/target/acr/acrtest"
	"github.com/airlock-project/airlock/mirror/target/ecr/ecrtest"
	"github.com/airlock-project/airlock/mirror/target/gar/gartest"
	"github.com/airlock-project/airlock/mirror/target/harbor/harbortest"
	"github.com/airlock-project/airlock/mirror/target/targettest"
)

// dockerLogin writes a docker config with a login.
func (c *cloud) dockerLogin(host, user, password string) {
	c.t.Helper()
	dir := filepath.Join(c.dir, ".docker")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		c.t.Fatal(err)
	}
	login := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	c.secrets = append(c.secrets, login)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, host, login), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

const ecrHost = "123456789012.dkr.ecr.us-gov-west-1.amazonaws.com"

func newECR(t *testing.T) (*cloud, *ecrtest.StandIn) {
	s := ecrtest.New(t)
	s.Expires = time.Now().Add(12 * time.Hour)
	c := newCloud(t, s.Server, &s.Registry, ecrHost, "api.ecr.us-gov-west-1.amazonaws.com")
	c.env = map[string]string{"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret-key-of-aws", "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1"}
	c.secrets = []string{"secret-key-of-aws", s.Password, "AWS:" + s.Password}
	c.to, c.first = ecrHost+"/airlock", "airlock/team/app"
	return c, s
}

func TestMirrorToECR(t *testing.T) {
	t.Parallel()
	c, s := newECR(t)
	c.login = "Amazon ECR token, by environment AWS_ACCESS_KEY_ID"
	c.creates = "create-repository airlock/team/app"
	c.missing = `repository "airlock/team/app" does not exist in account 123456789012, region us-gov-west-1`
	c.suite()
	if s.Count("CreateRepository") != 3 {
		t.Errorf("CreateRepository was called %d times, want 3", s.Count("CreateRepository"))
	}

	s.Mu.Lock()
	s.Repos["airlock/team/app"]["imageTagMutability"] = "IMMUTABLE"
	s.Mu.Unlock()
	out, _ := c.mirror(0, "--to", c.to, "--dry-run")
	c.says(out, "tag-immutable", `tags of "airlock/team/app" are immutable: "v1"`)
	c.mirror(0, "--to", c.to)

	out, _ = c.mirror(0, "--to", c.to+"/set", "--dry-run", "--create-with", "immutable=true", "--create-with", "mutable-tags=sha256-*", "--create-with", "tag.owner=us", "--create-with", "scan=true")
	c.says(out, "create-repository airlock/set/team/app", "imageTagMutability=IMMUTABLE_WITH_EXCLUSION", "sha256-*", "owner", "us")
	_, errs := c.mirror(4, "--to", c.to, "--create-with", "public=true")
	c.says(errs, `"public=true": for ecr it is one of immutable`)

	c.refuses("denied", targettest.Refusal{Status: 403, Code: "DENIED", Message: "User: arn:aws-us-gov:iam::123456789012:user/m is not authorized to perform: ecr:InitiateLayerUpload on resource: arn:aws-us-gov:ecr:us-gov-west-1:123456789012:repository/airlock/denied/team/app"},
		"not authorized to perform: ecr:InitiateLayerUpload", "allow ecr:InitiateLayerUpload on arn:aws-us-gov:ecr:us-gov-west-1:123456789012:repository/airlock/denied/", "ecr:GetAuthorizationToken on *")
	s.Mu.Lock()
	s.Faults["CreateRepository"] = ecrtest.Fault{Code: "LimitExceededException", Message: "The operation did not succeed because it would have exceeded a service limit"}
	s.Mu.Unlock()
	_, errs = c.mirror(1, "--to", c.to+"/quota")
	c.says(errs, `create repository "airlock/quota/`, "Service Quotas, Amazon ECR, region us-gov-west-1")
}

// The wrong ways to talk to ECR that people find.
func TestMirrorToECRWrongly(t *testing.T) {
	t.Parallel()
	c, s := newECR(t)
	fault := func(code, message string) {
		s.Mu.Lock()
		defer s.Mu.Unlock()
		s.Faults["GetAuthorizationToken"], s.Faults["DescribeRepositories"] = ecrtest.Fault{Code: code, Message: message}, ecrtest.Fault{Code: code, Message: message}
	}
	fault("ExpiredTokenException", "The security token included in the request is expired")
	_, errs := c.mirror(1, "--to", c.to)
	c.says(errs, ecrHost, "ExpiredTokenException", "renew the AWS credentials")
	fault("UnrecognizedClientException", "The security token included in the request is invalid.")
	_, errs = c.mirror(1, "--to", c.to)
	c.says(errs, "credentials of partition aws-us-gov", "environment AWS_ACCESS_KEY_ID")
	out, _ := c.run(1, "registry", "check", c.to)
	c.says(out, "fail     credentials", "UnrecognizedClientException")

	// A CA that is not trusted: the API is what is asked first.
	was := c.flags
	c.flags = c.flags[2:]
	_, errs = c.mirror(1, "--to", c.to)
	c.says(errs, "certificate signed by unknown authority", "with --ca-file")
	c.flags = was

	// A login that ended, and no AWS credentials to make another.
	delete(c.env, "AWS_ACCESS_KEY_ID")
	_, errs = c.mirror(1, "--to", c.to)
	c.says(errs, ecrHost, "find AWS credentials", "AWS_PROFILE")
	s.Mu.Lock()
	s.Stale = "secret-old-login-of-ecr"
	clear(s.Faults)
	s.Mu.Unlock()
	c.secrets = append(c.secrets, s.Stale)
	c.dockerLogin(ecrHost, "AWS", s.Stale)
	_, errs = c.mirror(1, "--to", c.to)
	c.says(errs, "403", "lasts 12 hours")

	// One that is good pushes into what is there without any AWS credentials.
	c.dockerLogin(ecrHost, "AWS", s.Password)
	s.Mu.Lock()
	s.Repos["airlock/team/app"], s.Repos["airlock/team/side"], s.Repos["airlock/lock/demo"] = map[string]any{}, map[string]any{}, map[string]any{}
	s.Mu.Unlock()
	out, errs = c.mirror(0, "--to", c.to)
	c.says(out, "3 items sent")
	c.says(errs, "login for "+ecrHost)

	// Names that are nobody's: nothing leaves this machine.
	for to, words := range map[string][]string{
		"123456789012.dkr.ecr.cn-north-1.amazonaws.com/x": {"cn-north-1", "aws-cn"},
		"12345678901.dkr.ecr.us-east-1.amazonaws.com/x":   {"12345678901.dkr.ecr.us-east-1.amazonaws.com"},
		"public.ecr.aws/x/y":                              {"ACCOUNT.dkr.ecr.REGION.amazonaws.com"},
	} {
		_, errs = c.mirror(4, "--to", to)
		c.says(errs, words...)
	}
}

// Instance and container roles answer on loopback and link-local addresses.
func TestMirrorToECRByContainerRole(t *testing.T) {
	t.Parallel()
	c, _ := newECR(t)
	role := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "secret-pod-token" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprintf(w, `{"AccessKeyId":"ASIAEXAMPLE","SecretAccessKey":"secret-key-of-role","Token":"secret-session","Expiration":%q}`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	t.Cleanup(role.Close)
	c.secrets = append(c.secrets, "secret-pod-token", "secret-key-of-role", "secret-session")
	c.env = map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": role.URL + "/v1/credentials", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "secret-pod-token"}
	out, _ := c.run(0, "registry", "check", c.to)
	c.says(out, "ok       credentials     Amazon ECR token, by CredentialsEndpointProvider")
}

const garHost = "europe-west1-docker.pkg.dev"

func newGAR(t *testing.T) (*cloud, *gartest.StandIn) {
	s := gartest.New(t)
	c := newCloud(t, s.Server, &s.Registry, garHost, "artifactregistry.googleapis.com", "oauth2.googleapis.com", "sts.googleapis.com", "iamcredentials.googleapis.com")
	c.env = map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": s.KeyFile(), "NO_GCE_CHECK": "true"}
	c.secrets = []string{"ya29.", "PRIVATE KEY"}
	c.to, c.first = garHost+"/acme/releases", "acme/releases/team/app"
	return c, s
}

func TestMirrorToArtifactRegistry(t *testing.T) {
	t.Parallel()
	c, s := newGAR(t)
	c.login = "service account key mirror@acme.iam.gserviceaccount.com (GOOGLE_APPLICATION_CREDENTIALS)"
	c.creates = "create-repository projects/acme/locations/europe-west1/repositories/releases"
	c.missing = "projects/acme/locations/europe-west1/repositories/releases"
	c.suite()

	s.Mu.Lock()
	s.Repos["projects/acme/locations/europe-west1/repositories/releases"] = `{"format":"DOCKER","mode":"STANDARD_REPOSITORY","dockerConfig":{"immutableTags":true}}`
	s.Mu.Unlock()
	out, _ := c.mirror(0, "--to", c.to, "--dry-run")
	c.says(out, "tag-immutable")
	c.mirror(0, "--to", c.to)

	c.refuses("denied", targettest.Refusal{Status: 403, Code: "DENIED", Message: `Permission "artifactregistry.repositories.uploadArtifacts" denied on resource "projects/acme/locations/europe-west1/repositories/releases" (or it may not exist)`},
		"uploadArtifacts", "mirror@acme.iam.gserviceaccount.com", "roles/artifactregistry.writer")
}

func TestMirrorToArtifactRegistryWrongly(t *testing.T) {
	t.Parallel()
	c, s := newGAR(t)
	_, errs := c.mirror(4, "--to", garHost)
	c.says(errs, "PROJECT/REPOSITORY")

	s.Mu.Lock()
	s.Skew = -20 * time.Minute
	s.Mu.Unlock()
	_, errs = c.mirror(1, "--to", c.to)
	c.says(errs, "clock")
	s.Mu.Lock()
	s.Skew, s.Deleted = 0, true
	s.Mu.Unlock()
	_, errs = c.mirror(1, "--to", c.to)
	c.says(errs, "mirror@acme.iam.gserviceaccount.com", "key")

	c.env = map[string]string{"NO_GCE_CHECK": "true"}
	_, errs = c.mirror(1, "--to", c.to)
	c.says(errs, garHost, "find Google credentials", "gcloud auth application-default login")
}

// A machine of Google's gets its token from the metadata server.
func TestMirrorToArtifactRegistryByMetadata(t *testing.T) {
	t.Parallel()
	c, _ := newGAR(t)
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Metadata-Flavor", "Google")
		switch r.URL.Path {
		case "/computeMetadata/v1/instance/service-accounts/default/token":
			gartest.Reply(w, 200, `{"access_token":"ya29.secret-metadata","expires_in":3599,"token_type":"Bearer"}`)
		default:
			gartest.Reply(w, 404, "")
		}
	}))
	t.Cleanup(metadata.Close)
	c.env = map[string]string{"GCE_METADATA_HOST": metadata.Listener.Addr().String()}
	out, errs := c.mirror(0, "--to", c.to)
	c.says(out, "3 items sent")
	c.says(errs, "login at "+garHost+": metadata server")
}

const acrHost = "contoso.azurecr.us"

func newACR(t *testing.T) (*cloud, *acrtest.StandIn) {
	s := acrtest.New(t)
	c := newCloud(t, s.Server, &s.Registry, acrHost, "login.microsoftonline.us")
	c.env = map[string]string{"AZURE_TENANT_ID": acrtest.Tenant, "AZURE_CLIENT_ID": acrtest.AppID, "AZURE_CLIENT_SECRET": s.Secret}
	c.secrets = []string{s.Secret, s.Access, s.Refresh, "secret-of-admin", "secret-identity-header"}
	c.to, c.first = acrHost+"/airlock", "airlock/team/app"
	return c, s
}

func TestMirrorToACR(t *testing.T) {
	t.Parallel()
	c, s := newACR(t)
	c.login = "Entra ID, service principal " + acrtest.AppID + " (environment AZURE_CLIENT_SECRET)"
	c.suite()

	s.Mu.Lock()
	s.Metadata["airlock/locked/team/app"] = `{"imageName":"airlock/locked/team/app","changeableAttributes":{"writeEnabled":false}}`
	s.Mu.Unlock()
	out, _ := c.mirror(0, "--to", c.to+"/locked", "--dry-run")
	c.says(out, "locked: airlock/locked/team/app")
	_, errs := c.mirror(3, "--to", c.to+"/locked")
	c.says(errs, "registry disallowed operation", "missing: contoso.azurecr.us/airlock/locked/team/app:v1", "az acr repository update")

	c.refuses("firewall", targettest.Refusal{Status: 403, Code: "DENIED", Message: "client with IP '203.0.113.7' is not allowed access. Refer https://aka.ms/acr/firewall to grant access."},
		"203.0.113.7", "firewall rules")
	if len(s.Leaks) > 0 {
		t.Errorf("secrets went to %q", s.Leaks)
	}
}

func TestMirrorToACRWrongly(t *testing.T) {
	t.Parallel()
	c, s := newACR(t)
	c.env["AZURE_CLIENT_SECRET"] = "secret-of-somebody"
	c.secrets = append(c.secrets, "secret-of-somebody")
	_, errs := c.mirror(1, "--to", c.to)
	c.says(errs, acrHost, "7000215", "check AZURE_CLIENT_SECRET")
	out, _ := c.run(1, "registry", "check", c.to)
	c.says(out, "fail     credentials", "check AZURE_CLIENT_SECRET")

	// The registry does not admit the identity.
	c.env["AZURE_CLIENT_SECRET"] = s.Secret
	s.Mu.Lock()
	s.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/oauth2/exchange" {
			return false
		}
		acrtest.Refuse(w, 401, "UNAUTHORIZED", "authentication required")
		return true
	}
	s.Mu.Unlock()
	_, errs = c.mirror(1, "--to", c.to)
	c.says(errs, "principal "+acrtest.AppID, "AcrPush on registry contoso", "ABAC")
	s.Mu.Lock()
	s.Fault = nil
	s.Mu.Unlock()

	// The admin user's login is stored; there is no identity of Azure's.
	c.env = map[string]string{}
	c.dockerLogin(acrHost, "admin", "secret-of-admin")
	c.env["IDENTITY_ENDPOINT"], c.env["IDENTITY_HEADER"] = "http://127.0.0.1:1/msi", "x"
	out, errs = c.mirror(0, "--to", c.to)
	c.says(out, "3 items sent")
	c.says(errs, "login for "+acrHost)
}

func TestMirrorToACRByManagedIdentity(t *testing.T) {
	t.Parallel()
	c, s := newACR(t)
	c.env = s.ManagedIdentity(t)
	out, errs := c.mirror(0, "--to", c.to)
	c.says(out, "3 items sent")
	c.says(errs, "login at "+acrHost+": Entra ID, managed identity")
}

const harborHost = "harbor.site.test"

func newHarbor(t *testing.T) (*cloud, *harbortest.StandIn) {
	s := harbortest.New(t)
	c := newCloud(t, s.Server, &s.Registry, harborHost)
	c.secrets = []string{harbortest.Secret, harbortest.User + ":" + harbortest.Secret, harbortest.Robot + ":" + harbortest.Secret}
	c.to, c.first = harborHost+"/apps", "apps/team/app"
	return c, s
}

// The login is docker's, and serves Harbor's API too.
func TestMirrorToHarbor(t *testing.T) {
	t.Parallel()
	c, s := newHarbor(t)
	c.dockerLogin(harborHost, harbortest.User, harbortest.Secret)
	c.login = "login for " + harborHost
	c.creates = "create-project apps public=false"
	c.missing = `Harbor project "apps" does not exist`
	c.suite()

	rules := "GET /api/v2.0/projects/apps/immutabletagrules"
	s.Mu.Lock()
	s.Answers[rules] = harbortest.Answer{Status: 200, Body: `[{"id":4,"tag_selectors":[{"kind":"doublestar","decoration":"matches","pattern":"v*"}],"scope_selectors":{"repository":[{"kind":"doublestar","decoration":"repoMatches","pattern":"**"}]}}]`}
	s.Mu.Unlock()
	out, _ := c.mirror(0, "--to", c.to, "--dry-run")
	c.says(out, "tag-immutable", "immutable tag rule 4", "team/app:v1")
	c.mirror(0, "--to", c.to)

	c.refuses("quota", targettest.Refusal{Status: 403, Code: "DENIED", Message: "adding 30.0 MiB of storage resource, which when updated to current usage of 1.0 KiB will exceed the configured upper limit of 20.0 MiB."},
		"will exceed the configured upper limit of 20.0 MiB", "raise the storage quota of project apps")
	s.Mu.Lock()
	s.Answers["GET /api/v2.0/projects/apps/summary"] = harbortest.Answer{Status: 200, Body: `{"quota":{"hard":{"storage":70000},"used":{"storage":69000}}}`}
	s.Mu.Unlock()
	out, errs := c.mirror(1, "--to", c.to+"/room", "--dry-run")
	c.says(out+errs, "quota-exceeded", "project apps has room for")
	s.Mu.Lock()
	s.Readonly = true
	s.Mu.Unlock()
	_, errs = c.mirror(1, "--to", c.to)
	c.says(errs, "read-only mode")
}

func TestMirrorToHarborWrongly(t *testing.T) {
	t.Parallel()
	c, _ := newHarbor(t)
	_, errs := c.mirror(1, "--to", c.to)
	c.says(errs, harborHost, "there are none", "docker login "+harborHost)
	_, errs = c.mirror(1, "--to", c.to, "--anonymous")
	c.says(errs, harborHost, "there are none")
	was := c.flags
	c.flags = c.flags[2:] // without --ca-file
	_, errs = c.mirror(1, "--to", c.to)
	c.says(errs, "secure the connection to "+harborHost, "certificate signed by unknown authority", "of "+harborHost+" with --ca-file")
	c.flags = was
	for _, to := range []string{harborHost + "/apps,other.test/apps", harborHost + "/apps other.test"} {
		_, errs = c.mirror(4, "--to", to)
		c.says(errs, "give one REGISTRY", "once for each registry")
		_, errs = c.run(4, "registry", "check", to)
		c.says(errs, "give one REGISTRY")
	}
	_, errs = c.run(4, "registry", "check", "https://"+c.to)
	c.says(errs, "without a scheme", "leave out what stands before the host")

	// A wrong password, which the token service answers with a token for nobody.
	c.dockerLogin(harborHost, harbortest.User, "secret-of-yesterday")
	c.secrets = append(c.secrets, "secret-of-yesterday")
	_, errs = c.mirror(1, "--to", c.to)
	c.says(errs, harborHost, "login-refused", `check user "operator"`)
	out, _ := c.run(1, "registry", "check", c.to)
	c.says(out, "fail     credentials", "401")

	// Robots of a project make none; and names that a shell has eaten.
	c.dockerLogin(harborHost, harbortest.Robot, harbortest.Secret)
	_, errs = c.mirror(1, "--to", c.to)
	c.says(errs, "Only system level robot can create project", "project:create make project apps")
	c.dockerLogin(harborHost, "robot+mirror", harbortest.Secret)
	_, errs = c.mirror(1, "--to", c.to)
	c.says(errs, "single quotes")

	// Logins that are given come before those that are stored.
	file := filepath.Join(c.dir, "password")
	if err := os.WriteFile(file, []byte(harbortest.Secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs = c.mirror(0, "--to", c.to, "--username", harbortest.User, "--password-file", file)
	c.says(out, "3 items sent")
	c.says(errs, "login at "+harborHost+": given for this run")
	c.env = map[string]string{"AIRLOCK_REGISTRY_USERNAME": harbortest.User, "AIRLOCK_REGISTRY_PASSWORD": harbortest.Secret}
	_, errs = c.mirror(0, "--to", c.to)
	c.says(errs, "login at "+harborHost+": environment AIRLOCK_REGISTRY_USERNAME")
	c.env = map[string]string{"HARBOR_URL": "https://" + harborHost, "HARBOR_USERNAME": harbortest.User, "HARBOR_PASSWORD": harbortest.Secret}
	_, errs = c.mirror(0, "--to", c.to)
	c.says(errs, "login at "+harborHost+": environment HARBOR_USERNAME")
}
