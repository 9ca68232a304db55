package kafka

import (
	"fmt"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// SASL returns a mechanism by its name: plain, scram-sha-256, scram-sha-512, or "" for none.
func SASL(mechanism, username, password string) (sasl.Mechanism, error) {
	switch mechanism {
	case "":
		return nil, nil
	case "plain":
		return plain.Mechanism{Username: username, Password: password}, nil
	case "scram-sha-256":
		return scram.Mechanism(scram.SHA256, username, password)
	case "scram-sha-512":
		return scram.Mechanism(scram.SHA512, username, password)
	}
	return nil, fmt.Errorf("SASL mechanism %q is not one of plain, scram-sha-256, scram-sha-512", mechanism)
}
