package simulation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/embedder"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/events"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/reconciler"
)

// reconcilers are what makes up for what webhooks missed: two instances of the real reconciler that share the sources over one
// store, its stages, and an operator who uses its API.
type reconcilers struct {
	*simulation
	store  *reconcilerStore
	source *source
	known  *embedder.Service
	// live are the services that stages speak to, operated is the one whose API is called.
	live     [2]*reconciler.Service
	operated *reconciler.Service
	// begun are all that ever were, for two may live in one slot.
	begun []*reconciler.Service
	// people are told of incidents; nil: nobody is.
	people  *people
	sources []reconciler.Source
	ids     int
}

// addReconcilers adds them to the pipeline. known answers what is in the knowledge base.
func addReconcilers(s *simulation, known *embedder.Service) *reconcilers {
	r := &reconcilers{simulation: s, known: known, source: newSource(s.world, s.scheduler, s.dice, s.log)}
	r.store = newReconcilerStore(s.scheduler, r.source)
	r.sources = r.configured()
	if r.people = newPeople(r); r.people != nil {
		r.source.people = r.people
	}
	r.live, r.operated = [2]*reconciler.Service{r.service(0, "one"), r.service(1, "two")}, r.service(0, "operator")
	addStage(s, 3, "debts", kafka.TopicDebts, r.store.memory, livingHandler{func() stage.Handler[reconciler.Tx] { return r.live[0].Debts() }})
	addStage(s, 4, "letters", kafka.TopicDead, r.store.memory, livingHandler{func() stage.Handler[reconciler.Tx] { return r.live[1].DeadLetters() }})
	for i, name := range []string{"one", "two"} {
		s.slots = append(s.slots, &slot{name: "reconciler-" + name, stage: 3 + i, run: func(ctx context.Context) error {
			owner := name // a restarted instance takes its own leases up again, unless it came without its data
			if chance(s.dice, 4, "another owner") {
				owner = processOf(ctx).name
			}
			r.live[i] = r.service(i, owner)
			return errors.Join(r.live[i].Run(ctx), context.Cause(ctx))
		}})
	}
	s.slots = append(s.slots, &slot{name: "operator", stage: 3, run: r.operate})
	return r
}

// configured are the sources: the world, of which all can be asked or nothing, and one that is empty.
func (r *reconcilers) configured() []reconciler.Source {
	w, d := r.world, r.dice
	mode, _ := w.position(change{})
	minutes := func(n int, label string) time.Duration { return time.Duration(1+d.IntN(n, label)) * time.Minute }
	src := reconciler.Source{Source: config.Source{Name: "s"}, OrderingMode: mode}
	src.Ordering.GapTimeout = 30 * time.Second
	src.Poll.Interval, src.Poll.SweepInterval = minutes(3, "poll interval"), minutes(5, "sweep interval")
	if w.fetch {
		src.Connector = connector.Connector{Fetcher: &fetcher{r.knowledge, r.scheduler, d}, Lister: r.source}
		if r.source.silent {
			src.Sweeper = sweeper{r.source}
		}
		if f := r.source.feed; f != nil {
			src.Subscriber, src.PublicURL, src.Secrets = f, calledAt, []config.Secret{{Value: f.secret}}
			if src.Poll.Interval = 24 * time.Hour; !r.source.silent {
				src.Poll.SweepInterval = -1
			}
		}
	}
	other := reconciler.Source{Source: config.Source{Name: "empty"}, OrderingMode: mode, Connector: connector.Connector{Lister: nothing{r.scheduler}}}
	other.Poll.Interval, other.Poll.SweepInterval = 10*time.Minute, -1
	return []reconciler.Source{src, other}
}

// service is an instance as a process begins it.
func (r *reconcilers) service(number int, owner string) *reconciler.Service {
	deps := reconciler.Deps{
		Store: r.store, Producer: producer{r, number}, Telemetry: telemetry.Nop(), Knowledge: knownDocuments{r: r}, Now: r.now(3 + number),
		Jitter: func(bound time.Duration) time.Duration {
			r.scheduler.shake()
			return bound / 2
		},
		NewID: func() string {
			r.ids++
			return fmt.Sprintf("found-%04d", r.ids)
		},
	}
	cfg := reconciler.Config{Owner: owner}
	if r.people != nil {
		r.people.configure(number, owner, &deps, &cfg)
	}
	service, err := reconciler.New(deps, cfg, r.sources)
	if err != nil {
		r.t.Fatal(err)
	}
	r.begun = append(r.begun, service)
	return service
}

// producer is where an instance writes its events.
type producer struct {
	*reconcilers
	number int
}

// Produce implements reconciler.Producer, and notes which change each event of a poll is about: none may say that it knows the source as
// it was later than the list showed it.
func (p producer) Produce(ctx context.Context, outputs []stage.Output) error {
	for _, out := range outputs {
		if out.Topic != kafka.TopicAccepted {
			continue
		}
		ev, err := events.Decode(out.Value)
		if err != nil {
			return err
		}
		if ev.GetOrigin() != eventv1.Origin_ORIGIN_POLL {
			continue
		}
		at := edition{ev.GetDocumentId(), marked(ev.GetContent().GetUrl())}
		p.world.tells[ev.GetId()] = p.world.changes[at.index]
		shown, clock := p.source.shown[at], 3+p.number
		if off := time.Duration(p.clocks[clock].Load()); time.Since(p.jumped[clock]) > time.Minute && ev.GetReceivedAt().AsTime().Add(-off).After(shown) {
			p.broken = append(p.broken, fmt.Sprintf("event %s says that it knows %s as of %s, and the list showed it at %s", ev.GetId(), at.document, ev.GetReceivedAt().AsTime().Add(-off), shown))
		}
	}
	return p.log.Produce(ctx, outputs)
}

// livingHandler gives the batches of a stage to the service that lives now.
type livingHandler struct {
	living func() stage.Handler[reconciler.Tx]
}

// Handle implements stage.Handler.
func (h livingHandler) Handle(ctx context.Context, tx reconciler.Tx, b stage.Batch) (stage.Result, error) {
	return h.living().Handle(ctx, tx, b)
}

// knownDocuments asks the embedder, as a sweep does over the network.
type knownDocuments struct {
	embedderv1.KnowledgeServiceClient
	r *reconcilers
}

// ListDocuments implements embedderv1.KnowledgeServiceClient.
func (k knownDocuments) ListDocuments(ctx context.Context, req *embedderv1.ListDocumentsRequest, _ ...grpc.CallOption) (*embedderv1.ListDocumentsResponse, error) {
	res, err := k.r.known.ListDocuments(ctx, req)
	return res, errors.Join(err, k.r.scheduler.step(ctx, "lists what is known of "+req.GetSource()))
}

// operate is an operator, who replays whatever is dead, and now and then has a source read from its beginning, or swept.
func (r *reconcilers) operate(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(15 * time.Second):
		}
		if err := r.scheduler.step(ctx, "looks at the dead letters"); err != nil {
			return err
		}
		if _, err := r.operated.ReplayDeadLetters(ctx, &reconcilerv1.ReplayDeadLettersRequest{All: true}); err != nil {
			return err
		}
		if !r.world.fetch || r.scheduler.isCalm() {
			continue
		}
		var err error
		by := r.dice.IntN(16, "by hand")
		if by < 3 {
			r.scheduler.tally.met(metByHand)
		}
		switch by {
		case 0:
			_, err = r.operated.StartBackfill(ctx, &reconcilerv1.StartBackfillRequest{Source: "s", Count: chance(r.dice, 2, "count")})
		case 1:
			_, err = r.operated.PollSource(ctx, &reconcilerv1.PollSourceRequest{Source: "s", Full: chance(r.dice, 2, "full")})
		case 2:
			_, err = r.operated.SweepSource(ctx, &reconcilerv1.SweepSourceRequest{Source: "s", ConfirmDeletions: chance(r.dice, 2, "confirm")})
		}
		if err != nil {
			return err
		}
	}
}

// pollLast has the source polled from its beginning, after everything has come to rest. No poll tells a change twice, and where
// clocks differ or count seconds alone what was told of it may have lost against an older one. So may what a poll by a clock that was
// ahead told of a container's members; elsewhere the next poll on schedule mends that.
func (r *reconcilers) pollLast() {
	w := r.world
	ctx := context.WithValue(r.ctx, processKey{}, &process{name: "the last poll", cancel: func(error) {}})
	r.wg.Go(func() {
		if err := r.scheduler.step(ctx, "begins"); err != nil {
			r.broken = append(r.broken, fmt.Sprintf("the last poll: %v", err))
			return
		}
		r.broken = append(r.broken, r.source.feed.missed()...)
		if !w.skew && w.order != "second" && (!w.subscribed || !w.containers) {
			return
		}
		if _, err := r.operated.PollSource(ctx, &reconcilerv1.PollSourceRequest{Source: "s", Full: true}); err != nil {
			r.broken = append(r.broken, fmt.Sprintf("the last poll: %v", err))
		}
	})
}

// incur notes debts from elsewhere: deliveries that were shed, a log that was lost.
func (r *reconcilers) incur() {
	w, d := r.world, r.dice
	for n := range d.IntN(4, "debts") {
		debt := &eventv1.Debt{Source: []string{"s", "s", "s", "empty", "removed"}[d.IntN(5, "whose")], Reason: []string{"SHED", "RESYNC"}[d.IntN(2, "why")]}
		if debt.GetSource() == "s" && chance(d, 2, "of a document") {
			debt.DocumentId = w.changes[d.IntN(len(w.changes), "which")].document
		}
		at := w.start.Add(time.Duration(d.IntN(int(w.end().Sub(w.start)/time.Millisecond)+60_000, "debt at")) * time.Millisecond)
		ctx := context.WithValue(r.ctx, processKey{}, &process{name: fmt.Sprint("debtor-", n), cancel: func(error) {}})
		r.wg.Go(func() {
			time.Sleep(time.Until(at))
			out, err := events.Output(kafka.TopicDebts, debt.GetSource(), debt.GetDocumentId(), debt)
			for err == nil && r.ctx.Err() == nil {
				processOf(ctx).dead = false // it starts again
				if r.log.Produce(ctx, []stage.Output{out}) == nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
	}
}

// unpaid lists debts and dead letters that are neither settled nor visible, and what else the source has seen go wrong.
func (r *reconcilers) unpaid() (bad []string) {
	for _, rec := range r.log.all(kafka.TopicDebts) {
		d := &eventv1.Debt{}
		if err := proto.Unmarshal(rec.Value, d); err != nil {
			bad = append(bad, "a debt that cannot be read")
		} else if d.GetHeard() == 0 && !r.source.debts[documentID{d.GetSource(), d.GetDocumentId()}] {
			bad = append(bad, fmt.Sprintf("the debt of %s/%s was never noted", d.GetSource(), d.GetDocumentId()))
		}
	}
	for at := range r.store.t.debts.all() {
		if at.source != "s" || r.world.fetch {
			bad = append(bad, fmt.Sprintf("the debt of %s/%s is still open", at.source, at.id))
		}
	}
	for id, d := range r.store.t.letters.all() {
		if d.Letter.GetChange() != nil && d.Status.GetState() == reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_OPEN {
			bad = append(bad, fmt.Sprintf("the dead letter %s was never replayed", id))
		}
	}
	for at := range r.source.debts {
		if _, open := r.store.t.debts.get(at); at.source == "s" && !r.world.fetch && !open {
			bad = append(bad, fmt.Sprintf("the debt of %s/%s was not paid, and is not visible either", at.source, at.id))
		}
	}
	if p, _ := r.store.t.cursors.get("s"); r.world.fetch && p.at.IsZero() {
		bad = append(bad, "the source was never read to its end")
	}
	bad = append(bad, r.source.feed.left()...)
	bad = append(bad, r.people.untold()...)
	slices.Sort(bad)
	return append(bad, r.source.broken...)
}
