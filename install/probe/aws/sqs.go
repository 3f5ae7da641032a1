package aws

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/install"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// Codes of sqs.queue.
const (
	codeQueueURL      = "SQS-01"
	codeQueueValue    = "SQS-02"
	codeQueueAbsent   = "SQS-03"
	codeQueueDead     = "SQS-04"
	codeQueueOrder    = "SQS-05"
	codeQueueExchange = "SQS-06"
	codeQueueSyntax   = "SQS-07"
)

// maxQueues bounds one step.
const maxQueues = 100

// SQS is sqs.queue. Its zero value is ready and safe for concurrent use.
type SQS struct{}

// sqsArguments are the step's with.
type sqsArguments struct {
	common
	URLs     map[string]string    `json:"urls"`   // name: the queue's URL
	Queues   map[string]queueWant `json:"queues"` // name: how it should be; every one must have a URL
	Exchange bool                 `json:"exchange"`
}

// queueWant is how a queue should be. Zero values are not looked at.
type queueWant struct {
	Visibility int    `json:"visibility"` // seconds
	Retention  int    `json:"retention"`  // seconds
	MaxReceive int    `json:"max_receive"`
	DeadLetter string `json:"dead_letter"` // name of another queue
	FIFO       bool   `json:"fifo"`        // false: it must be a standard queue
}

// Codes implements install.Coder.
func (SQS) Codes() map[string][]string {
	return withCommon(map[string][]string{
		codeQueueURL:      {"names"},
		codeQueueValue:    {"name", "url", "attribute", "have", "want"},
		codeQueueAbsent:   {"name", "url"},
		codeQueueDead:     {"name", "url", "have", "want"},
		codeQueueOrder:    {"name", "url", "have", "want"},
		codeQueueExchange: {"name", "url", "action", "reason"},
		codeQueueSyntax:   {"name", "url", "reason"},
	})
}

// Run holds every queue against the table. With exchange a message is sent to
// each, received and deleted: a consumer that is attached may see it, so the
// site has to want it.
func (p SQS) Run(ctx context.Context, in install.Input) (install.Result, error) {
	var a sqsArguments
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	if len(a.Queues) == 0 || len(a.Queues) > maxQueues {
		return install.Result{}, fmt.Errorf("%d queues are not between 1 and %d", len(a.Queues), maxQueues)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Queues)) {
		if _, ok := a.Queues[a.Queues[name].DeadLetter]; !ok && a.Queues[name].DeadLetter != "" {
			return install.Result{}, fmt.Errorf("queues.%s.dead_letter: no queue is named %q", name, a.Queues[name].DeadLetter)
		}
	}
	l, err := a.start(p.Codes())
	if err != nil {
		return install.Result{}, err
	}
	q := &queueLook{look: l, a: a, arns: map[string]string{}}
	if !q.complete() {
		return l.result(nil), nil
	}
	cfg, err := load(ctx, a.Region)
	if err != nil {
		return l.end(nil, l.api(ctx, err, "sqs:GetQueueAttributes", ""))
	}
	q.api = sqs.NewFromConfig(cfg)
	return l.end(nil, q.all(ctx))
}

// queueLook is a look at all queues.
type queueLook struct {
	*look
	api  *sqs.Client
	a    sqsArguments
	arns map[string]string
}

// complete reports queues without a URL, all at once, and URLs that are none.
func (q *queueLook) complete() bool {
	var missing []string
	ok := true
	for _, name := range slices.Sorted(maps.Keys(q.a.Queues)) {
		raw := q.a.URLs[name]
		if raw == "" {
			missing = append(missing, name)
			continue
		}
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || strings.Trim(u.Path, "/") == "" {
			reason := "want https://HOST/ACCOUNT/NAME"
			q.fail(codeQueueSyntax, fmt.Sprintf("queue %s: the URL is not one of SQS: %s", name, reason), map[string]string{"name": name, "url": bounds(raw), "reason": reason})
			ok = false
		}
	}
	if len(missing) > 0 {
		names := strings.Join(missing, ", ")
		q.fail(codeQueueURL, "no URL is given for "+names, map[string]string{"names": names})
	}
	return ok && len(missing) == 0
}

// bounds keeps outside text short.
func bounds(s string) string {
	if len(s) > maxMessage {
		return strings.ToValidUTF8(s[:maxMessage], "") + "…"
	}
	return s
}

// all looks at every queue, then compares the ones that name each other.
func (q *queueLook) all(ctx context.Context) error {
	have := map[string]map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(q.a.Queues)) {
		out, err := q.api.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: aws.String(q.a.URLs[name]), AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll}})
		switch {
		case isOneOf(err, "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", "InvalidAddress"):
			q.fail(codeQueueAbsent, fmt.Sprintf("queue %s: there is none at %s", name, q.a.URLs[name]), map[string]string{"name": name, "url": q.a.URLs[name]})
			continue
		case err != nil:
			if err := q.look.api(ctx, err, "sqs:GetQueueAttributes", q.a.URLs[name]); err != nil {
				return err
			}
			continue
		}
		have[name], q.arns[name] = out.Attributes, out.Attributes["QueueArn"]
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		q.compare(name, have[name])
	}
	if !q.a.Exchange {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if err := q.exchange(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// compare holds one queue against what it should be.
func (q *queueLook) compare(name string, have map[string]string) {
	want, at := q.a.Queues[name], q.a.URLs[name]
	for _, c := range []struct {
		attribute string
		want      int
	}{{"VisibilityTimeout", want.Visibility}, {"MessageRetentionPeriod", want.Retention}} {
		if c.want != 0 && have[c.attribute] != fmt.Sprint(c.want) {
			q.warn(codeQueueValue, fmt.Sprintf("queue %s: %s is %q, not %d", name, c.attribute, have[c.attribute], c.want),
				map[string]string{"name": name, "url": at, "attribute": c.attribute, "have": have[c.attribute], "want": fmt.Sprint(c.want)})
		}
	}
	isFIFO := have["FifoQueue"] == "true"
	if isFIFO != want.FIFO || strings.HasSuffix(at, ".fifo") != want.FIFO {
		kinds := map[bool]string{true: "a FIFO queue", false: "a standard queue"}
		q.fail(codeQueueOrder, fmt.Sprintf("queue %s is %s, not %s", name, kinds[isFIFO], kinds[want.FIFO]),
			map[string]string{"name": name, "url": at, "have": kinds[isFIFO], "want": kinds[want.FIFO]})
	}
	q.redrive(name, have["RedrivePolicy"], want)
}

// redrive compares where messages go that nobody could handle.
func (q *queueLook) redrive(name, policy string, want queueWant) {
	var p struct {
		Target string      `json:"deadLetterTargetArn"`
		Max    json.Number `json:"maxReceiveCount"` // a number, and in older queues a text
	}
	// A policy that cannot be read is none.
	if err := json.Unmarshal([]byte(policy), &p); err != nil {
		p.Target, p.Max = "", ""
	}
	at := q.a.URLs[name]
	if want.DeadLetter != "" && (p.Target == "" || q.arns[want.DeadLetter] != "" && p.Target != q.arns[want.DeadLetter]) {
		have := p.Target
		if have == "" {
			have = "none"
		}
		q.fail(codeQueueDead, fmt.Sprintf("queue %s has the dead-letter queue %s, not %s", name, have, want.DeadLetter),
			map[string]string{"name": name, "url": at, "have": have, "want": want.DeadLetter})
	}
	if want.MaxReceive != 0 && p.Target != "" && p.Max.String() != fmt.Sprint(want.MaxReceive) {
		q.warn(codeQueueValue, fmt.Sprintf("queue %s: maxReceiveCount is %s, not %d", name, p.Max, want.MaxReceive),
			map[string]string{"name": name, "url": at, "attribute": "maxReceiveCount", "have": p.Max.String(), "want": fmt.Sprint(want.MaxReceive)})
	}
}
