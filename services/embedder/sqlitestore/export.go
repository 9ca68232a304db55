package sqlitestore

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/hookmesh/hookmesh/services/internal/archive"
)

// Export hands out the knowledge base and the jobs, for another store: deleted documents too, whose revisions keep old changes out. A
// job that was being worked on is nobody's in the other store.
func (s *Store) Export(ctx context.Context, add func(table string, row archive.Row) error) error {
	err := s.db.ExportTables(ctx, [][2]string{
		{"documents", `SELECT source, CAST(document AS BLOB) AS document, revision, state, title, url, version, event, text_hash, model, error, updated FROM documents ORDER BY id`},
		{"jobs", `SELECT source, CAST(document AS BLOB) AS document, revision, event, change, headers, attempts, due FROM jobs ORDER BY source, document`},
		{"events", `SELECT id, at, record FROM events ORDER BY id`},
		{"breakers", `SELECT endpoint, state FROM breakers ORDER BY endpoint`},
	}, add)
	if err != nil {
		return err
	}
	// Which copy of a text a chunk is, the other store wants to know. To let SQLite count them would sort all chunks before the first.
	doc, copies := int64(0), map[string]int64{}
	err = s.db.Export(ctx, `SELECT c.doc, d.source, CAST(d.document AS BLOB) AS document, c.ordinal, c.path, c.text, c.hash, c.vector
		FROM chunks c JOIN documents d ON d.id = c.doc ORDER BY c.doc, c.ordinal`, func(row archive.Row) error {
		if id, _ := row["doc"].(int64); id != doc {
			doc = id
			clear(copies)
		}
		delete(row, "doc")
		hash, _ := row["hash"].(archive.Bytes)
		row["copy"] = copies[string(hash)]
		copies[string(hash)]++
		vector, _ := row["vector"].(archive.Bytes)
		path, _ := row["path"].(string)
		var headings []string
		if err := json.Unmarshal([]byte(path), &headings); err != nil {
			return fmt.Errorf("decode a heading path: %w", err)
		}
		row["vector"], row["path"] = decodeVector(vector), headings
		return add("chunks", row)
	})
	if err != nil {
		return fmt.Errorf("export chunks: %w", err)
	}
	return nil
}
