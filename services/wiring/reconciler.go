package wiring

import (
	"fmt"

	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/reconciler"
	"github.com/hookmesh/hookmesh/services/reconciler/alert"
)

// alertTargets are who is told of incidents.
func alertTargets(a config.Alerts) ([]alert.Target, error) {
	var out []alert.Target
	for i, t := range a.Targets {
		if t.Format == string(alert.FormatWebhook) {
			if _, err := alert.Key(string(t.Secret)); err != nil {
				return nil, fmt.Errorf("alerts.targets[%d].secret: %w", i, err)
			}
		}
		out = append(out, alert.Target{Name: t.Name, URL: string(t.URL), Format: alert.Format(t.Format), Secret: string(t.Secret)})
	}
	return out, nil
}

func alertPolicy(a config.Alerts) alert.Policy {
	return alert.Policy{Group: a.Group, Repeat: a.Repeat, Settle: a.Settle, PerHour: a.PerHour}
}

// reconcilerConfig is how the configuration tunes the reconciler.
func (m *Mesh) reconcilerConfig() (reconciler.Config, error) {
	owner, err := m.instance()
	if err != nil {
		return reconciler.Config{}, err
	}
	targets, err := alertTargets(m.cfg.Alerts)
	if err != nil {
		return reconciler.Config{}, err
	}
	r := m.cfg.Reconciler
	return reconciler.Config{
		Owner: owner, DeadRetention: r.DeadRetention, BackfillPending: r.BackfillPending, BackfillPerSecond: r.BackfillPerSecond,
		Alerts: targets, AlertPolicy: alertPolicy(m.cfg.Alerts),
	}, nil
}
