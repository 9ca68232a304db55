package sqlitestore

import (
	"context"
	"fmt"
)

// Revisions calls each with every document that ever had a revision, deleted ones included.
func (s *Store) Revisions(ctx context.Context, each func(source, document string, revision int64) error) error {
	rows, err := s.db.Read.QueryContext(ctx, `SELECT source, document, revision FROM documents WHERE revision > 0`)
	if err != nil {
		return fmt.Errorf("read revisions: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var source, document string
		var revision int64
		if err := rows.Scan(&source, &document, &revision); err != nil {
			return fmt.Errorf("read revisions: %w", err)
		}
		if err := each(source, document, revision); err != nil {
			return err
		}
	}
	return rows.Err()
}
