package group

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

func upTo(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

func TestPartitionsMoveNoMoreThanTheyMust(t *testing.T) {
	for _, tc := range []struct {
		name       string
		claims     []claim
		partitions int
		want       map[string][]int
	}{
		{"alone", []claim{{id: "a"}}, 3, map[string][]int{"a": {0, 1, 2}}},
		{"the topic does not exist", []claim{{id: "a", owned: []int{1}}, {id: "b"}}, 0, map[string][]int{"a": {}, "b": {}}},
		{"nobody", nil, 3, map[string][]int{}},
		{"more members than partitions", []claim{{id: "a"}, {id: "b", owned: []int{0}}}, 1, map[string][]int{"a": {}, "b": {0}}},
		{"nothing changes", []claim{{"a", []int{3, 1}}, {"b", []int{0, 2}}}, 4, map[string][]int{"a": {1, 3}, "b": {0, 2}}},
		{"one joins", []claim{{id: "a"}, {"b", []int{0, 1, 2, 3}}}, 4, map[string][]int{"a": {2, 3}, "b": {0, 1}}},
		{"one joins, and it does not come out even", []claim{{id: "a"}, {"b", []int{0, 1, 2}}}, 3, map[string][]int{"a": {2}, "b": {0, 1}}},
		{"one left", []claim{{"b", []int{0, 2}}}, 4, map[string][]int{"b": {0, 1, 2, 3}}},
		{"one of three left", []claim{{"b", []int{0, 1}}, {"c", []int{4, 5}}}, 6, map[string][]int{"b": {0, 1, 2}, "c": {3, 4, 5}}},
		{"two claim the same", []claim{{"a", []int{0, 1}}, {"b", []int{1, 2}}}, 4, map[string][]int{"a": {0, 1}, "b": {2, 3}}},
		{"one claims what is not there", []claim{{"a", []int{7, 0}}, {"b", []int{1}}}, 2, map[string][]int{"a": {0}, "b": {1}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := assign(tc.claims, upTo(tc.partitions))
			slices.Reverse(tc.claims)
			if other := assign(tc.claims, upTo(tc.partitions)); !reflect.DeepEqual(got, tc.want) || !reflect.DeepEqual(other, tc.want) {
				t.Errorf("%v, in the other order %v, want %v", got, other, tc.want)
			}
		})
	}
}

// Whoever claims what: every partition has one owner, shares differ by one, and nobody loses what it could keep.
func TestEveryPartitionHasOneOwner(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		claims, partitions := make([]claim, 1+rng.IntN(6)), upTo(rng.IntN(20))
		taken := rng.Perm(20)
		for i := range claims {
			n := rng.IntN(len(taken) + 1)
			claims[i], taken = claim{fmt.Sprint("m", i), taken[:n]}, taken[n:]
		}
		shares := assign(claims, partitions)
		given := slices.Sorted(slices.Values(slices.Concat(slices.Collect(maps.Values(shares))...)))
		if !slices.Equal(given, partitions) || len(shares) != len(claims) {
			t.Fatalf("%v of %v were given out: %v", given, partitions, shares)
		}
		least, most := len(partitions)/len(claims), (len(partitions)+len(claims)-1)/len(claims)
		for _, c := range claims {
			share := shares[c.id]
			if len(share) < least || len(share) > most {
				t.Fatalf("%s has %v of %d partitions of %d members", c.id, share, len(partitions), len(claims))
			}
			kept, could := 0, 0
			for _, p := range c.owned {
				if p < len(partitions) {
					could++
				}
				if slices.Contains(share, p) {
					kept++
				}
			}
			if kept < min(could, least) {
				t.Fatalf("%s worked on %v and keeps %d: %v", c.id, c.owned, kept, share)
			}
		}
	}
}
