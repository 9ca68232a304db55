package wiring

import (
	"fmt"

	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/internal/tlsfiles"
)

// OpenLog returns the log at the configured brokers. It does not connect yet.
func OpenLog(cfg config.Kafka, tel telemetry.Telemetry) (*kafka.Log, error) {
	mechanism, err := kafka.SASL(cfg.SASL.Mechanism, cfg.SASL.Username, cfg.SASL.Password)
	if err != nil {
		return nil, fmt.Errorf("kafka.sasl: %w", err)
	}
	kafkaCfg := kafka.Config{Brokers: cfg.Brokers, Partitions: cfg.Partitions, SASL: mechanism, Instance: cfg.InstanceID}
	if cfg.TLS.Enabled {
		files, err := tlsfiles.Open(tlsfiles.Files{CA: cfg.TLS.CAFile, Cert: cfg.TLS.CertFile, Key: cfg.TLS.KeyFile, ServerName: cfg.TLS.ServerName}, func(err error) {
			tel.Logger.Error("changed files of kafka.tls cannot be read; the old ones stay in use", "error", err)
		})
		if err != nil {
			return nil, fmt.Errorf("kafka.tls: %w", err)
		}
		kafkaCfg.Dial = files.DialContext
	}
	return kafka.NewLog(kafkaCfg, tel), nil
}

// Topics is how the topics should be.
func Topics(cfg config.Kafka) kafka.Topics {
	return kafka.Topics{
		ReplicationFactor: cfg.ReplicationFactor, MinInSyncReplicas: cfg.MinInSyncReplicas,
		Retention: cfg.Retention, DeadRetention: cfg.DeadRetention,
	}
}
