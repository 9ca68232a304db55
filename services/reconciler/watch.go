package reconciler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	"github.com/hookmesh/hookmesh/services/reconciler/alert"
	"github.com/hookmesh/hookmesh/services/reconciler/rhythm"
)

const (
	alertState = "alerts"
	alertLease = "alerts"
	// watchInterval is how often it is looked whether something is wrong.
	watchInterval = 10 * time.Second
	// oldDebt is how long a debt may be open before somebody is told: most are paid within seconds.
	oldDebt = 10 * time.Minute
	// longestSilence bounds the pause after an alert could not be delivered.
	longestSilence = 5 * time.Minute
)

// watch looks whether something is wrong and tells the targets, until ctx ends. Of several instances the one with the lease does it.
func (s *Service) watch(ctx context.Context) {
	pauses := map[string]time.Time{}
	failures := map[string]int{}
	for ctx.Err() == nil {
		now := s.deps.Now()
		mine, err := s.turn(ctx)
		var holding []alert.Condition
		if err == nil && mine {
			holding, err = s.conditions(ctx)
		}
		for _, t := range s.cfg.Alerts {
			if err == nil && mine && s.deps.Now().Sub(now) >= watchInterval { // those before it were slow: is it still our turn?
				mine, err = s.turn(ctx)
			}
			if err != nil || !mine {
				break
			}
			reachable := !now.Before(pauses[t.Name])
			switch err := s.tell(ctx, t, holding, now, reachable); {
			case err != nil && ctx.Err() == nil:
				if reachable {
					failures[t.Name]++
					pauses[t.Name] = now.Add(min(watchInterval<<min(failures[t.Name], 10), longestSilence))
				}
				s.deps.Telemetry.Logger.Error("an alert could not be delivered; trying again", "target", t.Name, "error", err)
			case reachable:
				failures[t.Name] = 0
			}
		}
		if err != nil && ctx.Err() == nil {
			s.deps.Telemetry.Logger.Warn("looking whether something is wrong failed; trying again", "error", err)
		}
		sleep(ctx, watchInterval)
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = s.deps.Store.ReleaseLease(last, alertLease, s.owner) // else it ends by itself
}

// turn says whether it is for this instance to tell, for longer than one message takes.
func (s *Service) turn(ctx context.Context) (bool, error) {
	now := s.deps.Now()
	return s.deps.Store.AcquireLease(ctx, alertLease, s.owner, now, now.Add(3*watchInterval))
}

// tell delivers to one target what it has to be told, unless it is to be left alone for a while. What was told is kept only after it was
// delivered, so that a crash in between tells it twice rather than never; what was seen is kept in any case.
func (s *Service) tell(ctx context.Context, t alert.Target, holding []alert.Condition, now time.Time, reachable bool) error {
	raw, err := s.deps.Store.State(ctx, alertState, t.Name)
	if err != nil {
		return fmt.Errorf("read what was told: %w", err)
	}
	var book alert.Book
	if raw != nil {
		if err := json.Unmarshal(raw, &book); err != nil {
			return fmt.Errorf("read what was told: %w", err)
		}
	}
	next, m := book.Observe(holding, s.cfg.AlertPolicy, now)
	var failed error
	if !m.Empty() && reachable {
		failed = s.deps.Notify(ctx, t, m)
	}
	if !m.Empty() && (!reachable || failed != nil) {
		next = book.See(holding, now)
	}
	if raw, err = json.Marshal(next); err != nil {
		return errors.Join(failed, fmt.Errorf("keep what was told: %w", err))
	}
	return errors.Join(failed, s.deps.Store.SetState(ctx, alertState, t.Name, raw))
}

// conditions are what is wrong now.
func (s *Service) conditions(ctx context.Context) ([]alert.Condition, error) {
	var out []alert.Condition
	for _, p := range s.pollers() {
		some, err := p.conditions(ctx)
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", p.src.Name, err)
		}
		out = append(out, some...)
	}
	if s.deps.Embedder == nil {
		return out, nil
	}
	res, err := s.deps.Embedder.GetBacklog(ctx, &embedderv1.GetBacklogRequest{Limit: 1})
	if err != nil {
		return append(out, alert.Condition{Kind: "embedder", Text: "The embedder does not answer."}), nil //nolint:nilerr // that it does not answer is what is told
	}
	for _, b := range res.GetBreakers() {
		c := alert.Condition{Kind: "breaker", Source: b.GetEndpoint(), Text: fmt.Sprintf("%s refuses or fails us; its documents wait: %s", b.GetEndpoint(), b.GetCause())}
		out = append(out, c)
	}
	return out, nil
}

// conditions are what is wrong with one source now.
func (p *poller) conditions(ctx context.Context) (out []alert.Condition, err error) {
	name, now := p.src.Name, p.deps.Now()
	dead, err := p.deps.Store.CountDeadLetters(ctx, DeadFilter{Source: name, State: reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_OPEN})
	if err != nil {
		return nil, err
	}
	if dead > 0 {
		out = append(out, alert.Condition{Kind: "dead-letters", Source: name, Count: dead, Text: fmt.Sprintf("%d changes could not be processed: hookmesh dead list --source %s", dead, name)})
	}
	debts, err := p.deps.Store.Debts(ctx, name, 1)
	if err != nil {
		return nil, err
	}
	if len(debts) > 0 && debts[0].GetIncurredAt() != nil && now.Sub(debts[0].GetIncurredAt().AsTime()) > oldDebt && !p.src.Disabled {
		text := fmt.Sprintf("What was missed since %s cannot be fetched.", debts[0].GetIncurredAt().AsTime().Format(time.RFC3339))
		if p.way(debts[0]) == noWay {
			text += fmt.Sprintf(" The source has no list of changes, and a document that can be fetched is not known: hookmesh debts list --source %s", name)
		}
		out = append(out, alert.Condition{Kind: "debts", Source: name, Text: text})
	}
	since, ever, err := p.polledSince(ctx)
	if err != nil {
		return nil, err
	}
	if late := p.src.Poll.Interval*5/2 + time.Minute; p.polls() && !since.IsZero() && now.Sub(since) > late {
		text := "It was last polled to its end at %s."
		if !ever {
			text = "It was never read to its end, and its first reading has not come further since %s."
		}
		out = append(out, alert.Condition{Kind: "poll", Source: name, Text: fmt.Sprintf(text, since.UTC().Format(time.RFC3339))})
	}
	beat, err := p.rhythm(ctx)
	if err != nil {
		return nil, err
	}
	if verdict, expected := beat.Judge(now); verdict == rhythm.Silent && !p.src.Disabled {
		out = append(out, alert.Condition{Kind: "silent", Source: name, Text: fmt.Sprintf("No webhook came since %s; about %.0f were to be expected. It is polled more often meanwhile.", beat.Last.UTC().Format(time.RFC3339), expected)})
	}
	subscriptions, err := p.subscriptions(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range subscriptions {
		if s.Error != "" {
			out = append(out, alert.Condition{Kind: "subscription", Source: name, Text: fmt.Sprintf("The source does not call us for %s, or soon will not: %s", s.Resource, s.Error)})
			break
		}
	}
	r, err := p.lastDrift(ctx)
	if err != nil {
		return nil, err
	}
	if r.GetWithheld() > 0 {
		out = append(out, alert.Condition{Kind: "withheld", Source: name, Count: r.GetWithheld(), Text: fmt.Sprintf("%d deletions at once are not believed yet: hookmesh drift %s --now --confirm-deletions", r.GetWithheld(), name)})
	}
	if r.GetError() != "" {
		out = append(out, alert.Condition{Kind: "sweep", Source: name, Text: "The last sweep was not completed: " + r.GetError()})
	}
	if r != nil && r.GetRight() < 0.99 && r.GetError() == "" {
		out = append(out, alert.Condition{Kind: "drift", Source: name, Count: r.GetMissing() + r.GetExtra() + r.GetStale(),
			Text: fmt.Sprintf("At the last sweep %.1f %% of the documents were right: %d missing, %d extra, %d stale.", 100*r.GetRight(), r.GetMissing(), r.GetExtra(), r.GetStale())})
	}
	return out, nil
}
