package gateway

import "encoding/json"

// reply is the JSON of an accepted, duplicate, ignored or quarantined delivery.
type reply struct {
	status      string
	reason      string
	events      []replyEvent
	quarantined []replyQuarantined
}

type replyEvent struct{ id, documentID, duplicateOf string }

type replyQuarantined struct{ id, code string }

func (r reply) answer(status int) *answer {
	return &answer{status: status, contentType: "application/json", body: r.json(), outcome: r.status}
}

// json writes the reply without reflection: every delivery gets one.
func (r reply) json() []byte {
	b := make([]byte, 0, 64+160*(len(r.events)+len(r.quarantined)))
	b = appendString(append(b, `{"status":`...), r.status)
	if r.reason != "" {
		b = appendString(append(b, `,"reason":`...), r.reason)
	}
	for i, e := range r.events {
		b = append(b, separator(i, `,"events":[`)...)
		b = appendString(append(b, `{"id":`...), e.id)
		b = appendString(append(b, `,"documentId":`...), e.documentID)
		if e.duplicateOf != "" {
			b = appendString(append(b, `,"duplicateOf":`...), e.duplicateOf)
		}
		b = append(b, '}')
	}
	if len(r.events) > 0 {
		b = append(b, ']')
	}
	for i, q := range r.quarantined {
		b = append(b, separator(i, `,"quarantined":[`)...)
		b = appendString(append(b, `{"id":`...), q.id)
		b = appendString(append(b, `,"code":`...), q.code)
		b = append(b, '}')
	}
	if len(r.quarantined) > 0 {
		b = append(b, ']')
	}
	return append(b, '}')
}

func separator(i int, first string) string {
	if i == 0 {
		return first
	}
	return ","
}

// appendString appends a JSON string.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, err := json.Marshal(s)
			if err != nil { // not reached: every string marshals
				quoted = []byte(`""`)
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
