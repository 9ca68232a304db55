package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hookmesh/hookmesh/services/internal/config"
)

func TestHowTheBrokersAreReachedIsChecked(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ kafka, want string }{
		"TLS and SCRAM":                     {`{brokers: ["k:9092"], tls: {enabled: true, ca_file: ` + file + `}, sasl: {mechanism: scram-sha-512, username: u, password: secret-one}}`, ""},
		"SCRAM without TLS":                 {`{brokers: ["k:9092"], sasl: {mechanism: scram-sha-256, username: u, password: secret-one}}`, ""},
		"plain passwords in the open":       {`{brokers: ["k:9092"], sasl: {mechanism: plain, username: u, password: secret-one}}`, "turn kafka.tls.enabled on"},
		"an unknown mechanism":              {`{brokers: ["k:9092"], sasl: {mechanism: kerberos, username: u, password: secret-one}}`, "not one of"},
		"a mechanism without a password":    {`{brokers: ["k:9092"], sasl: {mechanism: scram-sha-256, username: u}}`, "kafka.sasl.password: is missing"},
		"files, but TLS is off":             {`{brokers: ["k:9092"], tls: {ca_file: ` + file + `}}`, "kafka.tls.enabled"},
		"a file that is not there":          {`{brokers: ["k:9092"], tls: {enabled: true, ca_file: /nowhere/ca.pem}}`, "cannot be read"},
		"a certificate without its key":     {`{brokers: ["k:9092"], tls: {enabled: true, cert_file: ` + file + `}}`, "belong together"},
		"security for the broker inside":    {`{tls: {enabled: true}}`, "kafka.brokers: is missing"},
		"a name in the consumer groups":     {`{brokers: ["k:9092"], instance_id: mesh-dedupe-0}`, ""},
		"a name that Kafka does not take":   {`{brokers: ["k:9092"], instance_id: "dedupe/0"}`, "kafka.instance_id"},
		"a name for the broker inside":      {`{instance_id: mesh-dedupe-0}`, "kafka.instance_id"},
		"more in-sync replicas than copies": {`{brokers: ["k:9092"], replication_factor: 2, min_in_sync_replicas: 3}`, "not between"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Parse("f.yaml", []byte("kafka: "+tc.kafka), os.LookupEnv)
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, want %q in it", err, tc.want)
			case err != nil && strings.Contains(err.Error(), "secret-one"):
				t.Errorf("the password is in the error: %v", err)
			}
		})
	}
}
