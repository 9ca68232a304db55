package wiring

import (
	"context"
	"fmt"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/internal/tlsfiles"
)

// mutualTLS opens the files by which the services know each other; nil: they trust the network.
func (m *Mesh) mutualTLS() (*tlsfiles.Source, error) {
	cfg := m.cfg.MTLS
	if cfg.CertFile == "" {
		return nil, nil
	}
	files, err := tlsfiles.Open(tlsfiles.Files{CA: cfg.CAFile, Cert: cfg.CertFile, Key: cfg.KeyFile, ServerName: cfg.ServerName}, func(err error) {
		m.tel.Logger.Error("changed files of mtls cannot be read; the old ones stay in use", "error", err)
	})
	if err != nil {
		return nil, fmt.Errorf("mtls: %w", err)
	}
	const remaining = "hookmesh.tls.certificate.remaining"
	return files, m.tel.Sample("github.com/hookmesh/hookmesh/services/wiring", []telemetry.Gauge{
		{Name: remaining, Unit: "s", Description: "Time until the certificate for calls between services ends."},
	}, func(context.Context) ([]telemetry.Reading, error) {
		return []telemetry.Reading{telemetry.Read(remaining, int64(time.Until(files.NotAfter()).Seconds()))}, nil
	})
}
