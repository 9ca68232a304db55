package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
)

// AgreementSchema keeps that a database was found to fit another one. It belongs among the migrations of both.
const AgreementSchema = `
CREATE TABLE agreement (
	one   INTEGER PRIMARY KEY CHECK (one = 1),
	token TEXT NOT NULL,
	links TEXT NOT NULL
);`

// Agreed returns what Agree kept: an empty token if there is nothing.
func (s *StageStore[T]) Agreed(ctx context.Context) (token string, links map[string]int64, err error) {
	var raw []byte
	err = s.db.Write.QueryRowContext(ctx, `SELECT token, links FROM agreement`).Scan(&token, &raw)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &links)
	}
	if err != nil {
		return "", nil, fmt.Errorf("read what was agreed: %w", err)
	}
	return token, links, nil
}

// Agree keeps a token that two databases share which fit together, and what links one of them had passed then. An empty token says
// that nothing is known.
func (s *StageStore[T]) Agree(ctx context.Context, token string, links map[string]int64) error {
	raw, err := json.Marshal(links)
	if err != nil {
		return fmt.Errorf("encode links: %w", err)
	}
	if _, err := s.db.Write.ExecContext(ctx, `INSERT OR REPLACE INTO agreement (one, token, links) VALUES (1, ?, ?)`, token, string(raw)); err != nil {
		return fmt.Errorf("keep what was agreed: %w", err)
	}
	return nil
}
