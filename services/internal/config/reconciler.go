package config

import "time"

// Reconciler tunes what makes up for missed webhooks.
type Reconciler struct {
	// DeadRetention is how long dead letters are kept, whatever became of them; 0: 720h. At least 1h.
	DeadRetention time.Duration `yaml:"dead_retention"`
	// BackfillPending is how many changes may wait at the embedder while a backfill or a sweep puts in more; 0: 200.
	BackfillPending int64 `yaml:"backfill_pending"`
	// BackfillPerSecond bounds the changes per second of backfills and sweeps; 0: 500. Negative: nothing does but BackfillPending.
	BackfillPerSecond float64 `yaml:"backfill_per_second"`
}

func (r *Reconciler) complete() {
	if r.DeadRetention == 0 {
		r.DeadRetention = 30 * 24 * time.Hour
	}
	if r.BackfillPending == 0 {
		r.BackfillPending = 200
	}
	if r.BackfillPerSecond == 0 {
		r.BackfillPerSecond = 500
	}
}

func (c *checker) reconciler(r Reconciler) {
	if r.DeadRetention < time.Hour {
		c.report("reconciler.dead_retention", "%s is less than 1h", r.DeadRetention)
	}
	c.atLeast("reconciler.backfill_pending", r.BackfillPending, 1)
}
