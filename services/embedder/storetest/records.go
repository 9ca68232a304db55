package storetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	"github.com/hookmesh/hookmesh/services/embedder"
)

func (s *suite) records() {
	s.tx(func(ctx context.Context, tx embedder.Tx) error {
		var errs []error
		for i := range 6 {
			errs = append(errs, tx.SetRecord(ctx, &embedderv1.EventRecord{Id: fmt.Sprint("e", i), Reason: "first"}, now.Add(time.Duration(i)*time.Minute)))
		}
		return errors.Join(append(errs, tx.SetRecord(ctx, &embedderv1.EventRecord{Id: "e5", Reason: "second"}, now.Add(5*time.Minute)))...)
	})
	if r, err := s.store.Event(s.Context(), "e5"); err != nil || !proto.Equal(r, &embedderv1.EventRecord{Id: "e5", Reason: "second"}) {
		s.Errorf("%v, %v", r, err)
	}
	for range 3 {
		s.tx(func(ctx context.Context, tx embedder.Tx) error { return tx.Expire(ctx, now.Add(3*time.Minute), 2) })
	}
	for i := range 6 {
		_, err := s.store.Event(s.Context(), fmt.Sprint("e", i))
		if gone := errors.Is(err, embedder.ErrNotFound); gone != (i <= 3) || (err != nil && !gone) {
			s.Errorf("record %d: %v", i, err)
		}
	}
}
