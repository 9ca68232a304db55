package simulation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	gatewayv1 "github.com/hookmesh/hookmesh/gen/hookmesh/gateway/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	sequencerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/sequencer/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/dedupe"
	"github.com/hookmesh/hookmesh/services/gateway"
	"github.com/hookmesh/hookmesh/services/internal/events"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/spool"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// gateways are the edge: two instances of the real gateway, each with a disk of its own, before the real verifier and dedupe.
type gateways struct {
	*simulation
	dedupe *dedupe.Service
	doors  [2]*door
	cfg    gateway.Config
	owed   []shed
	// herd: deliveries come together, at moments that lie so far apart; 0: each when it comes.
	herd time.Duration
	// away is from when to when the gateways cannot reach Kafka.
	away [2]time.Time
}

// door is where deliveries come in: a gateway, while one runs.
type door struct {
	disk  *memoryDisk
	clock func() time.Time
	open  atomic.Pointer[listener] // nil: nobody listens
}

// listener is the gateway behind a door. A gateway whose time is over ends between two steps, hence the atomic pointer to it.
type listener struct {
	gateway *gateway.Service
	process *process
}

// shed is an authentic delivery that was not taken, and for which a debt must be written unless the process dies at once.
type shed struct {
	process          *process
	reason, document string
	at               time.Time
}

// deathbed is how long before its death a gateway may lose a debt: it is kept in memory until it is written, a second later.
const deathbed = 30 * time.Second

func addGateways(s *simulation, dd *dedupe.Service) *gateways {
	d := s.dice
	g := &gateways{simulation: s, dedupe: dd}
	g.cfg = gateway.Config{
		Sources:    []gateway.Source{{Name: "s", PerSecond: []float64{-1, 1, 0.5}[d.IntN(3, "rate")], Burst: 1 + d.IntN(4, "burst")}},
		Durability: []gateway.Durability{gateway.DurabilityBroker, gateway.DurabilitySpool}[d.IntN(2, "durability")],
		SpoolDir:   "in memory", MaxInFlight: 1 + d.IntN(6, "in flight"), Lanes: 1 + d.IntN(2, "lanes"),
	}
	if chance(d, 6, "herds") {
		g.herd = time.Duration(20+d.IntN(60, "herd")) * time.Second
		g.cfg.Sources[0].PerSecond, g.cfg.MaxInFlight = -1, 10+d.IntN(20, "in flight")
	}
	outage := 0
	if chance(d, 5, "outage") {
		outage = 1 + d.IntN(60, "outage")
	}
	if !s.world.subscribed && chance(d, 7, "small spools") { // where changes are rare they fill none
		// A few records fill the spool, and each needs a file of its own. It can hold one of the largest, which is what bounds it.
		s.world.padding = strings.Repeat("x", 120_000)
		g.cfg.MaxBodyBytes, g.cfg.MaxRecordBytes, g.cfg.SpoolBytes = 128<<10, 1<<20+128<<10, 1<<20+128<<10
		outage = 60 + d.IntN(120, "outage")
	}
	if outage > 0 {
		from := s.world.start.Add(time.Duration(d.IntN(60_000, "from"))*time.Millisecond + 211*time.Nanosecond)
		g.away = [2]time.Time{from, from.Add(time.Duration(outage) * time.Second)}
	}
	for i := range g.doors {
		dr := &door{disk: &memoryDisk{hooks: s.scheduler, dice: d, tally: s.scheduler.tally}, clock: s.now(firstGateway + i)}
		g.doors[i] = dr
		s.slots = append(s.slots, &slot{name: fmt.Sprint("gateway-", i), run: func(ctx context.Context) error { return g.serve(ctx, dr) }})
	}
	return g
}

// serve is the life of a gateway: it opens what the last one left of the spool, and ends by a crash, or because it is to be replaced.
func (g *gateways) serve(ctx context.Context, d *door) error {
	disk, err := d.disk.mount(ctx)
	if err != nil {
		return err
	}
	defer func() { disk.done.Store(!processOf(ctx).dead) }()
	if chance(g.dice, 3, "replaced") {
		g.scheduler.tally.met(metReplaced)
		var cancel context.CancelFunc
		// Not in a moment in which something of its own is due: which of the two comes first would be chance.
		ctx, cancel = context.WithTimeout(ctx, time.Duration(10+g.dice.IntN(120, "after"))*time.Second+123_457*time.Nanosecond)
		defer cancel()
	}
	service, err := gateway.New(g.deps(disk, d.clock), g.cfg)
	if err != nil {
		return err
	}
	d.open.Store(&listener{service, processOf(ctx)})
	defer d.open.Store(nil)
	return service.Run(ctx)
}

func (g *gateways) deps(disk *mounted, now func() time.Time) gateway.Deps {
	tel := telemetry.Nop()
	tel.Logger, tel.TracerProvider = slog.New(stepLogger{g.scheduler, g.scheduler.tally}), stepTracers{hooks: g.scheduler}
	return gateway.Deps{
		Verifier: verifierClient{gateways: g}, Dedupe: dedupeClient{gateways: g}, Producer: g, Telemetry: tel, Disk: disk, Now: now,
		NewID:  func(ctx context.Context) (string, error) { return ctx.Value(deliveryKey{}).(*attempt).id(), nil },
		Jitter: func(bound time.Duration) time.Duration { return bound / 2 },
		// These are asked by the API alone.
		Sequencer: struct {
			sequencerv1.SequencerServiceClient
		}{}, Embedder: struct {
			embedderv1.EmbedderServiceClient
		}{},
		Knowledge: struct {
			embedderv1.KnowledgeServiceClient
		}{}, Reconciler: struct {
			reconcilerv1.ReconcilerServiceClient
		}{},
	}
}

// attempt is one try of a sender to deliver.
type attempt struct {
	name string
	ids  int
	// checked: dedupe was asked about it.
	checked bool
}

type deliveryKey struct{}

// id names what becomes of the delivery.
func (a *attempt) id() string {
	a.ids++
	return fmt.Sprint(a.name, "-", a.ids)
}

// reach is the way of a gateway to a service and back: it can fail, or take longer than the gateway waits.
func (g *gateways) reach(ctx context.Context, what string) error {
	err := g.scheduler.step(ctx, what)
	if err == nil {
		err = g.linger(ctx, 10)
	}
	if err != nil {
		return status.Error([]codes.Code{codes.Unavailable, codes.Internal}[g.dice.IntN(2, "code")], err.Error())
	}
	return nil
}

// linger lets time pass, one time in n.
func (g *gateways) linger(ctx context.Context, n int) error {
	if g.scheduler.isCalm() || !chance(g.dice, n, "a slow answer") {
		return nil
	}
	g.scheduler.tally.met(metLate)
	// Half a millisecond more, so that it never ends in the moment in which a timeout does.
	late := time.NewTimer(time.Duration(g.dice.IntN(3000, "slow"))*time.Millisecond + 500*time.Microsecond)
	defer late.Stop()
	err := error(nil)
	select {
	case <-ctx.Done():
		err = ctx.Err()
	case <-late.C:
	}
	if died := g.scheduler.step(ctx, "is answered late"); died != nil {
		return died
	}
	return err
}

type verifierClient struct {
	verifierv1.VerifierServiceClient
	*gateways
}

func (c verifierClient) Verify(ctx context.Context, in *verifierv1.VerifyRequest, _ ...grpc.CallOption) (*verifierv1.VerifyResponse, error) {
	if err := c.reach(ctx, "asks the verifier"); err != nil {
		return nil, err
	}
	return c.verifier.Verify(ctx, in)
}

func (c verifierClient) VerifyBatch(ctx context.Context, in *verifierv1.VerifyBatchRequest, _ ...grpc.CallOption) (*verifierv1.VerifyBatchResponse, error) {
	if err := c.reach(ctx, fmt.Sprintf("asks the verifier about %d", len(in.GetRequests()))); err != nil {
		return nil, err
	}
	return c.verifier.VerifyBatch(ctx, in)
}

type dedupeClient struct {
	dedupev1.DedupeServiceClient
	*gateways
}

func (c dedupeClient) Check(ctx context.Context, in *dedupev1.CheckRequest, _ ...grpc.CallOption) (*dedupev1.CheckResponse, error) {
	asked, slow := metAlone, metGivenUp
	if end, ok := ctx.Deadline(); ok && time.Until(end) <= 20*time.Millisecond {
		asked, slow = metCrowd, metCrowdGone
	}
	c.scheduler.tally.met(asked)
	if err := c.reach(ctx, fmt.Sprintf("asks dedupe about %d", len(in.GetEvents()))); err != nil {
		if ctx.Err() != nil {
			c.scheduler.tally.met(slow)
		}
		return nil, err
	}
	return c.dedupe.Check(ctx, in)
}

// Produce implements gateway.Producer. It may take longer than the gateway waits, before or after the records are written.
func (g *gateways) Produce(ctx context.Context, outputs []stage.Output) error {
	if err := g.scheduler.step(ctx, fmt.Sprintf("writes %d to Kafka", len(outputs))); err != nil {
		return err
	}
	for _, out := range outputs {
		if out.Topic == kafka.TopicAccepted {
			g.compare(out)
		}
	}
	if now := time.Now(); now.After(g.away[0]) && now.Before(g.away[1]) {
		g.scheduler.tally.met(metKafkaAway)
		return errFault
	}
	if err := g.linger(ctx, 15); err != nil {
		return err
	}
	if err := g.log.Produce(ctx, outputs); err != nil {
		return err
	}
	return g.linger(ctx, 15)
}

// compare sees to it that an event says what truly happened: anything else was forged, or misunderstood.
func (g *gateways) compare(out stage.Output) {
	ev, err := events.Decode(out.Value)
	if err != nil {
		g.broken = append(g.broken, fmt.Sprintf("a gateway writes what is no event: %v", err))
		return
	}
	index, err := strconv.Atoi(strings.TrimPrefix(ev.GetContent().GetUrl(), "#"))
	if err != nil || index < 0 || index >= len(g.world.changes) {
		g.broken = append(g.broken, fmt.Sprintf("a gateway writes %s, which is about nothing: %v", ev.GetId(), ev))
		return
	}
	truth := g.world.webhook(g.world.changes[index], ev.GetId(), ev.GetReceivedAt().AsTime())
	if got, want := said(ev), said(truth); !proto.Equal(got, want) {
		g.broken = append(g.broken, fmt.Sprintf("a gateway writes %v, the truth is %v", got, want))
	}
}

// answered is what a sender hears.
type answered struct {
	status int
	Code   string
	Events []struct{ ID, DuplicateOf string }
}

// knock delivers once, to one of the gateways; nil: there was no answer.
func (g *gateways) knock(a *attempt, req *verifierv1.VerifyRequest, document string) *answered {
	d := g.doors[g.dice.IntN(len(g.doors), "door")]
	l := d.open.Load()
	if l == nil || l.process.dead {
		return nil
	}
	p := l.process
	ctx := context.WithValue(context.WithValue(g.ctx, processKey{}, p), deliveryKey{}, a)
	ctx = context.WithValue(ctx, pathKey{}, a.name+": ")
	res, err := l.gateway.ReceiveWebhook(ctx, &gatewayv1.ReceiveWebhookRequest{Source: "s", Method: req.GetMethod(), Url: req.GetUrl(), Headers: req.GetHeaders(),
		Body: &httpbody.HttpBody{ContentType: "application/json", Data: req.GetBody()}})
	lost := g.scheduler.step(ctx, fmt.Sprint("answers ", res.GetStatus()))
	ans := &answered{status: int(res.GetStatus())}
	if err == nil {
		err = json.Unmarshal(res.GetBody().GetData(), ans)
	}
	if err != nil {
		g.broken = append(g.broken, fmt.Sprintf("%s: the gateway's answer cannot be read: %v", a.name, err))
		return nil
	}
	switch {
	case ans.status == 202 && !a.checked:
		g.scheduler.tally.met(metLeftAlone)
	case ans.status == 200:
		g.scheduler.tally.met(metDuplicate)
	case ans.status == 429:
		g.scheduler.tally.met(map[string]string{"RATE_LIMITED": metRate, "OVERLOADED": metOverload}[ans.Code])
		g.owed = append(g.owed, shed{p, "SHED", "", time.Now()})
	case ans.Code == "STORAGE_UNAVAILABLE":
		g.scheduler.tally.met(metNowhere)
		g.owed = append(g.owed, shed{p, "SPOOL_FULL", document, time.Now()})
	case ans.Code == "TIMESTAMP_STALE":
		g.scheduler.tally.met(metStale)
		g.owed = append(g.owed, shed{p, "STALE", document, time.Now()})
	}
	if lost != nil {
		return nil
	}
	return ans
}

// sender delivers what make makes, from a time on, until judge says that an answer is the last; nothing if the source does not call us.
func (g *gateways) sender(name string, at time.Time, document string, calls func() bool, make func() *verifierv1.VerifyRequest, judge func(*answered) bool) {
	p := &process{name: name, cancel: func(error) {}}
	ctx := context.WithValue(g.ctx, processKey{}, p)
	g.wg.Go(func() {
		time.Sleep(time.Until(at))
		for try := 0; g.ctx.Err() == nil; try++ {
			p.dead = false // senders do not die
			if g.scheduler.step(ctx, "sends") == nil && (!calls() || judge(g.knock(&attempt{name: fmt.Sprint(name, "-", try)}, make(), document))) {
				return
			}
			time.Sleep(time.Duration(1+min(try, 9)) * time.Second)
		}
	})
}

// deliver begins a sender for a delivery of a change. It repeats what is not answered with 2xx; one whose deliveries may get lost
// gives up at last.
func (g *gateways) deliver(name string, c change, at time.Time) {
	tries := 1000
	if g.world.lossy {
		tries = 1 + g.dice.IntN(6, "tries")
	}
	calls := func() bool { return g.reconcilers.source.feed == nil || g.reconcilers.source.feed.calls(c) }
	g.sender(name, at, c.document, calls, func() *verifierv1.VerifyRequest {
		return g.world.request(g.t, c, worldSecret, time.Now(), time.Now())
	}, func(ans *answered) bool {
		tries--
		switch {
		case ans == nil:
		case ans.status == 202 || ans.status == 200:
			if len(ans.Events) != 1 {
				g.broken = append(g.broken, fmt.Sprintf("%s: %d names %d events", name, ans.status, len(ans.Events)))
			}
			for _, ev := range ans.Events {
				g.promised = append(g.promised, ev.ID)
			}
			return true
		case ans.status != 429 && ans.status != 503:
			g.broken = append(g.broken, fmt.Sprintf("%s: an authentic delivery is answered with %d %s", name, ans.status, ans.Code))
			return true
		}
		return tries <= 0
	})
}

// forge sends what the source never sent, in every way, about a document that exists. Nothing of it may get in: a stale
// one, whose signature is right, may only make us ask the source for the document.
func (g *gateways) forge(name string, c change, at time.Time) {
	w := g.world
	lie := c
	lie.action, lie.content, lie.version, lie.counter, lie.total = updated, "forged", c.version+1000, c.counter+1000, c.total+1000
	forgeries := map[string]func(now time.Time) *verifierv1.VerifyRequest{
		"forged": func(now time.Time) *verifierv1.VerifyRequest { return w.request(g.t, lie, "a guess", now, now) },
		"tampered": func(now time.Time) *verifierv1.VerifyRequest {
			req := w.request(g.t, c, worldSecret, now, now)
			req.Body = w.request(g.t, lie, "", now, now).GetBody()
			return req
		},
		"unsigned": func(now time.Time) *verifierv1.VerifyRequest {
			req := w.request(g.t, lie, worldSecret, now, now)
			req.Headers = req.GetHeaders()[:2]
			return req
		},
	}
	if w.keyed {
		stale := func(now time.Time) *verifierv1.VerifyRequest {
			return w.request(g.t, c, worldSecret, now.Add(-tolerance-2*time.Second), now)
		}
		forgeries["stale"] = stale
		forgeries["stale with a new time"] = func(now time.Time) *verifierv1.VerifyRequest {
			req := stale(now)
			req.Headers[1].Value = []byte(strconv.FormatInt(now.Unix(), 10))
			return req
		}
	}
	for _, how := range []string{"forged", "tampered", "unsigned", "stale", "stale with a new time"} {
		forgery := forgeries[how]
		if forgery == nil || chance(g.dice, 2, "not this one") {
			continue
		}
		g.sender(name+"-"+how, at, c.document, func() bool { return true }, func() *verifierv1.VerifyRequest { return forgery(time.Now()) }, func(ans *answered) bool {
			if ans == nil {
				return false
			}
			if ans.status != 403 && ans.status != 429 && ans.status != 503 || (ans.Code == "TIMESTAMP_STALE") != (how == "stale" && ans.status == 403) {
				g.broken = append(g.broken, fmt.Sprintf("%s: a delivery that is %s is answered with %d %s", name, how, ans.status, ans.Code))
			}
			if ans.status == 403 {
				g.scheduler.tally.met(metRefused)
			}
			return ans.status == 403
		})
	}
}

// writable is from when on a debt of that time can be written for sure: while Kafka is away, a full spool takes none either.
func (g *gateways) writable(at time.Time) time.Time {
	if at.Add(deathbed).After(g.away[0]) && at.Before(g.away[1]) {
		return g.away[1]
	}
	return at
}

// gather moves a delivery to the next moment at which many come.
func (g *gateways) gather(at time.Time) time.Time {
	if g.herd == 0 {
		return at
	}
	late := at.Sub(g.world.start) % g.herd
	return at.Add(g.herd - late)
}

// unpaid lists what was sent away without a debt.
func (g *gateways) unpaid() (bad []string) {
	var debts []*eventv1.Debt
	var times []time.Time
	for _, rec := range g.log.all(kafka.TopicDebts) {
		d := &eventv1.Debt{}
		if proto.Unmarshal(rec.Value, d) == nil {
			debts, times = append(debts, d), append(times, rec.Time)
		}
	}
	for _, o := range g.owed {
		end := g.writable(o.at).Add(deathbed)
		if o.process.dead && o.process.died.Before(end) {
			continue
		}
		// Who is told to end while its spool is full and Kafka takes nothing has nowhere to leave it. The delivery had no 2xx.
		if o.reason == "SPOOL_FULL" && !o.process.ended.IsZero() && o.process.ended.Before(end) {
			continue
		}
		i := slices.IndexFunc(debts, func(d *eventv1.Debt) bool {
			return d.GetReason() == o.reason && (d.GetDocumentId() == "" || d.GetDocumentId() == o.document)
		})
		for ; i >= 0 && i < len(debts); i++ {
			d := debts[i]
			if !times[i].Before(o.at) && d.GetReason() == o.reason && (d.GetDocumentId() == "" || d.GetDocumentId() == o.document) {
				break
			}
		}
		if i < 0 || i == len(debts) {
			bad = append(bad, fmt.Sprintf("%s sent a delivery about %q away at %s (%s), and it is nobody's debt", o.process.name, o.document, o.at.Format("15:04:05.000"), o.reason))
		}
	}
	return bad
}

type pathKey struct{}

// pathOf says which of a process's doings a context belongs to: several of them may wait for their turn at once.
func pathOf(ctx context.Context) string {
	path, _ := ctx.Value(pathKey{}).(string)
	return path
}

// stepTracers make a step of each beginning of a span and of each error in one, so that no two deliveries of a gateway that waited
// for the same answer go on at once: where they meet again, in a batch or in the spool, chance would decide which is the first.
type stepTracers struct {
	noop.TracerProvider
	hooks hooks
}

func (s stepTracers) Tracer(string, ...trace.TracerOption) trace.Tracer {
	return stepTracer{hooks: s.hooks}
}

type stepTracer struct {
	noop.Tracer
	hooks hooks
}

func (t stepTracer) Start(ctx context.Context, name string, _ ...trace.SpanStartOption) (context.Context, trace.Span) {
	if a, ok := ctx.Value(deliveryKey{}).(*attempt); ok && name == "dedupe check" {
		a.checked = true
	}
	ctx = context.WithValue(ctx, pathKey{}, pathOf(ctx)+name+": ")
	_ = t.hooks.step(ctx, "begins") // a dead process fails at what it does next
	return ctx, stepSpan{ctx: ctx, hooks: t.hooks, name: name}
}

type stepSpan struct {
	noop.Span
	ctx   context.Context
	hooks hooks
	name  string
}

// End is a step for those who were verified together: which of them asks dedupe, when only one may, would else be chance.
func (s stepSpan) End(...trace.SpanEndOption) {
	if s.name == "verify" {
		_ = s.hooks.step(s.ctx, "ends")
	}
}

func (s stepSpan) RecordError(error, ...trace.EventOption) { _ = s.hooks.step(s.ctx, "fails") }

// stepLogger makes a step of what a gateway says about a delivery, for the same reason.
type stepLogger struct {
	hooks hooks
	tally *tally
}

func (stepLogger) Enabled(context.Context, slog.Level) bool { return true }
func (l stepLogger) Handle(ctx context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok && errors.Is(err, spool.ErrFull) {
			l.tally.met(metFull)
		}
		return true
	})
	if strings.HasSuffix(r.Message, "it goes to the spool") {
		l.tally.met(metSpooled)
	}
	return l.hooks.step(ctx, "says: "+r.Message)
}
func (l stepLogger) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l stepLogger) WithGroup(string) slog.Handler      { return l }
