package expr

import (
	"math"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// unixMicros is the CEL function of that name: a time, however it is written, as microseconds since 1970.
func unixMicros(v ref.Val) ref.Val {
	read := fromRef(v)
	micros, ok := read.micros()
	if !ok {
		return types.NewErr("not a time")
	}
	return types.Int(micros)
}

// micros is a value as a time in microseconds since 1970.
func (v *value) micros() (int64, bool) {
	switch v.kind {
	case integer:
		return scale(v.n)
	case double:
		f := v.float()
		if math.IsNaN(f) || f < 0 || f > 1e11 {
			return 0, false
		}
		return int64(math.Round(f * 1e6)), true
	case str:
		return ParseMicros(v.s)
	case other:
		if t, ok := v.val.(types.Timestamp); ok {
			return t.UnixMicro(), true
		}
	}
	return 0, false
}

// scale tells seconds, milliseconds and microseconds apart by their size: all three are unambiguous for the years 1971 to 5138.
func scale(n int64) (int64, bool) {
	switch {
	case n < 0:
		return 0, false
	case n < 1e11:
		return n * 1e6, true
	case n < 1e14:
		return n * 1e3, true
	case n < 1e17:
		return n, true
	}
	return 0, false
}

// ParseMicros reads a time: RFC 3339, "1515449522.000016", or a whole Unix time in seconds, milliseconds or microseconds.
func ParseMicros(s string) (int64, bool) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return scale(n)
	}
	if whole, fraction, ok := strings.Cut(s, "."); ok && len(fraction) > 0 && len(fraction) <= 9 {
		seconds, err1 := strconv.ParseUint(whole, 10, 33)
		_, err2 := strconv.ParseUint(fraction, 10, 64)
		if err1 == nil && err2 == nil {
			micros, _ := strconv.ParseInt((fraction + "000000")[:6], 10, 64)
			return int64(seconds)*1e6 + micros, true
		}
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	year := t.UTC().Year() // the zone may carry it out of the years that can be written
	return t.UnixMicro(), err == nil && year >= 1970 && year <= 9999
}
