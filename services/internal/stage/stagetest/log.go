package stagetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// LogFixture is a log under test.
type LogFixture struct {
	Log stage.Log
	// Topic exists and is empty.
	Topic string
	// Partitions is how many the topic has.
	Partitions int
	// Trim removes the records of a partition before an offset.
	Trim func(partition int, before int64) error
}

// RunLog runs the suite of stage.Log. open returns an empty log each time.
func RunLog(t *testing.T, open func(t *testing.T) LogFixture) {
	for _, tt := range []struct {
		name string
		run  func(logTest)
	}{
		{"records of a key come in their order with everything that they carry", logTest.keepsOrder},
		{"reading goes on at any offset that the partition holds", logTest.goesOn},
		{"an empty partition lets wait and returns nothing", logTest.waits},
		{"what is written while a fetch waits ends the wait", logTest.wakes},
		{"an offset that the partition does not hold is an OffsetError", logTest.misses},
		{"a context that has ended ends a fetch", logTest.ends},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.run(logTest{T: t, fixture: open(t)}) })
	}
}

type logTest struct {
	*testing.T
	fixture LogFixture
}

// one writes n records of one key and returns their partition.
func (t logTest) one(n int) int {
	t.Helper()
	outs := make([]stage.Output, n)
	for i := range outs {
		outs[i] = stage.Output{Topic: t.fixture.Topic, Key: []byte("s/one"), Value: fmt.Append(nil, i)}
	}
	if err := t.fixture.Log.Produce(t.Context(), outs); err != nil {
		t.Fatal(err)
	}
	for p := range t.fixture.Partitions {
		if len(t.read(p, -1)) > 0 {
			return p
		}
	}
	t.Fatal("no partition holds the records")
	return 0
}

// open opens a partition.
func (t logTest) open(partition int, offset int64) stage.Partition {
	t.Helper()
	p, err := t.fixture.Log.Open(t.Context(), t.fixture.Topic, partition, offset)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// read reads a partition to its end.
func (t logTest) read(partition int, offset int64) []stage.Record {
	t.Helper()
	in := t.open(partition, offset)
	defer func() { _ = in.Close() }()
	var all []stage.Record
	for {
		records, err := in.Fetch(t.Context(), 7, 20*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if len(records) == 0 {
			return all
		}
		if len(records) > 7 {
			t.Errorf("%d records, asked for at most 7", len(records))
		}
		all = append(all, records...)
	}
}

func (t logTest) keepsOrder() {
	const keys, each = 9, 20
	var outs []stage.Output
	for i := range each {
		for k := range keys {
			outs = append(outs, stage.Output{
				Topic: t.fixture.Topic, Key: fmt.Append(nil, "s/", k), Value: fmt.Append(nil, i), Headers: []stage.Header{{Key: "h", Value: []byte{0, 0xff}}, {Key: "h", Value: []byte("2")}},
			})
		}
	}
	half := len(outs) / 2
	for _, part := range [][]stage.Output{outs[:half], outs[half:], nil} {
		if err := t.fixture.Log.Produce(t.Context(), part); err != nil {
			t.Fatal(err)
		}
	}
	next, at := map[string]int{}, map[string]int{}
	for p := range t.fixture.Partitions {
		for i, r := range t.read(p, -1) {
			key := string(r.Key)
			if r.Topic != t.fixture.Topic || r.Partition != p || r.Offset != int64(i) || string(r.Value) != fmt.Sprint(next[key]) ||
				len(r.Headers) != 2 || r.Headers[0].Key != "h" || string(r.Headers[0].Value) != "\x00\xff" || string(r.Headers[1].Value) != "2" {
				t.Fatalf("partition %d, record %d: %+v; want value %d", p, i, r, next[key])
			}
			if other, seen := at[key]; seen && other != p {
				t.Fatalf("key %s is in partitions %d and %d", key, other, p)
			}
			at[key] = p
			next[key]++
		}
	}
	for k := range keys {
		if n := next[fmt.Sprint("s/", k)]; n != each {
			t.Errorf("key %d has %d of %d records", k, n, each)
		}
	}
}

func (t logTest) goesOn() {
	p := t.one(30)
	for _, offset := range []int64{0, 1, 13, 29, 30} {
		records := t.read(p, offset)
		if len(records) != 30-int(offset) || (len(records) > 0 && records[0].Offset != offset) {
			t.Errorf("from %d: %d records", offset, len(records))
		}
	}
}

func (t logTest) waits() {
	in := t.open(0, -1)
	began := time.Now()
	records, err := in.Fetch(t.Context(), 10, 60*time.Millisecond)
	if took := time.Since(began); err != nil || len(records) != 0 || took < 40*time.Millisecond {
		t.Errorf("%d records, %v, after %s", len(records), err, took)
	}
}

func (t logTest) wakes() {
	p := t.one(1)
	in := t.open(p, 1)
	done := make(chan error, 1)
	go func() {
		done <- t.fixture.Log.Produce(t.Context(), []stage.Output{{Topic: t.fixture.Topic, Key: []byte("s/one"), Value: []byte("late")}})
	}()
	records, err := in.Fetch(t.Context(), 10, 20*time.Second)
	if err != nil || len(records) != 1 || string(records[0].Value) != "late" {
		t.Errorf("%v, %v", records, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func (t logTest) misses() {
	p := t.one(10)
	reading := t.open(p, 3)
	if err := t.fixture.Trim(p, 7); err != nil {
		t.Fatal(err)
	}
	check := func(what string, err error, offset int64, anew bool) {
		t.Helper()
		var gone *stage.OffsetError
		want := stage.OffsetError{Topic: t.fixture.Topic, Partition: p, Offset: offset, First: 7, End: 10}
		if !errors.As(err, &gone) || *gone != want || gone.BeganAnew() != anew {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := t.fixture.Log.Open(t.Context(), t.fixture.Topic, p, 6)
	check("opened before the oldest", err, 6, false)
	_, err = t.fixture.Log.Open(t.Context(), t.fixture.Topic, p, 11)
	check("opened beyond the end", err, 11, true)
	_, err = reading.Fetch(t.Context(), 10, time.Millisecond)
	check("removed while it was read", err, 3, false)
	for _, offset := range []int64{-1, 7, 10} {
		t.open(p, offset)
	}
}

func (t logTest) ends() {
	ctx, cancel := context.WithCancel(t.Context())
	in := t.open(0, -1)
	timer := time.AfterFunc(30*time.Millisecond, cancel)
	defer timer.Stop()
	if records, err := in.Fetch(ctx, 10, time.Minute); err == nil || len(records) != 0 {
		t.Errorf("%v, %v", records, err)
	}
}
