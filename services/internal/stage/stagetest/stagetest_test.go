package stagetest_test

import (
	"context"
	"maps"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookmesh/hookmesh/services/internal/stage/stagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemoryLog(t *testing.T) {
	stagetest.RunLog(t, func(*testing.T) stagetest.LogFixture {
		log := stagetest.NewMemoryLog(3, time.Now)
		return stagetest.LogFixture{Log: log, Topic: "t", Partitions: 3, Trim: func(p int, before int64) error { return log.Trim("t", p, before) }}
	})
}

func TestMemoryStore(t *testing.T) {
	type names = map[string]bool
	stagetest.RunStore(t, func(*testing.T) stagetest.StoreFixture[*names] {
		store := stagetest.NewMemoryStore(names{}, maps.Clone[names], func(s *names) *names { return s })
		return stagetest.StoreFixture[*names]{
			Store: store,
			Put:   func(_ context.Context, tx *names, name string) error { (*tx)[name] = true; return nil },
			Has: func(_ context.Context, name string) (found bool, err error) {
				store.View(func(s names) { found = s[name] })
				return found, nil
			},
		}
	})
}
