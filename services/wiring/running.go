package wiring

import (
	"context"

	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// tellServices reports which services run in this process. Where Prometheus asks a name server or Kubernetes whom to scrape, what does not run is
// no target, and none of its metrics is there to be compared with anything: only what else is missing tells of it.
func (m *Mesh) tellServices() error {
	const running = "hookmesh.service.running"
	return m.tel.Sample("github.com/hookmesh/hookmesh/services/wiring", []telemetry.Gauge{
		{Name: running, Unit: "{process}", Description: "1 for each service that runs in this process, by service."},
	}, func(context.Context) (readings []telemetry.Reading, err error) {
		for _, name := range config.ServiceNames() {
			if m.here(name) {
				readings = append(readings, telemetry.Read(running, 1, "service", name))
			}
		}
		return readings, nil
	})
}
