// Package ecrtest is a stand-in for Amazon ECR: its API, and the registry.
package ecrtest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/airlock-project/airlock/mirror/target/targettest"
)

// StandIn is a stand-in for the API of Amazon ECR, for the real SDK to talk to
// under the service's own host names.
//
// Behaviour and where it is from:
//
//   - AWS JSON 1.1, X-Amz-Target AmazonEC2ContainerRegistry_V20150921.<Op>,
//     errors as 400 {"__type","message"}, expiresAt in seconds: observed with
//     the SDK.
//
//   - DescribeRepositories fails as a whole with RepositoryNotFoundException
//     where one name is missing: API reference.
//
//   - GetLifecyclePolicy without a policy: LifecyclePolicyNotFoundException.
//
//   - CreateRepository of one that exists: RepositoryAlreadyExistsException.
//
//   - The registry asks for Basic, and takes nothing into a repository that does
//     not exist, nor a tag that is there and immutable, not even with the same
//     digest: issues containers-roadmap#2380 and build-push-action.
//
// Not confirmed against the real service: the status of a refused tag (400
// here), the texts of messages, which right is
// checked first when a batch holds a repository that is forbidden and one that
// is missing, and the error that GetAccountSetting gives in partitions without
// blob mounting.
type StandIn struct {
	*targettest.Server
	Registry targettest.Registry // behind the registry's own host

	Mu        sync.Mutex // guards what follows
	Now       time.Time
	Region    string
	Password  string // of the registry login
	Stale     string // a password that was good once
	Expires   time.Time
	Repos     map[string]map[string]any
	Policies  map[string]string
	Hidden    map[string]bool // repositories this account may not describe
	Mounting  string
	Templates []map[string]any
	Faults    map[string]Fault // by operation
	Calls     []string         // operations, in order
	Created   []map[string]any
}

// Fault is an error of the API.
type Fault struct{ Code, Message string }

const account = "123456789012"

// New starts a stand-in for registries of account 123456789012.
func New(t testing.TB) *StandIn {
	t.Helper()
	s := &StandIn{
		Now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), Region: "us-gov-west-1", Password: "secret-login-of-ecr",
		Repos: map[string]map[string]any{}, Policies: map[string]string{}, Hidden: map[string]bool{}, Mounting: "DISABLED",
		Faults: map[string]Fault{},
	}
	s.Expires = s.Now.Add(12 * time.Hour)
	s.Server = targettest.Serve(t, s,
		"api.ecr.us-gov-west-1.amazonaws.com", "api.ecr.us-east-1.amazonaws.com", "api.ecr.cn-north-1.amazonaws.com.cn",
		"api.ecr.us-iso-east-1.c2s.ic.gov", "api.ecr-fips.us-gov-west-1.amazonaws.com", "ecr.us-east-1.api.aws",
		"vpce-0a1b-c2d3.api.ecr.us-gov-west-1.vpce.amazonaws.com",
		"*.dkr.ecr.us-gov-west-1.amazonaws.com", "*.dkr.ecr.us-east-1.amazonaws.com")
	return s
}

// Count says how often an operation was asked for.
func (s *StandIn) Count(op string) int {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	n := 0
	for _, c := range s.Calls {
		if c == op {
			n++
		}
	}
	return n
}

// ServeHTTP answers for the API and for the registry, by host.
func (s *StandIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.Host, ".dkr.ecr.") {
		s.serveRegistry(w, r)
		return
	}
	s.Mu.Lock()
	defer s.Mu.Unlock()
	op, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "AmazonEC2ContainerRegistry_V20150921.")
	if !ok || !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ") {
		s.fail(w, Fault{"MissingAuthenticationTokenException", "Missing Authentication Token"})
		return
	}
	s.Calls = append(s.Calls, op)
	if f, ok := s.Faults[op]; ok {
		s.fail(w, f)
		return
	}
	if !strings.Contains(r.Header.Get("Authorization"), "/"+s.Region+"/ecr/aws4_request") {
		s.fail(w, Fault{"InvalidSignatureException", "Credential should be scoped to a valid region."})
		return
	}
	var in map[string]any
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		s.fail(w, Fault{"SerializationException", err.Error()})
		return
	}
	out, f := s.Answer(op, in)
	if f.Code != "" {
		s.fail(w, f)
		return
	}
	s.Write(w, http.StatusOK, out)
}

func (s *StandIn) fail(w http.ResponseWriter, f Fault) {
	s.Write(w, http.StatusBadRequest, map[string]any{"__type": f.Code, "message": f.Message})
}

// Write answers as the API does.
func (s *StandIn) Write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a client that went away is the test's business
}

// Answer answers one operation.
func (s *StandIn) Answer(op string, in map[string]any) (any, Fault) {
	name, _ := in["repositoryName"].(string)
	switch op {
	case "GetAuthorizationToken":
		return map[string]any{"authorizationData": []any{map[string]any{
			"authorizationToken": base64.StdEncoding.EncodeToString([]byte("AWS:" + s.Password)),
			"expiresAt":          s.Expires.Unix(),
			"proxyEndpoint":      "https://" + account + ".dkr.ecr." + s.Region + ".amazonaws.com",
		}}}, Fault{}
	case "DescribeRepositories":
		return s.describe(in)
	case "CreateRepository":
		if s.Repos[name] != nil {
			return nil, Fault{"RepositoryAlreadyExistsException", "The repository with name '" + name + "' already exists"}
		}
		in["repositoryArn"] = "arn"
		s.Repos[name] = in
		s.Created = append(s.Created, in)
		return map[string]any{"repository": map[string]any{"repositoryName": name}}, Fault{}
	case "GetLifecyclePolicy":
		if p := s.Policies[name]; p != "" {
			return map[string]any{"lifecyclePolicyText": p}, Fault{}
		}
		return nil, Fault{"LifecyclePolicyNotFoundException", "Lifecycle policy does not exist"}
	case "GetAccountSetting":
		return map[string]any{"name": in["name"], "value": s.Mounting}, Fault{}
	case "DescribeRepositoryCreationTemplates":
		return map[string]any{"repositoryCreationTemplates": s.Templates}, Fault{}
	}
	return nil, Fault{"UnknownOperationException", op}
}

func (s *StandIn) describe(in map[string]any) (any, Fault) {
	if in["registryId"] != account {
		return nil, Fault{"InvalidParameterException", fmt.Sprintf("registryId %v", in["registryId"])}
	}
	names, _ := in["repositoryNames"].([]any)
	if len(names) > 100 {
		return nil, Fault{"InvalidParameterException", "more than 100 names"}
	}
	var list []any
	for _, n := range names {
		name, _ := n.(string)
		if s.Hidden[name] {
			return nil, Fault{"AccessDeniedException", "User: arn:aws-us-gov:iam::123456789012:user/m is not authorized to perform: ecr:DescribeRepositories"}
		}
		r := s.Repos[name]
		if r == nil {
			return nil, Fault{"RepositoryNotFoundException", "The repository with name '" + name + "' does not exist in the registry with id '" + account + "'"}
		}
		list = append(list, map[string]any{
			"repositoryName": name, "imageTagMutability": r["imageTagMutability"], "imageTagMutabilityExclusionFilters": r["imageTagMutabilityExclusionFilters"],
		})
	}
	slices.Reverse(list) // no order is promised
	return map[string]any{"repositories": list}, Fault{}
}

// serveRegistry answers under the registry's own host.
func (s *StandIn) serveRegistry(w http.ResponseWriter, r *http.Request) {
	s.Mu.Lock()
	refusal := s.letIn(w, r)
	s.Mu.Unlock()
	if refusal.Status != 0 {
		refusal.Write(w)
		return
	}
	s.Registry.ServeHTTP(w, r)
}

func (s *StandIn) letIn(w http.ResponseWriter, r *http.Request) targettest.Refusal {
	user, password, ok := r.BasicAuth()
	switch {
	case ok && s.Stale != "" && password == s.Stale:
		return targettest.Refusal{Status: 403, Code: "DENIED", Message: "Your authorization token has expired. Reauthenticate and try again."}
	case !ok || user != "AWS" || password != s.Password:
		w.Header().Set("WWW-Authenticate", `Basic realm="https://`+r.Host+`/",service="ecr.amazonaws.com"`)
		return targettest.Refusal{Status: 401, Code: "DENIED", Message: "no basic auth credentials"}
	}
	name := targettest.Repository(r.URL.Path)
	if name == "" {
		return targettest.Refusal{}
	}
	repo := s.Repos[name]
	if repo == nil {
		return targettest.Refusal{Status: 404, Code: "NAME_UNKNOWN", Message: "The repository with name '" + name + "' does not exist in the registry with id '" + account + "'"}
	}
	if tag := targettest.Tag(r); tag != "" && repo["imageTagMutability"] == "IMMUTABLE" {
		if _, there := s.Registry.Has(name, tag); there {
			return targettest.Refusal{Status: 400, Code: "TAG_INVALID", Message: "The image tag '" + tag + "' already exists in the '" + name + "' repository and cannot be overwritten because the tag is immutable."}
		}
	}
	return targettest.Refusal{}
}
