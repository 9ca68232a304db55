package topology

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
)

// StandBack lets everything behind the gateways and verifiers give way to them where processors are short, as the weights of the compose file do:
// the log keeps the work of the stages, and nothing keeps a sender. nice counts as nice(1) does, from 0 (as everybody) to 19; 12 is a
// sixteenth of the weight. What is started later stands where its parent does.
func (m *Mesh) StandBack(nice int) error {
	pids := append(m.Postgres.children(), m.Postgres.PID())
	for _, in := range m.Instances {
		if !slices.Contains([]string{"gateway", "verifier"}, in.Service) {
			pids = append(pids, in.PID())
		}
	}
	var errs []error
	for _, pid := range pids {
		// All of them lead a process group, and all threads of a group are set at once; those of a process would not be.
		if err := syscall.Setpriority(syscall.PRIO_PGRP, pid, nice); err != nil && !errors.Is(err, syscall.ESRCH) { // a child of PostgreSQL may have ended
			errs = append(errs, fmt.Errorf("priority of process %d: %w", pid, err))
		}
	}
	return errors.Join(errs...)
}

// SharedBySession says, if so, that a priority counts for little on this machine: where Linux shares processors out by sessions first (sched(7),
// "The autogroup feature"), it counts inside of a session only, and each connection to PostgreSQL has a session of its own. Containers, each in
// a control group of its own, are not concerned.
func SharedBySession() string {
	const setting = "/proc/sys/kernel/sched_autogroup_enabled"
	if raw, err := os.ReadFile(setting); err != nil || len(raw) == 0 || raw[0] != '1' {
		return ""
	}
	return "processors are shared out by sessions here: PostgreSQL will give way only in part. `sysctl kernel.sched_autogroup_enabled=0` changes that"
}
