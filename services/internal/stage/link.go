package stage

import (
	"bytes"
	"strconv"
)

// formatLink writes a link: the epoch of the producing partition and the number of the output in it.
func formatLink(epoch string, seq int64) []byte {
	b := make([]byte, 0, len(epoch)+21)
	b = append(b, epoch...)
	b = append(b, ':')
	return strconv.AppendInt(b, seq, 10)
}

// link reads a record's link; ok is false if it has none (it came from a gateway, say) or one that cannot be read.
func link(headers []Header) (epoch string, seq int64, ok bool) {
	for _, h := range headers {
		if h.Key != LinkHeader {
			continue
		}
		i := bytes.LastIndexByte(h.Value, ':')
		if i <= 0 {
			return "", 0, false
		}
		n, err := strconv.ParseInt(string(h.Value[i+1:]), 10, 64)
		if err != nil || n <= 0 {
			return "", 0, false
		}
		return string(h.Value[:i]), n, true
	}
	return "", 0, false
}
