package topology

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"time"
)

// Standby is a PostgreSQL server that streams what another one commits.
type Standby struct {
	*Postgres
	// Stream is the connection to the primary. If it is cut, the standby falls behind.
	Stream *Link
}

// StartStandby copies a running server and follows it, without the primary waiting for it.
func StartStandby(ctx context.Context, dir string, primary *Postgres) (*Standby, error) {
	stream, err := NewLink(primary.Addr)
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(stream.Addr())
	if err != nil {
		return nil, err
	}
	pg, err := startPostgres(ctx, dir, "standby", "--follow", port)
	if err != nil {
		stream.Close()
		return nil, err
	}
	return &Standby{Postgres: pg, Stream: stream}, nil
}

// Synchronous makes the primary confirm only what the standby has applied, and waits until that is so. Without the standby it confirms nothing.
func (s *Standby) Synchronous(ctx context.Context, primary *Postgres) error {
	for _, sql := range []string{
		`ALTER SYSTEM SET synchronous_commit = 'remote_apply'`, `ALTER SYSTEM SET synchronous_standby_names = 'standby'`, `SELECT pg_reload_conf()`,
	} {
		if err := primary.exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	for {
		state, err := primary.query(ctx, `SELECT coalesce(max(sync_state), 'absent') FROM pg_stat_replication WHERE application_name = 'standby'`)
		if err == nil && state == "sync" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the standby is %s, not synchronous: %w", state, cmp.Or(err, ctx.Err()))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Behind says how many bytes of the primary's log the standby has not got.
func (s *Standby) Behind(ctx context.Context, primary *Postgres) (string, error) {
	at, err := s.query(ctx, `SELECT pg_last_wal_replay_lsn()::text`)
	if err != nil {
		return "", err
	}
	return primary.query(ctx, `SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '`+at+`')::text`)
}

// Promote makes the standby the primary. The old one must be gone by then.
func (s *Standby) Promote(ctx context.Context) error {
	return s.exec(ctx, `SELECT pg_promote(true, 60)`)
}

// Kill ends the server and its stream, and removes its data.
func (s *Standby) Kill() {
	s.Stream.Close()
	s.Postgres.Kill()
}
