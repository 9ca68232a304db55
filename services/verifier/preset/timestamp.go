package preset

import (
	"fmt"
	"strconv"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/expr"
)

// DefaultTolerance is how old a signed timestamp may be, as the Standard Webhooks specification and Slack recommend.
const DefaultTolerance = 5 * time.Minute

// stamp reads the time that the signature covers.
func (v *variant) stamp(r *Request, in *messageInput) (time.Time, *Refusal) {
	if v.Timestamp == nil {
		return time.Time{}, nil
	}
	var room [1]string
	values, _ := v.timestamp.values(r, room[:0])
	if len(values) == 0 || values[0] == "" {
		if v.Timestamp.Unsigned {
			return time.Time{}, nil
		}
		return time.Time{}, &Refusal{Code: CodeTimestampMissing, Reason: fmt.Sprintf("the time of sending is missing: %s", v.timestamp.place())}
	}
	in.stamp = values[0]
	at, ok := ParseTimestamp(values[0], v.Timestamp.Unit)
	if !ok && !v.Timestamp.Unsigned {
		return time.Time{}, &Refusal{Code: CodeTimestampMalformed, Reason: fmt.Sprintf("%s holds no time", v.timestamp.place())}
	}
	return at, nil
}

// ParseTimestamp reads a time of sending in a unit of Timestamp.
func ParseTimestamp(s, unit string) (time.Time, bool) {
	scale := map[string]time.Duration{"s": time.Second, "ms": time.Millisecond, "us": time.Microsecond}[unit]
	if scale > 0 {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 0 || n > int64(1<<62)/int64(scale) {
			return time.Time{}, false
		}
		return time.Unix(0, 0).Add(time.Duration(n) * scale), true
	}
	if unit == "rfc3339" {
		t, err := time.Parse(time.RFC3339Nano, s)
		return t, err == nil
	}
	micros, ok := expr.ParseMicros(s)
	return time.UnixMicro(micros), ok
}

// fresh looks at the age of an authentic request.
func (v *variant) fresh(at, now time.Time) *Refusal {
	if v.Timestamp == nil || v.Timestamp.Unsigned || v.Timestamp.Tolerance < 0 {
		return nil
	}
	switch age := now.Sub(at); {
	case age > v.Timestamp.Tolerance:
		return &Refusal{Code: CodeTimestampStale, Debt: true, SentAt: at, Reason: fmt.Sprintf("the signature is right, but was made %s ago and %s are allowed: a replay, a delivery that was stuck, or a clock that is wrong", age.Round(time.Second), v.Timestamp.Tolerance)}
	case -age > v.Timestamp.Future:
		return &Refusal{Code: CodeTimestampFuture, Debt: true, SentAt: at, Reason: fmt.Sprintf("the signature is right, but from %s in the future and %s are allowed: check the clocks", (-age).Round(time.Second), v.Timestamp.Future)}
	}
	return nil
}
