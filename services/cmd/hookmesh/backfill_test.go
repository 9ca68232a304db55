package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
)

func TestTheBarShowsHowFarABackfillIs(t *testing.T) {
	for want, b := range map[string]*reconcilerv1.Backfill{
		"counting: 7": {State: reconcilerv1.BackfillState_BACKFILL_STATE_COUNTING, Total: 7},
		"[====================                    ]  50%  5 of 10, 5/s":   {Total: 10, Read: 5},
		"[========================================] 100%  12 of 10, 12/s": {Total: 10, Read: 12},
		"5 read, 5/s  trying again: no answer":                            {Read: 5, Error: "no answer"},
	} {
		if got := bar(b, time.Second); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestDriftSaysWhetherEverythingIsRight(t *testing.T) {
	var out bytes.Buffer
	if !printDrift(&out, []*reconcilerv1.DriftReport{{Source: "s", Right: 1}}) {
		t.Error("a right source is called wrong")
	}
	if printDrift(&out, []*reconcilerv1.DriftReport{{Source: "s", Extra: 30, Withheld: 30}}) || !strings.Contains(out.String(), "--confirm-deletions") {
		t.Errorf("%s", out.String())
	}
}
