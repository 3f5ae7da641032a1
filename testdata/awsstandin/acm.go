package awsstandin

import (
	"encoding/json"
	"time"
)

// Certificate is a certificate of ACM.
type Certificate struct {
	Status   string
	Names    []string
	NotAfter time.Time // zero: not issued yet
}

func (s *Server) acm(action string, body []byte) (any, *failure) {
	var in struct {
		ARN string `json:"CertificateArn"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, &failure{"SerializationException", err.Error()}
	}
	if action != "DescribeCertificate" {
		return nil, unknown(action)
	}
	c := s.Certificates[in.ARN]
	if c == nil {
		return nil, &failure{"ResourceNotFoundException", "Could not find certificate " + in.ARN}
	}
	detail := map[string]any{"CertificateArn": in.ARN, "DomainName": c.Names[0], "SubjectAlternativeNames": c.Names, "Status": c.Status, "Type": "IMPORTED"}
	if !c.NotAfter.IsZero() {
		detail["NotAfter"] = float64(c.NotAfter.Unix())
	}
	return map[string]any{"Certificate": detail}, nil
}
