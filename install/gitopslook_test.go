package install

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

const pemKey = "-----BEGIN RSA PRIVATE KEY-----\nMIIBOgIBAAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf9Cnzj4p4WGeKLs1Pt8Qu\n-----END RSA PRIVATE KEY-----\n"

// openIn returns the fields of an object that look open.
func openIn(t *testing.T, text string) []string {
	t.Helper()
	var tree map[string]any
	if err := yaml.Unmarshal([]byte(text), &tree); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range openFields(Manifest{Tree: tree}) {
		out = append(out, f.field+": "+f.what)
	}
	return out
}

// TestOpenFields finds what is a secret in clear, and nothing that only refers to
// one.
func TestOpenFields(t *testing.T) {
	const clear, inURL, key = "a value in clear, and is called a secret", "a URL with a password in it", "a private key"
	const dsn, auth = "a connection string with a password in it", "an Authorization header"
	pod := func(container string) string {
		return "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {template: {spec: {containers: [" + container + "]}}}\n"
	}
	config := func(data string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata: " + data + "\n"
	}
	quoted := func(s string) string {
		raw, _ := json.Marshal(s)
		return string(raw)
	}
	const at = "spec.template.spec.containers[web]."
	for _, c := range []struct {
		name, object string
		want         []string
	}{
		{"env", pod(`{name: web, env: [{name: DB_PASSWORD, value: hunter2}, {name: HOST, value: db}]}`), []string{at + "env[DB_PASSWORD]: " + clear}},
		{"names", config(`{dbPassword: hunter2, SECRET_ACCESS_KEY: abc/def+, apiKey: k-12, SMTP_PASS: x1y2, authToken: deadbeef, privateKey: abcdef, clientSecret: Ab9-cd}`), []string{
			"data.SECRET_ACCESS_KEY: " + clear, "data.SMTP_PASS: " + clear, "data.apiKey: " + clear, "data.authToken: " + clear,
			"data.clientSecret: " + clear, "data.dbPassword: " + clear, "data.privateKey: " + clear,
		}},
		{"url", pod(`{name: web, env: [{name: DATABASE_URL, value: "postgres://app:hunter2@db:5432/app"}]}`), []string{at + "env[DATABASE_URL]: " + inURL}},
		{"argument", pod(`{name: web, args: [serve, --token=abcd1234, "--password", hunter2]}`), []string{at + "args[1]: " + clear, at + "args[2]: " + clear}},
		{"key", config(quotedMap("tls.pem", pemKey, quoted)), []string{"data[tls.pem]: " + key}},
		{"key in base64", config(quotedMap("x", base64.StdEncoding.EncodeToString([]byte(pemKey)), quoted)), []string{"data.x: " + key}},
		{"key in a line", config(quotedMap("app.json", `{"key": "`+strings.ReplaceAll(pemKey, "\n", `\n`)+`"}`, quoted)), []string{"data[app.json]: " + key}},
		{"key in an annotation", "apiVersion: v1\nkind: Service\nmetadata: {name: web, annotations: " + quotedMap("a", pemKey, quoted) + "}\n", []string{"metadata.annotations.a: " + key}},
		{"file", config(quotedMap("app.yaml", "db:\n  host: db\n  password: hunter2\n# token: old\n  token: ${TOKEN}\n", quoted)), []string{"data[app.yaml], password: " + clear}},
		{"json file", config(quotedMap("app.json", "{\n  \"password\": \"hunter2\",\n  \"user\": \"x\"\n}\n", quoted)), []string{"data[app.json], password: " + clear}},
		{"properties", config(quotedMap("app.properties", "db.user=app\ndb.password=hunter2\n", quoted)), []string{"data[app.properties], db.password: " + clear}},
		{"custom", "apiVersion: example.org/v1\nkind: Widget\nmetadata: {name: w}\nspec: {login: {password: hunter2, user: x}}\n", []string{"spec.login.password: " + clear}},

		{"json in a line", config(quotedMap("config", `{"oauth": {"client_secret": "hunter2", "secretName": "web", "token": "$(TOKEN)"}}`, quoted)), []string{"data.config, client_secret: " + clear}},
		{"json in env", pod(`{name: web, env: [{name: CONFIG, value: '[{"user":"x","password":"hunter2"}]'}]}`), []string{at + "env[CONFIG], password: " + clear}},
		{"libpq", pod(`{name: web, env: [{name: DSN, value: "host=db user=app password=hunter2 sslmode=disable"}]}`), []string{at + "env[DSN]: " + dsn}},
		{"ado", config(`{ConnectionStrings: "Server=db;User Id=app;Password=hunter2;"}`), []string{"data.ConnectionStrings: " + dsn}},
		{"mysql", config(`{source: "app:hunter2@tcp(db:3306)/app"}`), []string{"data.source: " + dsn}},
		{"header of a probe", pod(`{name: web, livenessProbe: {httpGet: {port: 80, httpHeaders: [{name: Authorization, value: "Bearer hunter2hunter2"}]}}}`), []string{at + "livenessProbe.httpGet.httpHeaders[Authorization]: " + auth}},
		{"header in a file", config(quotedMap("nginx.conf", "server {\n  proxy_set_header Authorization \"Basic aHVudGVyMjpodW50ZXIy\";\n}\n", quoted)), []string{"data[nginx.conf]: " + auth}},
		{"token by its form", config(`{GITHUB: ghp_16C7e42F292c6912E7710c838347Ae178B4a}`), []string{"data.GITHUB: a token"}},
		{"jwt", config(`{LICENSE: eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P}`), []string{"data.LICENSE: a token"}},

		{"forms that refer", config(`{DSN: "host=db user=app password=$(PW)", ADO: "Server=db;Password=${PW};", MYSQL: "app:$(PW)@tcp(db:3306)/app", NOTE: "Basic authentication", HELP: "set password=hunter2", H: "Authorization: Bearer ${TOKEN_OF_CI}", JSON: '{"password": "${PW}", "passwordFile": "/run/x", "tokenTTL": "1h"}', AUTHORIZATION: "Bearer $(TOKEN)", C: "app:web@tcp"}`), nil},
		{"references", pod(`{name: web, env: [{name: DB_PASSWORD, valueFrom: {secretKeyRef: {name: db-login, key: password}}}, {name: TOKEN_FILE, value: /run/token}, {name: API_TOKEN, value: /run/secrets/token},
			{name: PASSWORD, value: $(DB_PASSWORD)}, {name: SECRET_NAME, value: web}, {name: PASSWORD, value: ""}, {name: USE_TOKEN, value: "true"}, {name: IDLE_TOKEN, value: 30s}, {name: KMS_KEY, value: "arn:aws:kms:eu:1:key/abc"},
			{name: DB_SECRET, value: "arn:aws:secretsmanager:eu:1:secret:db"}, {name: OAUTH_TOKEN_URL, value: "https://idp/token"}, {name: TLS_SECRET, value: web-tls}, {name: DATABASE_URL, value: "postgres://app:$(PW)@db/app"},
			{name: DATABASE_URL, value: "postgres://app@db:5432/app"}], envFrom: [{secretRef: {name: web-secret}}],
			args: [--private-key-file=/tls/key.pem, --webhook-secret-name=web, --dynamic-serving-ca-secret-name=cert-manager-webhook-ca, "--token", "$(TOKEN)", "--secret=default/web", --password-file, /x],
			volumeMounts: [{name: token, mountPath: /token}]}`), nil},
		{"volumes", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {template: {spec: {automountServiceAccountToken: false, imagePullSecrets: [{name: pull}], volumes: [{name: token, secret: {secretName: web-token}}, {name: t, projected: {sources: [{serviceAccountToken: {path: token}}]}}]}}}\n", nil},
		{"ingress", "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: web, annotations: {nginx.ingress.kubernetes.io/auth-secret: web-basic, x/password: see-vault}}\nspec: {tls: [{secretName: web}]}\n", nil},
		{"values that refer", "apiVersion: example.org/v1\nkind: Widget\nmetadata: {name: w}\nspec: {existingSecret: web, secret: web-login, passwordSecret: web, tokenSecretRef: {name: x, key: token}, passwordKey: password, privateKeySecretRef: {name: issuer}}\n", nil},
		{"role", "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: r}\nrules: [{apiGroups: [\"\"], resources: [secrets, serviceaccounts/token], resourceNames: [token], verbs: [get]}]\n", nil},
		{"sealed", "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {name: s}\nspec: {encryptedData: {password: AgBabcdef}}\n", nil},
		{"external", "apiVersion: external-secrets.io/v1\nkind: ExternalSecret\nmetadata: {name: s}\nspec: {data: [{secretKey: password, remoteRef: {key: db}}]}\n", nil},
		{"sops", config(`{password: "ENC[AES256_GCM,data:abc]"}`), nil},
		{"type", "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: x}\nspec: {versions: [{schema: {openAPIV3Schema: {properties: {password: {type: string, default: hunter2}, token: {description: a token}}}}}]}\n", nil},
		{"script", config(quotedMap("run.sh", "PASSWORD=$(cat /run/password)\nTOKEN=abc\ngrep -e '-----BEGIN RSA PRIVATE KEY-----' x\n", quoted)), nil},
		{"authority", config(quotedMap("ca.pem", "-----BEGIN CERTIFICATE-----\nMIIBOgIBAAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf9Cnzj4p4WGeKLs1Pt8Qu\n-----END CERTIFICATE-----\n", quoted)), nil},
		{"secret", "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: hunter2}\n", nil},
	} {
		if d := cmp.Diff(c.want, openIn(t, c.object)); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
	many := make(map[string]any)
	for i := range 1000 {
		many["password"+strings.Repeat("x", i)+"_password"] = "hunter2"
	}
	if got := openFields(Manifest{Tree: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "data": many}}); len(got) != maxOpen+1 || got[maxOpen].what != "more like these" {
		t.Errorf("%d fields: %v", len(got), got)
	}
}

func quotedMap(key, value string, quoted func(string) string) string {
	return "{" + quoted(key) + ": " + quoted(value) + "}"
}

// TestGitOpsOpen tells of a password that Airlock does not know, by object and
// field, in the plan and in every report, and never shows it.
func TestGitOpsOpen(t *testing.T) {
	s, _ := newPantry(t)
	put := s.list.Items[0].Steps[0].With["objects"].([]any)
	put[0].(map[string]any)["data"] = map[string]any{"DB_PASSWORD": "only-a-values-file-knows"}
	s.opts.DryRun = true
	plan := s.run().Phases[0].Items[0].Plan
	if len(plan) != 1 || !slices.Contains(plan[0].Details, "  GO-03: data.DB_PASSWORD has a value in clear, and is called a secret") {
		t.Errorf("%+v", plan)
	}
	s.opts.DryRun = false
	rep := s.run()
	if len(rep.Tree.Findings) != 1 || rep.Tree.Findings[0].Item != "shelf" || rep.Status != StatusWaiting {
		t.Fatalf("%+v, %s", rep.Tree.Findings, rep.Status)
	}
	page, err := rep.HTML()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := rep.JSON()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"text": rep.Text(), "md": rep.Markdown(), "html": string(page), "json": string(raw)} {
		text = strings.ReplaceAll(text, `\_`, "_")
		for _, want := range []string{"GO-03", "ConfigMap cellar/jar", "data.DB_PASSWORD", "secretKeyRef"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s lacks %q", name, want)
			}
		}
		if strings.Contains(text, "only-a-values-file-knows") {
			t.Errorf("%s shows the value", name)
		}
	}
}

// TestGitOpsShort finds a short secret as a whole value, not as letters of a text.
func TestGitOpsShort(t *testing.T) {
	for name, c := range map[string]struct {
		data map[string]any
		at   string
	}{
		"whole":    {map[string]any{"a": "${in.cellar.password}"}, "data.a"},
		"encoded":  {map[string]any{"a": base64.StdEncoding.EncodeToString([]byte("jam4"))}, "data.a"},
		"url":      {map[string]any{"a": "amqp://x:${in.cellar.password}@host/"}, "data.a"},
		"argument": {map[string]any{"a": []any{"--password=${in.cellar.password}"}}, "data.a[0]"},
		"letters":  {map[string]any{"a": "jam4free", "b": "/jam4/x"}, ""},
	} {
		s, _ := newPantry(t)
		s.opts.Secret = func(string) ([]byte, error) { return []byte("jam4"), nil }
		put := s.list.Items[0].Steps[0].With["objects"].([]any)
		put[0].(map[string]any)["data"] = c.data
		rep := s.run()
		_, err := os.Stat(filepath.Join(s.opts.Render, "1-shelf", "configmap-jar.yaml"))
		why := "ConfigMap cellar/jar holds the secret cellar.password (" + c.at + "), which must not get into Git"
		kept := slices.ContainsFunc(rep.Tree.Waits, func(w TreeWait) bool { return w.Why == why })
		if kept != (c.at != "") || os.IsNotExist(err) != (c.at != "") {
			t.Errorf("%s: %+v, %v", name, rep.Tree.Waits, err)
		}
	}
}

// TestReportHTMLTree: the page says of the tree, and of the run, what the text says.
func TestReportHTMLTree(t *testing.T) {
	s, _ := newPantry(t)
	rep := s.run()
	rep.Warnings = []string{"the clock went back"}
	raw, err := rep.HTML()
	if err != nil {
		t.Fatal(err)
	}
	page := string(raw)
	for _, want := range []string{
		"For the GitOps controller", s.opts.Render + ", 3 objects of 2 items", "not for Git: 1 Secrets in ", "not yet: label: put: its objects are known after host",
		"the clock went back",
	} {
		if !strings.Contains(page, want) || !strings.Contains(rep.Text(), want) {
			t.Errorf("page %v, text %v: %q", strings.Contains(page, want), strings.Contains(rep.Text(), want), want)
		}
	}
}

// TestClusterMessages: what keeps any step from a cluster is explained, in each
// item.
func TestClusterMessages(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.fail["kettle.example.internal"] = Finding{Code: "NS-01", Detail: "held by a finalizer", Fields: map[string]string{"namespace": "cellar", "phase": "Terminating", "holds": "a finalizer"}}
	if text := s.run().Text(); !strings.Contains(text, "fail NS-01: the namespace cellar is Terminating") || !strings.Contains(text, "seen: held by a finalizer") || !strings.Contains(text, "fix: have a missing one made first") {
		t.Error(text)
	}
	s.fail["kettle.example.internal"] = Finding{Code: "K8S-05", Fields: map[string]string{"server": "api:6443", "reason": "it answers 500"}}
	if text := s.run().Text(); !strings.Contains(text, "fail K8S-05: the API server api:6443 gives no answer that can be used: it answers 500") || !strings.Contains(text, "fix: look at the server's address") {
		t.Error(text)
	}
}
