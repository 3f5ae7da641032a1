package aws

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/awsstandin"
)

// aCase is one run of a probe against the stand-in.
type aCase struct {
	name string
	with map[string]any
	set  func(s *awsstandin.Server)
	want []string // "CODE text that cause, or a field, holds"; empty: it passes
}

// run runs a probe over a fresh stand-in for each case and compares what it
// finds but information.
func run(t *testing.T, p install.Probe, fill func(s *awsstandin.Server), with map[string]any, cases []aCase) {
	t.Helper()
	coder, ok := p.(install.Coder)
	if !ok {
		t.Fatal("the probe lists no codes")
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := awsstandin.New(t)
			fill(s)
			if c.set != nil {
				c.set(s)
			}
			args := maps.Clone(with)
			maps.Copy(args, c.with)
			res, err := p.Run(t.Context(), install.Input{With: args})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range res.Findings {
				if f.Severity == install.SeverityInfo {
					continue
				}
				got = append(got, f.Code+" "+f.Detail)
				fields, ok := coder.Codes()[f.Code]
				if !ok || !slices.Equal(slices.Sorted(maps.Keys(f.Fields)), slices.Sorted(slices.Values(fields))) {
					t.Errorf("%s has the fields %v, it lists %v", f.Code, f.Fields, fields)
				}
				if strings.Contains(fmt.Sprint(f), "example-not-a-secret") {
					t.Errorf("the key shows: %+v", f)
				}
			}
			if len(got) != len(c.want) {
				t.Fatalf("found %q, want %q", got, c.want)
			}
			for i, want := range c.want {
				code, text, _ := strings.Cut(want, " ")
				if !strings.HasPrefix(got[i], code+" ") || !strings.Contains(got[i], text) {
					t.Errorf("found %q, want %q", got[i], want)
				}
			}
		})
	}
}

func TestKMSEncrypt(t *testing.T) {
	fill := func(s *awsstandin.Server) {
		s.Keys["enc"] = &awsstandin.Key{State: "Enabled", Usage: "ENCRYPT_DECRYPT", Spec: "SYMMETRIC_DEFAULT", Multi: true}
	}
	with := map[string]any{"key": "enc", "usage": "ENCRYPT_DECRYPT", "spec": "SYMMETRIC_DEFAULT"}
	run(t, KMS{}, fill, with, []aCase{
		{name: "good"},
		{name: "not given", with: map[string]any{"key": nil}, want: []string{"KMS-03 no key"}},
		{name: "absent", with: map[string]any{"key": "other"}, want: []string{"KMS-03 other"}},
		{name: "pending deletion", set: func(s *awsstandin.Server) { s.Keys["enc"].State = "PendingDeletion" }, want: []string{"KMS-01 PendingDeletion"}},
		{name: "a signing key", set: func(s *awsstandin.Server) {
			*s.Keys["enc"] = awsstandin.Key{State: "Enabled", Usage: "SIGN_VERIFY", Spec: "RSA_4096"}
		}, want: []string{"KMS-02 usage SIGN_VERIFY, not ENCRYPT_DECRYPT", "KMS-02 spec RSA_4096"}},
		{name: "not multi-region", with: map[string]any{"multi": false}, want: []string{"KMS-02 multi-region true, not false"}},
		{name: "describe is denied", set: func(s *awsstandin.Server) { s.Denied["kms:DescribeKey"] = true }, want: []string{"AWS-02 kms:DescribeKey enc"}},
		{name: "two are denied", set: func(s *awsstandin.Server) { s.Denied["kms:Encrypt"], s.Denied["kms:GenerateDataKey"] = true, true }, want: []string{"AWS-02 kms:Encrypt", "AWS-02 kms:GenerateDataKey"}},
		{name: "decrypt is denied", set: func(s *awsstandin.Server) { s.Denied["kms:Decrypt"] = true }, want: []string{"AWS-02 kms:Decrypt", "AWS-02 kms:Decrypt"}},
		{name: "corrupt", set: func(s *awsstandin.Server) { s.Keys["enc"].Corrupt = true }, want: []string{"KMS-04 not what was encrypted", "KMS-04 not what was encrypted"}},
	})
}

func TestKMSSign(t *testing.T) {
	fill := func(s *awsstandin.Server) {
		s.Keys["sig"] = &awsstandin.Key{State: "Enabled", Usage: "SIGN_VERIFY", Spec: "RSA_4096"}
	}
	run(t, KMS{}, fill, map[string]any{"key": "sig", "usage": "SIGN_VERIFY", "spec": "RSA_4096"}, []aCase{
		{name: "good"},
		{name: "other spec", set: func(s *awsstandin.Server) { s.Keys["sig"].Spec = "RSA_2048" }, want: []string{"KMS-02 spec RSA_2048, not RSA_4096"}},
		{name: "not valid", set: func(s *awsstandin.Server) { s.Keys["sig"].Corrupt = true }, want: []string{"KMS-04 not valid"}},
		{name: "all are denied", set: func(s *awsstandin.Server) {
			s.Denied["kms:Sign"], s.Denied["kms:GetPublicKey"] = true, true
		}, want: []string{"AWS-02 kms:Sign", "AWS-02 kms:GetPublicKey"}},
		{name: "verify is denied", set: func(s *awsstandin.Server) { s.Denied["kms:Verify"] = true }, want: []string{"AWS-02 kms:Verify"}},
	})
}

const (
	jobsURL = "https://sqs.eu-central-1.amazonaws.com/123456789012/jobs"
	fifoURL = "https://sqs.eu-central-1.amazonaws.com/123456789012/jobs.fifo"
	deadURL = "https://sqs.eu-central-1.amazonaws.com/123456789012/dead"
)

func TestSQS(t *testing.T) {
	fill := func(s *awsstandin.Server) {
		arn := "arn:aws:sqs:eu-central-1:123456789012:"
		s.Queues[deadURL] = &awsstandin.Queue{Attributes: map[string]string{"QueueArn": arn + "dead", "VisibilityTimeout": "300"}}
		s.Queues[jobsURL] = &awsstandin.Queue{Attributes: map[string]string{
			"QueueArn": arn + "jobs", "VisibilityTimeout": "300", "MessageRetentionPeriod": "3600", "RedrivePolicy": `{"deadLetterTargetArn":"` + arn + `dead","maxReceiveCount":3}`,
		}}
		s.Queues[fifoURL] = &awsstandin.Queue{Attributes: map[string]string{"QueueArn": arn + "jobs.fifo", "VisibilityTimeout": "300", "FifoQueue": "true"}}
	}
	with := map[string]any{
		"urls": map[string]any{"jobs": jobsURL, "fifo": fifoURL, "dead": deadURL},
		"queues": map[string]any{
			"dead": map[string]any{"visibility": int64(300)},
			"jobs": map[string]any{"visibility": int64(300), "retention": int64(3600), "max_receive": int64(3), "dead_letter": "dead"},
			"fifo": map[string]any{"visibility": int64(300), "fifo": true},
		},
	}
	attribute := func(url, name, value string) func(*awsstandin.Server) {
		return func(s *awsstandin.Server) { s.Queues[url].Attributes[name] = value }
	}
	exchange := map[string]any{"exchange": true}
	run(t, SQS{}, fill, with, []aCase{
		{name: "good"},
		{name: "old policy", set: attribute(jobsURL, "RedrivePolicy", `{"deadLetterTargetArn":"arn:aws:sqs:eu-central-1:123456789012:dead","maxReceiveCount":"3"}`)},
		{name: "no URLs", with: map[string]any{"urls": map[string]any{"dead": deadURL}}, want: []string{"SQS-01 fifo, jobs"}},
		{name: "no URL", with: map[string]any{"urls": map[string]any{"jobs": jobsURL, "fifo": "jobs.fifo", "dead": deadURL}}, want: []string{"SQS-07 fifo"}},
		{name: "absent", set: func(s *awsstandin.Server) { delete(s.Queues, fifoURL) }, want: []string{"SQS-03 " + fifoURL}},
		{name: "visibility", set: attribute(jobsURL, "VisibilityTimeout", "30"), want: []string{`SQS-02 jobs: VisibilityTimeout is "30", not 300`}},
		{name: "count", set: attribute(jobsURL, "RedrivePolicy", `{"deadLetterTargetArn":"arn:aws:sqs:eu-central-1:123456789012:dead","maxReceiveCount":9}`), want: []string{"SQS-02 maxReceiveCount is 9"}},
		{name: "no dead-letter queue", set: attribute(jobsURL, "RedrivePolicy", ""), want: []string{"SQS-04 jobs has the dead-letter queue none"}},
		{name: "another one", set: attribute(jobsURL, "RedrivePolicy", `{"deadLetterTargetArn":"arn:x","maxReceiveCount":3}`), want: []string{"SQS-04 arn:x"}},
		{name: "not FIFO", set: attribute(fifoURL, "FifoQueue", "false"), want: []string{"SQS-05 fifo is a standard queue"}},
		{name: "denied", set: func(s *awsstandin.Server) { s.Denied["sqs:GetQueueAttributes"] = true }, want: []string{"AWS-02 " + deadURL, "AWS-02 " + fifoURL, "AWS-02 " + jobsURL}},
		{name: "exchange", with: exchange},
		{name: "exchange among others", with: exchange, set: func(s *awsstandin.Server) { s.Queues[jobsURL].Messages = []string{"not ours"} }},
		{name: "taken", with: exchange, set: func(s *awsstandin.Server) { s.Queues[jobsURL].Swallow = true }, want: []string{"SQS-06 jobs: a message was sent"}},
		{name: "cannot send", with: exchange, set: func(s *awsstandin.Server) { s.Denied["sqs:SendMessage"] = true }, want: []string{"AWS-02 sqs:SendMessage", "AWS-02 sqs:SendMessage", "AWS-02 sqs:SendMessage"}},
		{name: "cannot delete", with: exchange, set: func(s *awsstandin.Server) { s.Denied["sqs:DeleteMessage"] = true }, want: []string{"AWS-02 sqs:DeleteMessage", "AWS-02 sqs:DeleteMessage", "AWS-02 sqs:DeleteMessage"}},
	})
}

// TestSQSLeavesOthersAlone holds that without consent nothing is sent, and that
// a message of somebody else is given back, not deleted.
func TestSQSLeavesOthersAlone(t *testing.T) {
	s := awsstandin.New(t)
	s.Queues[jobsURL] = &awsstandin.Queue{Attributes: map[string]string{}, Messages: []string{"not ours"}}
	with := map[string]any{"urls": map[string]any{"jobs": jobsURL}, "queues": map[string]any{"jobs": map[string]any{}}}
	if _, err := (SQS{}).Run(t.Context(), install.Input{With: with}); err != nil || !slices.Equal(s.Calls(), []string{"sqs:GetQueueAttributes"}) {
		t.Errorf("%v, %v", s.Calls(), err)
	}
	with["exchange"] = true
	if _, err := (SQS{}).Run(t.Context(), install.Input{With: with}); err != nil {
		t.Fatal(err)
	}
	if left := s.Queues[jobsURL].Taken(); !slices.Equal(left, []string{"not ours"}) {
		t.Errorf("left are %q", left)
	}
	calls := s.Calls()
	back := slices.Index(calls, "sqs:ChangeMessageVisibility")
	if back < 0 || back > slices.Index(calls, "sqs:DeleteMessage") {
		t.Errorf("it was not given back: %v", calls)
	}
}

const certARN = "arn:aws:acm:eu-central-1:123456789012:certificate/1"

func TestACM(t *testing.T) {
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	fill := func(s *awsstandin.Server) {
		s.Certificates[certARN] = &awsstandin.Certificate{Status: "ISSUED", Names: []string{"*.site-a.example", "site-a.example"}, NotAfter: now.AddDate(0, 6, 0)}
	}
	with := map[string]any{"arn": certARN, "region": awsstandin.Region, "hosts": []any{"spacelift.site-a.example"}}
	run(t, ACM{Now: func() time.Time { return now }}, fill, with, []aCase{
		{name: "good"},
		{name: "pending", set: func(s *awsstandin.Server) {
			s.Certificates[certARN].Status, s.Certificates[certARN].NotAfter = "PENDING_VALIDATION", time.Time{}
		}, want: []string{"ACM-01 PENDING_VALIDATION"}},
		{name: "other name", with: map[string]any{"hosts": []any{"a.b.site-a.example"}}, want: []string{"ACM-02 a.b.site-a.example"}},
		{name: "expired", set: func(s *awsstandin.Server) { s.Certificates[certARN].NotAfter = now.Add(-time.Hour) }, want: []string{"ACM-03 has expired"}},
		{name: "soon", set: func(s *awsstandin.Server) { s.Certificates[certARN].NotAfter = now.AddDate(0, 0, 9) }, want: []string{"ACM-03 in 9 days"}},
		{name: "other region", with: map[string]any{"region": "us-iso-east-1"}, want: []string{"ACM-04 eu-central-1, the deployment in us-iso-east-1"}},
		{name: "not an ARN", with: map[string]any{"arn": "abc"}, want: []string{"ACM-05 abc"}},
		{name: "of another service", with: map[string]any{"arn": "arn:aws:iam::123456789012:server-certificate/x"}, want: []string{"ACM-05 not an ARN"}},
		{name: "absent", with: map[string]any{"arn": certARN + "2"}, want: []string{"ACM-05 there is no certificate"}},
		{name: "denied", set: func(s *awsstandin.Server) { s.Denied["acm:DescribeCertificate"] = true }, want: []string{"AWS-02 acm:DescribeCertificate"}},
	})
}

// TestEndpoints tells apart why an API cannot be asked.
func TestEndpoints(t *testing.T) {
	with := map[string]any{"key": "enc", "usage": "ENCRYPT_DECRYPT"}
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>proxy</html>") }))
	defer page.Close()
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for chunk := make([]byte, 1<<20); r.Context().Err() == nil; {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}))
	defer endless.Close()
	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	defer untrusted.Close()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := gone.Addr().String()
	gone.Close()
	for name, c := range map[string]struct {
		endpoint string
		unset    bool
		code     string
		says     string
	}{
		"refused":        {"http://" + closed, false, "AWS-03", "refused"},
		"no API":         {page.URL, false, "AWS-03", "not as this API"},
		"endless":        {endless.URL, false, "AWS-03", ""},
		"untrusted":      {untrusted.URL, false, "AWS-03", "certificate"},
		"plain":          {"http://kms.site-a.example", false, "AWS-03", "https"},
		"no credentials": {page.URL, true, "AWS-01", "credentials"},
	} {
		t.Run(name, func(t *testing.T) {
			awsstandin.Point(t, c.endpoint)
			if c.unset {
				t.Setenv("AWS_ACCESS_KEY_ID", "")
				t.Setenv("AWS_SECRET_ACCESS_KEY", "")
			}
			res, err := KMS{}.Run(t.Context(), install.Input{With: with})
			if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != c.code || !strings.Contains(res.Findings[0].Detail, c.says) {
				t.Errorf("%+v, %v", res.Findings, err)
			}
		})
	}
}

// TestEnds ends with its context, and says nothing of a finding.
func TestEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		// The server notices that a client is gone once it read what it sent.
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Error(err)
		}
		cancel()
		<-r.Context().Done()
	}))
	defer slow.Close()
	awsstandin.Point(t, slow.URL)
	res, err := KMS{}.Run(ctx, install.Input{With: map[string]any{"key": "enc", "usage": "ENCRYPT_DECRYPT"}})
	if err == nil || len(res.Findings) != 0 {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestArguments(t *testing.T) {
	for _, c := range []struct {
		p    install.Probe
		with map[string]any
	}{
		{KMS{}, map[string]any{"key": "x", "usage": "BOTH"}},
		{KMS{}, map[string]any{"kee": "x"}},
		{KMS{}, map[string]any{"key": "x", "usage": "SIGN_VERIFY", "codes": map[string]any{"ENC-05": "KMS-01"}}},
		{SQS{}, map[string]any{}},
		{SQS{}, map[string]any{"queues": map[string]any{"a": map[string]any{"dead_letter": "b"}}}},
		{ACM{}, map[string]any{"arn": int64(1)}},
		{EC2{}, map[string]any{"vpc": "v", "nat_gateway": "maybe"}},
		{EC2{}, map[string]any{"vpc": "v", "allowed": []any{"all"}}},
		{ELB{}, map[string]any{"load_balancer": "x"}},
		{ELB{}, map[string]any{"port": int64(70000)}},
		{ECS{}, map[string]any{"cluster": "c"}},
		{ECS{}, map[string]any{"cluster": "c", "services": slices.Repeat([]any{"s"}, maxServices+1)}},
	} {
		if _, err := c.p.Run(t.Context(), install.Input{With: c.with}); err == nil {
			t.Errorf("%T accepts %v", c.p, c.with)
		}
	}
}
