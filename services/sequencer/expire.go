package sequencer

// Expire decides on time: at half of the wait the reconciler is asked, at its end what was waited for is given up: what is
// held passes in order, up to the next hole, whose own wait goes on.
func Expire(s *State, r Rules, now int64, d *Decision) {
	d.reset()
	c := core{s, d, r, now}
	for len(s.Held) > 0 && now >= s.Deadline() {
		c.giveUp("its predecessor did not come in time")
	}
	if len(s.Held) > 0 && !s.Asked && now >= s.half() {
		s.Asked, d.Ask = true, true
	}
}

// Forgettable says whether nothing but a tombstone is left of a document, and its time is over.
func (s *State) Forgettable(now int64) bool {
	return s.Deleted && s.Forget != 0 && s.Forget <= now && len(s.Held) == 0 && s.Sweep == nil
}

// Skip gives up what is missing at a position, at an operator's word. It does nothing if something else is waited for by now.
func Skip(s *State, missing int64, r Rules, now int64, d *Decision) {
	d.reset()
	if len(s.Held) > 0 && s.Missing() == missing {
		core := core{s, d, r, now}
		core.giveUp("skipped by an operator")
	}
}

// Wait moves the end of the wait for what is missing at a position, at an operator's word.
func Wait(s *State, missing, until int64) {
	if len(s.Held) > 0 && s.Missing() == missing {
		s.Until = until
	}
}

// Missing is the first position that a document waits for; nothing waits: the next one.
func (s *State) Missing() int64 {
	if !s.HasLast {
		return 1 // of a document that was never seen
	}
	return s.Last + 1
}
