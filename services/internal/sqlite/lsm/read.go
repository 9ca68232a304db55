package lsm

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
)

// Get returns what is committed under keys. What is not there, or deleted, is not in the map.
func (t *Table) Get(ctx context.Context, keys []string) (map[string]Entry, error) {
	if err := t.current(ctx); err != nil {
		return nil, err
	}
	found := make(map[string]Entry, len(keys))
	t.mu.RLock()
	rest, runs := lookIn(t.mem, keys, found), slices.Clone(t.runs)
	t.mu.RUnlock()
	if err := t.lookUp(runs, rest, found); err != nil {
		return nil, err
	}
	maps.DeleteFunc(found, func(_ string, e Entry) bool { return e.Deleted })
	return found, nil
}

// lookIn takes what a map has of keys and returns the others.
func lookIn(m map[string]Entry, keys []string, found map[string]Entry) []string {
	if len(m) == 0 {
		return keys
	}
	rest := make([]string, 0, len(keys))
	for _, k := range keys {
		if e, ok := m[k]; ok {
			found[k] = e
		} else {
			rest = append(rest, k)
		}
	}
	return rest
}

// byHash returns the numbers of keys and their hashes, in the order of the hashes: in each index one walks through memory in one direction, which the
// processor's look-up of addresses likes better than to and fro.
func byHash(keys []string) (numbers []int32, hashes []uint64) {
	type hashed struct {
		hash   uint64
		number int32
	}
	all := make([]hashed, len(keys))
	for i, k := range keys {
		all[i] = hashed{hashOf(k), int32(i)} //nolint:gosec // not that many are asked for at once
	}
	slices.SortFunc(all, func(a, b hashed) int { return cmp.Compare(a.hash, b.hash) })
	numbers, hashes = make([]int32, len(all)), make([]uint64, len(all))
	for i, h := range all {
		numbers[i], hashes[i] = h.number, h.hash
	}
	return numbers, hashes
}

// lookUp reads keys from runs, the youngest first. All keys are looked for in one run before the next, so that waits for memory overlap.
func (t *Table) lookUp(runs []*run, keys []string, found map[string]Entry) error {
	if len(runs) == 0 || len(keys) == 0 {
		return nil
	}
	open, hashes := byHash(keys)
	var held []int32
	filters, lines, entries, vain := 0, 0, 0, 0
	for _, r := range runs {
		filters += len(open)
		held = r.index.among(hashes, held[:0])
		lines += len(held)
		r.touch(hashes, held)
		before := entries
		for _, i := range held {
			k := keys[open[i]]
			e, ok, others, err := r.get(k, hashes[i])
			if err != nil {
				return fmt.Errorf("look up a key in run %d: %w", r.id, err)
			}
			vain += others
			if ok {
				entries++
				found[k] = Entry{Key: k, Value: bytes.Clone(e.value), Expires: e.expires, Deleted: e.deleted}
				open[i] = -1
			}
		}
		if entries > before {
			left := 0
			for i, k := range open {
				if k >= 0 {
					open[left], hashes[left] = k, hashes[i]
					left++
				}
			}
			open, hashes = open[:left], hashes[:left]
		}
	}
	runtime.KeepAlive(runs)
	t.work.asked.Add(int64(len(keys)))
	t.work.filters.Add(int64(filters))
	t.work.lines.Add(int64(lines))
	t.work.entries.Add(int64(entries + vain))
	t.work.vain.Add(int64(vain))
	return nil
}

// Scan returns at most limit of the committed entries whose keys lie above after and below before, in the order of their bytes.
// before "": to the end.
func (t *Table) Scan(ctx context.Context, after, before string, limit int) ([]Entry, error) {
	if err := t.current(ctx); err != nil {
		return nil, err
	}
	t.mu.RLock()
	young, runs := between(t.mem, after, before, nil), slices.Clone(t.runs)
	t.mu.RUnlock()
	return scan(runs, young, after, before, limit)
}

// between takes from a map what lies in a range.
func between(m map[string]Entry, after, before string, into map[string]Entry) map[string]Entry {
	if into == nil {
		into = map[string]Entry{}
	}
	for k, e := range m {
		if k > after && (before == "" || k < before) {
			into[k] = e
		}
	}
	return into
}

// scan merges young entries with runs.
func scan(runs []*run, young map[string]Entry, after, before string, limit int) ([]Entry, error) {
	sorted := slices.SortedFunc(maps.Values(young), func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	cursors := make([]cursor, len(runs))
	for i, r := range runs {
		from := headerBytes
		if after != "" {
			var err error
			if from, err = r.seek(after); err != nil {
				return nil, fmt.Errorf("look for a key in run %d: %w", r.id, err)
			}
		}
		cursors[i] = cursor{run: r, next: from, after: after}
	}
	m, err := newMerge(cursors)
	if err != nil {
		return nil, err
	}
	var out []Entry
	for len(out) < limit {
		e, ok, err := m.take()
		if err != nil {
			return nil, err
		}
		past := !ok || (before != "" && string(e.key) >= before)
		for len(sorted) > 0 && len(out) < limit && (past || sorted[0].Key <= string(e.key)) {
			if ok && sorted[0].Key == string(e.key) {
				ok = false // the younger one counts
			}
			if !sorted[0].Deleted {
				out = append(out, sorted[0])
			}
			sorted = sorted[1:]
		}
		if past {
			break
		}
		if ok && !e.deleted && len(out) < limit {
			out = append(out, e.entry())
		}
	}
	runtime.KeepAlive(runs)
	return out, nil
}
