package config

import "time"

// Reconciler tunes what makes up for missed webhooks.
type Reconciler struct {
	// DeadRetention is how long dead letters are kept, whatever became of them; 0: 720h. At least 1h.
	DeadRetention time.Duration `yaml:"dead_retention"`
}

func (r *Reconciler) complete() {
	if r.DeadRetention == 0 {
		r.DeadRetention = 30 * 24 * time.Hour
	}
}

func (c *checker) reconciler(r Reconciler) {
	if r.DeadRetention < time.Hour {
		c.report("reconciler.dead_retention", "%s is less than 1h", r.DeadRetention)
	}
}
