package awsstandin

import (
	"crypto/md5" //nolint:gosec // the checksum that SQS returns
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// Queue is a queue of SQS.
type Queue struct {
	Attributes map[string]string
	Messages   []string // bodies that wait
	Swallow    bool     // another consumer takes what is sent

	taken map[string]string // receipt: body
	count int
}

type sqsRequest struct {
	QueueURL      string `json:"QueueUrl"`
	MessageBody   string
	ReceiptHandle string
	GroupID       string `json:"MessageGroupId"`
}

func sum(s string) string {
	d := md5.Sum([]byte(s)) //nolint:gosec // as above
	return hex.EncodeToString(d[:])
}

func (s *Server) sqs(action string, body []byte) (any, *failure) {
	var in sqsRequest
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, &failure{"SerializationException", err.Error()}
	}
	q := s.Queues[in.QueueURL]
	if q == nil {
		return nil, &failure{"com.amazonaws.sqs#QueueDoesNotExist", "The specified queue does not exist."}
	}
	if q.taken == nil {
		q.taken = map[string]string{}
	}
	switch action {
	case "GetQueueAttributes":
		return map[string]any{"Attributes": q.Attributes}, nil
	case "SendMessage":
		if (q.Attributes["FifoQueue"] == "true") != (in.GroupID != "") {
			return nil, &failure{"com.amazonaws.sqs#InvalidParameterValue", "The request must contain the parameter MessageGroupId."}
		}
		if !q.Swallow {
			q.Messages = append(q.Messages, in.MessageBody)
		}
		return map[string]any{"MessageId": "1", "MD5OfMessageBody": sum(in.MessageBody)}, nil
	case "ReceiveMessage":
		return q.receive(), nil
	case "ChangeMessageVisibility":
		return map[string]any{}, nil
	case "DeleteMessage":
		delete(q.taken, in.ReceiptHandle)
		return map[string]any{}, nil
	}
	return nil, unknown(action)
}

// Taken lists the bodies that were received and not deleted.
func (q *Queue) Taken() []string {
	var out []string
	for _, body := range q.taken {
		out = append(out, body)
	}
	return out
}

func (q *Queue) receive() any {
	list := []any{}
	for _, body := range q.Messages {
		q.count++
		receipt := fmt.Sprint("receipt-", q.count)
		q.taken[receipt] = body
		list = append(list, map[string]any{"MessageId": receipt, "ReceiptHandle": receipt, "Body": body, "MD5OfBody": sum(body)})
	}
	q.Messages = nil
	return map[string]any{"Messages": list}
}
