package group

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	heartbeatapi "github.com/segmentio/kafka-go/protocol/heartbeat"
	"github.com/segmentio/kafka-go/protocol/joingroup"
	"github.com/segmentio/kafka-go/protocol/leavegroup"
	"github.com/segmentio/kafka-go/protocol/offsetcommit"
	"github.com/segmentio/kafka-go/protocol/syncgroup"
)

// Member is one member of a group.
type Member struct {
	cfg         Config
	coordinator *coordinator
	logger      *slog.Logger

	mu   sync.Mutex
	seat seat

	// The rest belongs to the goroutine of Run.

	// heard is when the coordinator last confirmed the seat.
	heard time.Time
	// missing says that the topic did not exist when the member was given its share.
	missing bool
}

// New returns a member that has not joined yet. Close releases its connections.
func New(cfg Config) *Member {
	return &Member{cfg: cfg, coordinator: newCoordinator(cfg), logger: cfg.Logger, seat: seat{generation: noGeneration}}
}

// Close ends the member's connections.
func (m *Member) Close() { m.coordinator.close() }

// Run is a member of the group until ctx ends; then it drains the work, for which it has so much patience, and leaves. While it is in the
// group, work has what the group gave to it. It returns ErrTwin if another process took its seat.
func (m *Member) Run(ctx context.Context, work Work, patience time.Duration) error {
	for pause := firstPause; ctx.Err() == nil; {
		v, err := m.join(ctx, work)
		if v == good {
			pause = firstPause
			v, err = m.stay(ctx, work)
		}
		switch {
		case ctx.Err() != nil, v == good, v == again:
			continue
		case v == twin:
			work.Seated(false)
			within(work.Drain(), patience)
			return fmt.Errorf("group %s, instance %s: %w", m.cfg.Group, m.cfg.Instance, ErrTwin)
		case v == lost:
			m.logger.Info("the consumer group went on without this member; joining again", "error", err)
			work.Seated(false)
			work.Hold(nil)
			continue
		case v == elsewhere:
			m.coordinator.forget()
		case v == refused:
			m.logger.Warn("the consumer group cannot be joined; trying again", "error", err)
			pause = longestPause
		}
		m.logger.Debug("joining the consumer group failed", "error", err)
		m.doubt(work)
		sleep(ctx, pause)
		pause = min(2*pause, longestPause)
	}
	m.part(context.WithoutCancel(ctx), work, patience)
	return nil
}

// doubt says that the member has no seat if the coordinator has not confirmed it for as long as a session lasts. The work goes on:
// whoever is given a partition meanwhile fences it.
func (m *Member) doubt(work Work) {
	if time.Since(m.heard) > sessionTimeout {
		work.Seated(false)
	}
}

// judge says what an error means and changes the seat accordingly.
func (m *Member) judge(err error) verdict {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seat.judge(err)
}

func (m *Member) sitting() seat {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seat
}

func (m *Member) sit(id string, generation int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seat = seat{id, generation}
}

// join goes through a rebalance: it comes to the barrier, shares the partitions out if it is the leader, and takes its own share.
func (m *Member) join(ctx context.Context, work Work) (verdict, error) {
	protocols, err := subscriptions(m.cfg.Topic, work.Held())
	if err != nil {
		return refused, err
	}
	res, err := m.coordinator.ask(ctx, barrierTimeout, &joinRequest{
		GroupID: m.cfg.Group, SessionTimeoutMS: int32(sessionTimeout.Milliseconds()), RebalanceTimeoutMS: int32(rebalanceTimeout.Milliseconds()),
		MemberID: m.sitting().id, GroupInstanceID: m.cfg.Instance, ProtocolType: protocolType, Protocols: protocols,
	})
	if err != nil {
		return m.judge(err), err
	}
	joined := res.(*joingroup.Response)
	if err := codeOf(joined.ErrorCode); err != nil {
		if errors.Is(err, kafkago.MemberIDRequired) {
			m.sit(joined.MemberID, noGeneration)
		}
		return m.judge(err), fmt.Errorf("join group %s: %w", m.cfg.Group, err)
	}
	m.sit(joined.MemberID, joined.GenerationID)
	m.heard = time.Now()

	if joined.LeaderID != joined.MemberID {
		partitions, v, err := m.sync(ctx, joined, nil)
		if v == good {
			m.take(work, partitions)
			m.await(len(partitions) == 0 && !m.exists(ctx))
		}
		return v, err
	}
	all, err := m.coordinator.partitions(ctx, m.cfg.Topic)
	if err != nil {
		return m.judge(err), err
	}
	plan, err := shares(m.cfg.Topic, assign(claims(joined, m.cfg.Topic), all))
	if err != nil {
		return refused, err
	}
	partitions, v, err := m.sync(ctx, joined, plan)
	if v == good {
		m.take(work, partitions)
		m.await(len(all) == 0) // as it was when they were shared out: whatever comes later is to be shared out anew
	}
	return v, err
}

// sync asks for the member's share, and gives the others theirs if it has a plan.
func (m *Member) sync(ctx context.Context, joined *joingroup.Response, plan []syncgroup.RequestAssignment) ([]int, verdict, error) {
	res, err := m.coordinator.ask(ctx, barrierTimeout, &syncRequest{
		GroupID: m.cfg.Group, GenerationID: joined.GenerationID, MemberID: joined.MemberID, GroupInstanceID: m.cfg.Instance,
		ProtocolType: protocolType, ProtocolName: joined.ProtocolName, Assignments: plan,
	})
	if err != nil {
		return nil, m.judge(err), err
	}
	synced := res.(*syncgroup.Response)
	if err := codeOf(synced.ErrorCode); err != nil {
		return nil, m.judge(err), fmt.Errorf("take a share of group %s: %w", m.cfg.Group, err)
	}
	partitions, err := share(synced.Assignments, m.cfg.Topic)
	if err != nil {
		return nil, refused, err
	}
	return partitions, good, nil
}

// take works on a share.
func (m *Member) take(work Work, partitions []int) {
	m.heard = time.Now()
	m.logger.Debug("the consumer group gave out its partitions", "partitions", partitions)
	work.Hold(partitions)
	work.Seated(true)
}

// await notes whether the topic has still to come into being, which nobody else would tell the group.
func (m *Member) await(missing bool) {
	if missing && !m.missing {
		m.logger.Warn("the topic does not exist; the group waits for it: `hookmesh topics apply` creates it")
	}
	m.missing = missing
}

// exists says whether there is anything to share out; if nobody answers, there is.
func (m *Member) exists(ctx context.Context) bool {
	all, err := m.coordinator.partitions(ctx, m.cfg.Topic)
	return err != nil || len(all) > 0
}

// stay keeps the seat until the group is rebalanced or has to be.
func (m *Member) stay(ctx context.Context, work Work) (verdict, error) {
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	poll := time.NewTicker(topicPoll)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return good, nil
		case <-work.Ended():
			// Somebody else claimed it. Either the group has gone on without this member, which joining shows, or a member that was dead for the
			// group came back to life for a moment. Giving everything out again settles it.
			sleep(ctx, settle)
			return again, nil
		case <-poll.C:
			if !m.missing {
				continue
			}
			if all, err := m.coordinator.partitions(ctx, m.cfg.Topic); err == nil && len(all) > 0 {
				return again, nil
			}
		case <-beat.C:
			err := m.beat(ctx)
			switch v := m.judge(err); v {
			case good:
				m.heard = time.Now()
				work.Seated(true)
			case elsewhere, wait, refused:
				m.logger.Debug("the coordinator of the consumer group does not answer; keeping the seat", "error", err)
				if v == elsewhere {
					m.coordinator.forget()
				}
				m.doubt(work)
			default:
				return v, err
			}
		}
	}
}

// beat shows the coordinator that the member lives.
func (m *Member) beat(ctx context.Context) error {
	at := m.sitting()
	res, err := m.coordinator.ask(ctx, answerTimeout, &heartbeatapi.Request{
		GroupID: m.cfg.Group, GenerationID: at.generation, MemberID: at.id, GroupInstanceID: m.cfg.Instance,
	})
	if err != nil {
		return err
	}
	return heartbeatError(res.(*heartbeatapi.Response))
}

// part ends the work, which the group waits for with patience, and leaves. Partitions stay with the member until their last batch is
// done: their next owner has nothing to do again.
func (m *Member) part(ctx context.Context, work Work, patience time.Duration) {
	work.Seated(false)
	drained := work.Drain()
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	late := time.NewTimer(patience)
	defer late.Stop()
	for waiting := true; waiting; {
		select {
		case <-drained:
			waiting = false
		case <-late.C:
			m.logger.Debug("partitions did not end in time; leaving the group all the same")
			waiting = false
		case <-beat.C:
			if err := m.beat(ctx); m.judge(err) == elsewhere {
				m.coordinator.forget()
			}
		}
	}
	at := m.sitting()
	if at.id == "" {
		return
	}
	if err := m.leave(ctx, at.id); err != nil {
		m.logger.Debug("leaving the group failed; its session ends by itself", "error", err)
	}
}

// leave says goodbye; once more if the coordinator is another one by now.
func (m *Member) leave(ctx context.Context, id string) (err error) {
	for range 2 {
		var answer any
		answer, err = m.coordinator.ask(ctx, answerTimeout, &leaveRequest{
			GroupID: m.cfg.Group, Members: []leavegroup.RequestMember{{MemberID: id, GroupInstanceID: m.cfg.Instance}},
		})
		if res, ok := answer.(*leavegroup.Response); ok && err == nil {
			err = leaveError(res)
		}
		if m.judge(err) != elsewhere {
			return err
		}
		m.coordinator.forget()
	}
	return err
}

// Commit tells Kafka how far partitions are. For any goroutine.
func (m *Member) Commit(ctx context.Context, offsets map[int]int64) error {
	at := m.sitting()
	topic := offsetcommit.RequestTopic{Name: m.cfg.Topic}
	for p, next := range offsets {
		topic.Partitions = append(topic.Partitions, offsetcommit.RequestPartition{PartitionIndex: int32(p), CommittedOffset: next, CommittedLeaderEpoch: -1})
	}
	res, err := m.coordinator.ask(ctx, answerTimeout, &commitRequest{
		GroupID: m.cfg.Group, GenerationID: at.generation, MemberID: at.id, GroupInstanceID: m.cfg.Instance, RetentionTimeMs: -1,
		Topics: []offsetcommit.RequestTopic{topic},
	})
	if err != nil {
		return err
	}
	if err := commitError(res.(*offsetcommit.Response)); err != nil {
		return fmt.Errorf("commit offsets of group %s: %w", m.cfg.Group, err)
	}
	return nil
}

func within(done <-chan struct{}, patience time.Duration) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
