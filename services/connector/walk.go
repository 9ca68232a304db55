package connector

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strings"
	"time"
)

// Overlap is how far before its own beginning a walk is read again by the next one: providers show a change in their lists a
// moment after it happened, and searches lag behind by a minute.
const Overlap = 2 * time.Minute

// Walk is the cursor of a provider that lists what changed since a time, in pages and perhaps over several parts (repositories,
// spaces, channels). The zero value begins at the beginning. Since moves only when a walk is complete, to the time when it began
// by the source's own clock, less Overlap: neither our clock nor a crash in the middle can leave out a change.
type Walk struct {
	// Scope is a fingerprint of what the source is set up to list. With another scope the walk begins anew, so that a repository
	// that was added is read from its beginning.
	Scope string `json:"scope,omitempty"`
	// Since: changes from here on are wanted; zero: everything.
	Since time.Time `json:"since,omitzero"`
	// Began is the source's time at the first request of this walk; zero: it has not begun.
	Began time.Time `json:"began,omitzero"`
	// Part is the index of the part that is being read.
	Part int `json:"part,omitempty"`
	// Page is the provider's own token within the part; empty: its beginning.
	Page string `json:"page,omitempty"`
	// Marks are how far parts were read that go by something else than time: a commit, a change token. By part.
	Marks map[string]string `json:"marks,omitempty"`
}

// ParseWalk reads a cursor that Walk.Cursor wrote, for a source with these parts.
func ParseWalk(cursor string, parts ...string) (Walk, error) {
	w := Walk{Scope: fingerprint(parts)}
	if cursor == "" {
		return w, nil
	}
	var read Walk
	dec := json.NewDecoder(strings.NewReader(cursor))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&read); err != nil || dec.More() || read.Part < 0 || read.Part > max(0, len(parts)-1) || read.Scope != w.Scope {
		return Walk{}, BadCursor()
	}
	return read, nil
}

func fingerprint(parts []string) string {
	h := fnv.New64a()
	for _, p := range parts {
		_, _ = fmt.Fprintf(h, "%q,", p)
	}
	return fmt.Sprintf("%x", h.Sum64())
}

// Cursor writes the walk down.
func (w Walk) Cursor() string {
	raw, err := json.Marshal(w)
	if err != nil {
		return "" // a time beyond the year 9999, which Step lets nobody set: the cursor stays as it was
	}
	return string(raw)
}

// Mark notes how far the present part was read. The walk itself stays as it is.
func (w Walk) Mark(part, mark string) Walk {
	marks := map[string]string{part: mark}
	for k, v := range w.Marks {
		if k != part {
			marks[k] = v
		}
	}
	w.Marks = marks
	return w
}

// Step is the walk after one answer, which the source gave at the time date. token is the provider's for the next page, empty at
// the end of a part; parts is how many there are. more is false when the walk is complete.
func (w Walk) Step(date time.Time, token string, parts int) (next Walk, more bool) {
	if w.Began.IsZero() && !date.IsZero() && date.Year() < 9999 {
		w.Began = date.UTC().Truncate(time.Second)
	}
	switch {
	case token != "":
		w.Page = token
		return w, true
	case w.Part+1 < parts:
		w.Page, w.Part = "", w.Part+1
		return w, true
	}
	next = Walk{Scope: w.Scope, Since: w.Since, Marks: w.Marks}
	if !w.Began.IsZero() {
		next.Since = w.Began.Add(-Overlap)
	}
	return next, false
}
