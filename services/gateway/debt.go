package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// Reasons of debts, as in the contract of eventv1.Debt.
const (
	reasonShed      = "SHED"
	reasonStale     = "STALE"
	reasonSpoolFull = "SPOOL_FULL"
)

// debtInterval is the least time between two debts of a source for the same reason.
const debtInterval = time.Second

// debt is something that a source sent and that was not taken.
type debt struct {
	source, reason  string
	document, event string // empty: the whole source
	url             string // where the document is read; may be empty
	at              time.Time
}

type debtKey struct{ source, reason string }

// maxNamed is how many documents of a source are named for one reason and second. More are a debt of the whole source.
const maxNamed = 64

// ledger collects debts until they are written: a flood of refusals becomes one record per source, reason and second, or one per
// document while they are few. It is bounded by the number of configured sources, whatever comes in.
type ledger struct {
	mu   sync.Mutex
	open map[debtKey]map[string]debt // by document
	wake chan struct{}
}

func newLedger() *ledger {
	return &ledger{open: map[debtKey]map[string]debt{}, wake: make(chan struct{}, 1)}
}

// add notes a debt. Debts of many documents become one of the whole source.
func (l *ledger) add(d debt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := debtKey{d.source, d.reason}
	named := l.open[key]
	if named == nil {
		named = map[string]debt{}
		l.open[key] = named
	}
	if _, whole := named[""]; whole || len(named) == maxNamed && named[d.document].source == "" {
		d.document, d.url = "", ""
	}
	if old, ok := named[d.document]; ok {
		d.event = ""
		d.at = earlier(d.at, old.at)
	}
	if d.document == "" {
		for _, old := range named {
			d.event = ""
			d.at = earlier(d.at, old.at)
		}
		clear(named)
	}
	named[d.document] = d
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// take empties the ledger, in the order of sources, reasons and documents.
func (l *ledger) take() []debt {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]debt, 0, len(l.open))
	for _, named := range l.open {
		for _, d := range named {
			out = append(out, d)
		}
	}
	clear(l.open)
	slices.SortFunc(out, func(a, b debt) int {
		return cmp.Or(cmp.Compare(a.source, b.source), cmp.Compare(a.reason, b.reason), cmp.Compare(a.document, b.document))
	})
	return out
}

// payDebts writes debts as they come in, at most once per interval, until ctx ends.
func (s *Service) payDebts(ctx context.Context) {
	for ctx.Err() == nil { // what could not be written wakes at once, and is not tried for ever when ctx has ended
		select {
		case <-ctx.Done():
			return
		case <-s.debts.wake:
		}
		if err := s.writeDebts(ctx); err != nil {
			s.tel.Logger.Warn("debts could not be written; they are kept in memory until they can", "error", err)
		}
		pause(ctx, debtInterval)
	}
}

// writeDebts makes the open debts durable; those that could not be stay open.
func (s *Service) writeDebts(ctx context.Context) error {
	debts := s.debts.take()
	if len(debts) == 0 {
		return nil
	}
	outputs := make([]stage.Output, 0, len(debts))
	for _, d := range debts {
		value, err := proto.Marshal(&eventv1.Debt{Source: d.source, DocumentId: clean(d.document), Reason: d.reason, IncurredAt: timestamppb.New(d.at), EventId: d.event, Url: clean(d.url)})
		if err != nil {
			return fmt.Errorf("encode a debt of %s: %w", d.source, err)
		}
		outputs = append(outputs, stage.Output{Topic: kafka.TopicDebts, Key: kafka.DocumentKey(d.source, d.document), Value: value})
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*s.cfg.WriteTimeout)
	defer cancel()
	bounded, span := s.startSpan(bounded, "write debts")
	defer span.End()
	if err := s.store(bounded, outputs); err != nil {
		for _, d := range debts {
			s.debts.add(d)
		}
		return errors.Join(fmt.Errorf("write %d debts", len(debts)), err)
	}
	for _, d := range debts {
		s.meters.debt(ctx, d.source, d.reason)
	}
	return nil
}
