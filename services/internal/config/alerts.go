package config

import (
	"fmt"
	"time"
)

// Alerts says who is told when something is wrong: once per incident, not once per event.
type Alerts struct {
	// Targets are told, each for itself.
	Targets []AlertTarget `yaml:"targets"`
	// Group is how long a new incident waits for others that begin with it, and the least time between two messages; 0: 30 s.
	Group time.Duration `yaml:"group"`
	// Repeat is after how long an incident that goes on is told again; 0: 4 h.
	Repeat time.Duration `yaml:"repeat"`
	// Settle is how long a condition must be gone before its incident is over; 0: 2 min.
	Settle time.Duration `yaml:"settle"`
	// PerHour bounds the messages to each target; 0: 12. What does not fit is told together when there is room again.
	PerHour int `yaml:"per_hour"`
}

// AlertTarget is who is told.
type AlertTarget struct {
	// Name for logs and for what is remembered of the target.
	Name string `yaml:"name"`
	// URL receives the messages, usually "${VARIABLE}": chat services put a credential into it. It is never logged.
	URL Hidden `yaml:"url"`
	// Format is webhook (JSON, signed as Standard Webhooks says; the default) or slack (a text that Slack and compatible services show).
	Format string `yaml:"format"`
	// Secret signs webhooks: whsec_ and at least 24 bytes in base64, usually "${VARIABLE}". It is never logged.
	Secret Hidden `yaml:"secret"`
}

func (a *Alerts) complete() {
	def := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	def(&a.Group, 30*time.Second)
	def(&a.Repeat, 4*time.Hour)
	def(&a.Settle, 2*time.Minute)
	if a.PerHour == 0 {
		a.PerHour = 12
	}
	for i := range a.Targets {
		if a.Targets[i].Format == "" {
			a.Targets[i].Format = "webhook"
		}
	}
}

func (c *checker) alerts(a Alerts) {
	for path, d := range map[string]time.Duration{"group": a.Group, "repeat": a.Repeat, "settle": a.Settle} {
		if d < time.Second {
			c.report("alerts."+path, "%s is less than 1s", d)
		}
	}
	c.atLeast("alerts.per_hour", int64(a.PerHour), 1)
	names := map[string]bool{}
	for i, t := range a.Targets {
		path := fmt.Sprintf("alerts.targets[%d]", i)
		if t.Name == "" || names[t.Name] {
			c.report(path+".name", "is missing, or stands there twice")
		}
		names[t.Name] = true
		if t.URL == "" {
			c.report(path+".url", "is missing")
		}
		c.httpURL(path+".url", string(t.URL))
		c.oneOf(path+".format", t.Format, "webhook", "slack")
		if t.Format == "webhook" && t.Secret == "" {
			c.report(path+".secret", "is missing: a webhook is signed")
		}
	}
}
