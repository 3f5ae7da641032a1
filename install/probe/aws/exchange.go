package aws

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

const (
	// maxReceives bounds how often a queue is asked for the message that was
	// sent to it. A queue with others in it may hand those out first.
	maxReceives = 5
	// receiveWait is how long one such question waits, in seconds.
	receiveWait = 2
	// scratchGroup is the message group of the probe in FIFO queues.
	scratchGroup = "airlock-probe"
)

// exchange sends a message, receives it, hides it longer and deletes it: what a
// consumer's role must be allowed. Messages of others are given back at once.
func (q *queueLook) exchange(ctx context.Context, name string) error {
	at := q.a.URLs[name]
	id := rand.Text()
	in := &sqs.SendMessageInput{QueueUrl: aws.String(at), MessageBody: aws.String("airlock probe " + id)}
	if q.a.Queues[name].FIFO {
		in.MessageGroupId, in.MessageDeduplicationId = aws.String(scratchGroup), aws.String(id)
	}
	if _, err := q.api.SendMessage(ctx, in); err != nil {
		return q.look.api(ctx, err, "sqs:SendMessage", at)
	}
	for range maxReceives {
		out, err := q.api.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: aws.String(at), MaxNumberOfMessages: 10, WaitTimeSeconds: receiveWait})
		if err != nil {
			return q.look.api(ctx, err, "sqs:ReceiveMessage", at)
		}
		mine, err := q.sort(ctx, at, out.Messages, *in.MessageBody)
		if err != nil {
			return q.look.api(ctx, err, "sqs:ChangeMessageVisibility", at)
		}
		if mine != nil {
			return q.remove(ctx, at, mine)
		}
	}
	reason := "it did not come back: a consumer that is attached may have taken it"
	q.fail(codeQueueExchange, fmt.Sprintf("queue %s: a message was sent and %s", name, reason),
		map[string]string{"name": name, "url": at, "action": "sqs:ReceiveMessage", "reason": reason})
	return nil
}

// sort returns the receipt of our message and gives the others back.
func (q *queueLook) sort(ctx context.Context, at string, messages []types.Message, body string) (mine *string, err error) {
	for _, m := range messages {
		if aws.ToString(m.Body) == body {
			mine = m.ReceiptHandle
			continue
		}
		if _, err := q.api.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{QueueUrl: aws.String(at), ReceiptHandle: m.ReceiptHandle, VisibilityTimeout: 0}); err != nil {
			return nil, err
		}
	}
	return mine, nil
}

func (q *queueLook) remove(ctx context.Context, at string, receipt *string) error {
	_, err := q.api.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{QueueUrl: aws.String(at), ReceiptHandle: receipt, VisibilityTimeout: 30})
	if err != nil {
		if err := q.look.api(ctx, err, "sqs:ChangeMessageVisibility", at); err != nil {
			return err
		}
	}
	if _, err := q.api.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: aws.String(at), ReceiptHandle: receipt}); err != nil {
		return q.look.api(ctx, err, "sqs:DeleteMessage", at)
	}
	return nil
}
