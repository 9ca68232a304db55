package events

// The years 2001 and 2200 in microseconds since 1970. A position between them can be a time; no counter or version gets there.
const (
	EarliestTime int64 = 978_307_200_000_000
	LatestTime   int64 = 7_258_118_400_000_000
)

// CoarseTime says whether a position is a time in whole seconds, so that several changes of a document may share it.
func CoarseTime(position int64) bool {
	return position >= EarliestTime && position <= LatestTime && position%1_000_000 == 0
}
