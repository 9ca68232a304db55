package embedder

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"time"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
)

// believes says whether a job's event may be believed: what it carries, or that its document is gone. Else the source is asked.
//
// The sequencer has put events in order, and says which of them are in doubt. It does not know what was fetched: that may be newer
// than events which were under way at the time, and longer after it than the sequencer allows for. So an event whose version is
// older than that of what is stored is not believed. Only what is surely older is fetched: versions that have no order are left to
// the sequencer, or nearly every edit of such a source would be. Where nothing can be fetched there is only the event.
func (s *Service) believes(ctx context.Context, job *Job) (bool, error) {
	ev := job.Change.GetEvent()
	switch {
	case s.fetcher(job.Source) == nil, ev.GetAction() == eventv1.Action_ACTION_SUBTREE_DELETED:
		return true, nil
	case job.Change.GetRefetch():
		return false, nil
	case ev.GetVersion() == "", ev.GetAction() != eventv1.Action_ACTION_DELETED && !ev.GetContent().GetInline():
		return true, nil // there is nothing to compare, or nothing to believe
	}
	stored, _, err := s.deps.Store.GetDocument(ctx, job.Source, job.DocumentID, false)
	if errors.Is(err, ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read what is stored of document %s: %w", job.DocumentID, err)
	}
	return !olderVersion(ev.GetVersion(), stored.GetVersion()), nil
}

var number = regexp.MustCompile(`^-?[0-9]{1,40}(\.[0-9]{1,40})?$`)

// olderVersion says whether a version is surely less than another: both are numbers (also with a fraction, as Slack's), or both are
// times. Others have no order.
func olderVersion(a, b string) bool {
	if number.MatchString(a) && number.MatchString(b) {
		x, ok1 := new(big.Rat).SetString(a)
		y, ok2 := new(big.Rat).SetString(b)
		return ok1 && ok2 && x.Cmp(y) < 0
	}
	x, err1 := time.Parse(time.RFC3339, a)
	y, err2 := time.Parse(time.RFC3339, b)
	return err1 == nil && err2 == nil && x.Before(y)
}
