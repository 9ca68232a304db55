package rest_test

import (
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/connector/rest"
)

func TestTheTimeGoesAlongWithAListOfChanges(t *testing.T) {
	noon := time.Date(2026, 5, 4, 12, 0, 0, 500, time.UTC)
	for name, tt := range map[string]struct {
		next string
		last time.Time
		want string
	}{
		"the end of the list":             {"", noon, ""},
		"from the beginning":              {"https://x/i?direction=asc&page=2", noon, "https://x/i?direction=asc&since=2026-05-04T11%3A59%3A59Z"},
		"from an earlier time":            {"https://x/i?after=abc&since=2026-05-04T11%3A00%3A00Z&sort=asc", noon, "https://x/i?since=2026-05-04T11%3A59%3A59Z&sort=asc"},
		"a page full of one second":       {"https://x/i?page=2&since=2026-05-04T11%3A59%3A59Z&sort=asc", noon, "https://x/i?page=2&since=2026-05-04T11%3A59%3A59Z&sort=asc"},
		"a list from the newest on":       {"https://x/i?direction=desc&page=2&sort=updated", noon, "https://x/i?direction=desc&page=2&sort=updated"},
		"a list that does not tell times": {"https://x/i?page=2&sort=asc", time.Time{}, "https://x/i?page=2&sort=asc"},
	} {
		if got := rest.MoveAlong(tt.next, "since", tt.last); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}
