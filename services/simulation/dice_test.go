package simulation

import (
	"math/rand/v2"

	"pgregory.net/rapid"
)

// dice is where chance comes from: a seed, or rapid, which can shrink what it drew.
type dice interface {
	// IntN returns a number from 0 to n-1. The label says what for.
	IntN(n int, label string) int
}

type seeded struct{ *rand.Rand }

func newSeeded(seed uint64) seeded { return seeded{rand.New(rand.NewPCG(seed, 7))} }

func (s seeded) IntN(n int, _ string) int { return s.Rand.IntN(n) }

type drawn struct{ t *rapid.T }

func (d drawn) IntN(n int, label string) int { return rapid.IntRange(0, n-1).Draw(d.t, label) }

// chance is true one time in n; rapid shrinks it to false.
func chance(d dice, n int, label string) bool { return d.IntN(n, label) == n-1 }
