package reconciler

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

const (
	// payBatch is how many debts of a source are paid at once.
	payBatch = 200
	// debtPause is the least time between two polls that pay debts of a source.
	debtPause = 2 * time.Second
)

// Debts is the stage that notes debts.
func (s *Service) Debts() stage.Handler[Tx] { return debtHandler{s} }

type debtHandler struct{ *Service }

// Handle implements stage.Handler. A record that is no debt is dropped: there is nothing to pay.
func (h debtHandler) Handle(ctx context.Context, tx Tx, b stage.Batch) (stage.Result, error) {
	var heard []*eventv1.Debt
	for _, rec := range b.Records {
		d := &eventv1.Debt{}
		if err := proto.Unmarshal(rec.Value, d); err != nil || d.GetSource() == "" {
			h.deps.Telemetry.Logger.Error("a record of the debts' topic cannot be read", "partition", rec.Partition, "offset", rec.Offset)
			continue
		}
		if d.GetHeard() > 0 {
			heard = append(heard, d)
			continue
		}
		if err := tx.AddDebt(ctx, d); err != nil {
			return stage.Result{}, fmt.Errorf("note debt: %w", err)
		}
	}
	return stage.Result{Committed: func() {
		h.hear(context.WithoutCancel(ctx), heard)
		select {
		case h.wake <- struct{}{}:
		default:
		}
	}}, nil
}

// payDebts pays what is owed as it comes.
func (s *Service) payDebts(ctx context.Context) {
	for ctx.Err() == nil {
		if err := s.pay(ctx); err != nil && ctx.Err() == nil {
			s.deps.Telemetry.Logger.Warn("paying debts failed; trying again", "error", err)
		}
		timer := time.NewTimer(time.Second)
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// pay pays each source's debts by themselves, so that one that owes much, or cannot pay, keeps none of the others waiting.
func (s *Service) pay(ctx context.Context) error {
	names, err := s.deps.Store.DebtSources(ctx)
	if err != nil {
		return fmt.Errorf("read which sources owe: %w", err)
	}
	for _, name := range names {
		p := s.source(name)
		if p != nil && !p.mine.Load() {
			continue // another instance takes care of the source
		}
		if p == nil { // the source was taken out of the configuration
			n, err := s.deps.Store.WriteOff(ctx, name, nil)
			if err != nil {
				return fmt.Errorf("write off debts of %s: %w", name, err)
			}
			if n > 0 { // else another instance did
				s.deps.Telemetry.Logger.WarnContext(ctx, "debts were written off", "source", name, "debts", n, "reason", "the source is not configured any more")
			}
			continue
		}
		debts, err := s.deps.Store.Debts(ctx, name, payBatch)
		if err != nil {
			return fmt.Errorf("read debts of %s: %w", name, err)
		}
		if err := p.pay(ctx, debts); err != nil {
			return err
		}
	}
	return nil
}

const (
	byFetch = reconcilerv1.DebtWay_DEBT_WAY_FETCH
	byPoll  = reconcilerv1.DebtWay_DEBT_WAY_POLL
	noWay   = reconcilerv1.DebtWay_DEBT_WAY_NONE
)

// way is how a debt can be paid.
func (p *poller) way(d Debt) reconcilerv1.DebtWay {
	switch {
	case d.GetDocumentId() != "" && p.src.Fetcher != nil:
		return byFetch
	case p.src.Lister != nil:
		return byPoll
	}
	return noWay
}

// pay asks for documents one by one where they can be fetched, and polls the source where they cannot. What can be paid in
// no way stays open and visible until somebody writes it off.
func (p *poller) pay(ctx context.Context, debts []Debt) error {
	var outputs []stage.Output
	var fetched, polled []Debt
	for _, d := range debts {
		switch p.way(d) {
		case byFetch:
			ev := p.event(d.GetDocumentId(), eventv1.Origin_ORIGIN_DEBT)
			ev.Content.Url = d.GetUrl()
			out, err := p.output(ctx, ev)
			if err != nil {
				return err
			}
			outputs, fetched = append(outputs, out), append(fetched, d)
		case byPoll:
			if p.deps.Now().Sub(p.paidAt) >= debtPause {
				polled = append(polled, d)
			}
		}
	}
	if len(outputs) > 0 {
		if err := p.deps.Producer.Produce(ctx, outputs); err != nil {
			return fmt.Errorf("write %d changes: %w", len(outputs), err)
		}
		p.count(ctx, len(outputs), "debt")
	}
	if len(polled) > 0 {
		p.paidAt = p.deps.Now()
		resync := slices.ContainsFunc(polled, func(d Debt) bool { return d.GetReason() == "RESYNC" })
		if _, _, err := p.poll(ctx, resync); err != nil {
			polled = nil // the poll has logged why
		}
	}
	if len(fetched)+len(polled) == 0 {
		return nil
	}
	return p.deps.Store.Pay(ctx, append(fetched, polled...))
}
