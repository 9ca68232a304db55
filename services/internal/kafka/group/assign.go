package group

import (
	"cmp"
	"slices"
)

// claim is what a member says that it works on when it joins.
type claim struct {
	id    string
	owned []int
}

// assign gives each partition to one member: shares differ by one at the most, and within that everyone keeps as much as possible of what
// it works on, because only what moves is held up. The order of the claims does not matter.
func assign(claims []claim, partitions []int) map[string][]int {
	shares := make(map[string][]int, len(claims))
	if len(claims) == 0 {
		return shares
	}
	free := make(map[int]bool, len(partitions))
	for _, p := range partitions {
		free[p] = true
	}
	// Whoever works on more gets the larger shares, so that less moves.
	claims = slices.Clone(claims)
	slices.SortFunc(claims, func(a, b claim) int {
		return cmp.Or(cmp.Compare(len(b.owned), len(a.owned)), cmp.Compare(a.id, b.id))
	})
	room := make([]int, len(claims))
	for i, c := range claims {
		room[i] = len(free) / len(claims)
		if i < len(free)%len(claims) {
			room[i]++
		}
		shares[c.id] = []int{}
	}
	give := func(i, p int) {
		delete(free, p)
		room[i]--
		shares[claims[i].id] = append(shares[claims[i].id], p)
	}
	for i, c := range claims {
		for _, p := range slices.Sorted(slices.Values(c.owned)) {
			if room[i] > 0 && free[p] {
				give(i, p)
			}
		}
	}
	rest := make([]int, 0, len(free))
	for p := range free {
		rest = append(rest, p)
	}
	slices.Sort(rest)
	for i := range claims {
		for room[i] > 0 {
			give(i, rest[0])
			rest = rest[1:]
		}
		slices.Sort(shares[claims[i].id])
	}
	return shares
}
