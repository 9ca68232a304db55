package verifier

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/config"
)

// The table of bad input in docs/ordering.md, as far as the verifier is concerned: what it makes of a position, a version, a time
// and an id. What follows from that is the sequencer's table.
func TestWhatIsBadInADeliveryHasADefinedMeaning(t *testing.T) {
	monotonic := map[string]string{"ordering": "monotonic"}
	dates := map[string]string{"ordering": "monotonic", "sequence": "unixMicros(body.version)"}
	paths := map[string]string{"document_id": `body.space + "/" + body.page`}
	long := strings.Repeat("9", 1025)
	tests := []struct {
		name     string
		settings map[string]string
		body     string
		want     string // document: order and position, version, time; or the code of what is quarantined
	}{
		{"a number", monotonic, `{"id":"d","sequence":7}`, "d: monotonic 7, version 7"},
		{"a number as a string is the number", monotonic, `{"id":"d","sequence":"7"}`, "d: monotonic 7, version 7"},
		{"a number with leading zeros, as a string", monotonic, `{"id":"d","sequence":"007"}`, "d: monotonic 7, version 007"},
		{"a whole number that is written with a point", monotonic, `{"id":"d","sequence":7.0}`, "d: monotonic 7, version 7"},
		{"a whole number that is written with an exponent", monotonic, `{"id":"d","sequence":12e3}`, "d: monotonic 12000, version 12000"},
		{"a negative number", monotonic, `{"id":"d","sequence":-7}`, "d: monotonic -7, version -7"},
		{"zero", map[string]string{"ordering": "contiguous"}, `{"id":"d","sequence":0}`, "d: contiguous 0, version 0"},
		{"the largest number", monotonic, `{"id":"d","sequence":9223372036854775807}`, "d: monotonic 9223372036854775807, version 9223372036854775807"},
		{"one more is none, and the version keeps each digit", monotonic, `{"id":"d","sequence":9223372036854775808}`, "d: arrival, version 9223372036854775808"},
		{"one more as a string", monotonic, `{"id":"d","sequence":"9223372036854775808"}`, "d: arrival, version 9223372036854775808"},
		{"far more", monotonic, `{"id":"d","sequence":123456789012345678901234567890}`, "d: arrival, version 123456789012345678901234567890"},
		{"one less than the smallest", monotonic, `{"id":"d","sequence":-9223372036854775809}`, "d: arrival, version -9223372036854775809"},
		{"an exponent beyond what a float tells apart", monotonic, `{"id":"d","sequence":9007199254740993e3}`, "d: arrival, version 9007199254740993000"},
		{"an exponent beyond all numbers", monotonic, `{"id":"d","sequence":1e999}`, "d: arrival, version 1e999"},
		{"a fraction", monotonic, `{"id":"d","sequence":7.5}`, "d: arrival, version 7.5"},
		{"a fraction as a string", monotonic, `{"id":"d","sequence":"7.0"}`, "d: arrival, version 7.0"},
		{"a word", monotonic, `{"id":"d","sequence":"seven"}`, "d: arrival, version seven"},
		{"an empty string", monotonic, `{"id":"d","sequence":""}`, "d: arrival"},
		{"null", monotonic, `{"id":"d","sequence":null}`, "d: arrival"},
		{"true", monotonic, `{"id":"d","sequence":true}`, "d: arrival, version true"},
		{"a list", monotonic, `{"id":"d","sequence":[7]}`, "d: arrival"},
		{"nothing", monotonic, `{"id":"d"}`, "d: arrival"},
		{"a number although the source says that it proves nothing", nil, `{"id":"d","sequence":7}`, "d: arrival, version 7"},

		{"a version that is a date, and the preset does not say so", monotonic, `{"id":"d","sequence":"2026-11-28T12:00:00Z"}`, "d: arrival, version 2026-11-28T12:00:00Z"},
		{"a version that is a date", dates, `{"id":"d","version":"2026-11-28T12:00:00.5Z"}`, "d: monotonic 1795867200500000, version 2026-11-28T12:00:00.5Z"},
		{"the same date in another zone", dates, `{"id":"d","version":"2026-11-28T13:00:00.5+01:00"}`, "d: monotonic 1795867200500000, version 2026-11-28T13:00:00.5+01:00"},
		{"a date in seconds", dates, `{"id":"d","version":1795867200}`, "d: monotonic 1795867200000000, version 1795867200"},
		{"a date in milliseconds, as a string", dates, `{"id":"d","version":"1795867200500"}`, "d: monotonic 1795867200500000, version 1795867200500"},
		{"a date in seconds with a fraction", dates, `{"id":"d","version":"1795867200.000016"}`, "d: monotonic 1795867200000016, version 1795867200.000016"},
		{"a date in the future is a position; the sequencer does not believe it", dates, `{"id":"d","version":"2076-01-01T00:00:00Z"}`, "d: monotonic 3345062400000000, version 2076-01-01T00:00:00Z"},
		{"a day without its time", dates, `{"id":"d","version":"2026-11-28"}`, "d: arrival, version 2026-11-28"},
		{"a date that does not exist", dates, `{"id":"d","version":"2026-02-30T00:00:00Z"}`, "d: arrival, version 2026-02-30T00:00:00Z"},
		{"a date before all others, as some write for none", dates, `{"id":"d","version":"0001-01-01T00:00:00Z"}`, "d: arrival, version 0001-01-01T00:00:00Z"},
		{"a date that its zone carries into the year 10000", dates, `{"id":"d","version":"9999-12-31T23:59:59-14:00"}`, "d: arrival, version 9999-12-31T23:59:59-14:00"},
		{"a date that its zone carries out of 1970", dates, `{"id":"d","version":"1970-01-01T00:00:00+14:00"}`, "d: arrival, version 1970-01-01T00:00:00+14:00"},
		{"a number that is no date", dates, `{"id":"d","version":9223372036854775807}`, "d: arrival, version 9223372036854775807"},

		{"a version as long as may be", nil, `{"id":"d","version":"` + long[1:] + `"}`, "d: arrival, version " + long[1:]},
		{"a version that is longer counts as not given", nil, `{"id":"d","version":"` + long + `"}`, "d: arrival"},
		{"a version that no database holds counts as not given", nil, `{"id":"d","version":"1\u0000"}`, "d: arrival"},

		{"a time", nil, `{"id":"d","occurred_at":"2026-11-28T12:00:00Z"}`, "d: arrival, at 2026-11-28T12:00:00Z"},
		{"a time in the future is told as it is; the sequencer does not believe it", nil, `{"id":"d","occurred_at":"2076-01-01T00:00:00Z"}`, "d: arrival, at 2076-01-01T00:00:00Z"},
		{"a time that nobody can write counts as not given", nil, `{"id":"d","occurred_at":"9999-12-31T23:59:59-14:00"}`, "d: arrival"},
		{"a time of 0 counts as not given", nil, `{"id":"d","occurred_at":0}`, "d: arrival"},
		{"a negative time counts as not given", nil, `{"id":"d","occurred_at":-1}`, "d: arrival"},
		{"a time that is none counts as not given", nil, `{"id":"d","occurred_at":"yesterday"}`, "d: arrival"},

		{"ids that differ in case are kept as they are", nil, `{"id":"Doc"}`, "Doc: arrival"},
		{"so are ids that are composed", nil, "{\"id\":\"caf\u00e9\"}", "caf\u00e9: arrival"},
		{"and ids that are decomposed", nil, "{\"id\":\"cafe\u0301\"}", "cafe\u0301: arrival"},
		{"an escape is the character that it stands for", nil, `{"id":"caf\u00e9"}`, "caf\u00e9: arrival"},
		{"an id that is a number", nil, `{"id":12345678901234567890}`, "12345678901234567890: arrival"},
		{"an id of spaces is an id", nil, `{"id":" "}`, " : arrival"},
		{"an id that is put together of parts, one of which is empty", paths, `{"space":"s","page":""}`, "s/: arrival"},
		{"an id of which a part is missing is looked for elsewhere, and is missing", paths, `{"space":"s"}`, "DOCUMENT_ID_MISSING"},
		{"an empty id", nil, `{"id":""}`, "DOCUMENT_ID_MISSING"},
		{"an id that is null", nil, `{"id":null}`, "DOCUMENT_ID_MISSING"},
		{"an id that is an object", nil, `{"id":{"a":1}}`, "DOCUMENT_ID_MISSING"},
		{"no id", nil, `{"title":"x"}`, "DOCUMENT_ID_MISSING"},
		{"an id as long as may be", nil, `{"id":"` + strings.Repeat("a", 2048) + `"}`, strings.Repeat("a", 2048) + ": arrival"},
		{"an id that is longer", nil, `{"id":"` + strings.Repeat("a", 2049) + `"}`, "DOCUMENT_ID_INVALID"},
		{"an id with a zero byte", nil, `{"id":"a\u0000b"}`, "DOCUMENT_ID_INVALID"},
		{"an id with half a character", nil, `{"id":"a\ud800"}`, "PAYLOAD_INVALID_UTF8"},
		{"an id that is no UTF-8", nil, "{\"id\":\"a\xff\"}", "PAYLOAD_INVALID_UTF8"},
		{"two ids", nil, `{"id":"a","id":"b"}`, "PAYLOAD_DUPLICATE_KEY"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			headers := map[string]string{"Content-Type": "application/json", "X-Signature": "sha256=" + signature("s", tt.body, hex.EncodeToString)}
			src := config.Source{Preset: "generic-hmac", Secrets: secrets("s"), Settings: tt.settings}
			got := explained(t, src, verifyRequest("POST", "/x", headers, []byte(tt.body)), time.Unix(1795867200, 0))
			if s := meant(got); s != tt.want {
				t.Errorf("means %q, want %q", s, tt.want)
			}
		})
	}
}

// The same for presets that take positions, versions and times from where their providers write them.
func TestWhatIsBadInAProvidersDeliveryHasADefinedMeaning(t *testing.T) {
	tests := []struct {
		name, preset string
		headers      map[string]string
		body, want   string
	}{
		{"a revision", "azure-devops", nil, `{"eventType":"workitem.updated","resource":{"workItemId":7,"rev":3}}`, "monotonic 3"},
		{"a revision as a string", "azure-devops", nil, `{"eventType":"workitem.updated","resource":{"workItemId":7,"rev":"3"}}`, "monotonic 3"},
		{"a revision beyond 64 bits", "azure-devops", nil, `{"eventType":"workitem.updated","resource":{"workItemId":7,"rev":9223372036854775808}}`, "arrival"},
		{"Slack's time with a fraction", "slack", nil, `{"team_id":"T","type":"event_callback","event_id":"E","event":{"type":"message","channel":"C","ts":"1795867200.000016","event_ts":"1795867200.000017"}}`, "monotonic 1795867200000017"},
		{"Slack's time, broken: the message's own time", "slack", nil, `{"team_id":"T","type":"event_callback","event_id":"E","event":{"type":"message","channel":"C","ts":"1795867200.000016","event_ts":"soon"}}`, "monotonic 1795867200000016"},
		{"a time in a header", "contentful", map[string]string{"X-Contentful-Topic": "ContentManagement.Entry.publish", "X-Contentful-Event-Datetime": "2026-11-28T12:00:00.5Z"}, `{"sys":{"id":"e","type":"Entry","space":{"sys":{"id":"s"}}}}`, "monotonic 1795867200500000"},
		{"a header that is no time: the body's", "contentful", map[string]string{"X-Contentful-Topic": "ContentManagement.Entry.publish", "X-Contentful-Event-Datetime": "now"}, `{"sys":{"id":"e","type":"Entry","updatedAt":"2026-11-28T12:00:00Z","space":{"sys":{"id":"s"}}}}`, "monotonic 1795867200000000"},
	}
	set := builtinPresets(t)
	for _, tt := range tests {
		t.Run(tt.preset+": "+tt.name, func(t *testing.T) {
			headers := map[string]string{"Content-Type": "application/json"}
			for k, v := range tt.headers {
				headers[k] = v
			}
			src, err := compileSource(config.Source{Name: "s", Preset: tt.preset, Secrets: secrets("s")}, set)
			if err != nil {
				t.Fatal(err)
			}
			// Its credential was looked at before: this is about what it means.
			got := explain(src.reread(verifyRequest("POST", "/x", headers, []byte(tt.body)), assurances["body"]))
			if len(got.Events) != 1 {
				t.Fatalf("%+v", got)
			}
			if order := got.Events[0].order(); order != tt.want {
				t.Errorf("%s, want %s", order, tt.want)
			}
		})
	}
}

func (e ExplainedEvent) order() string {
	if e.Sequence == nil {
		return e.Ordering
	}
	return fmt.Sprint(e.Ordering, " ", *e.Sequence)
}

// meant is what an explanation comes to.
func meant(got Explanation) string {
	if len(got.Events) != 1 {
		return cmp.Or(got.Code, got.Verdict)
	}
	e := got.Events[0]
	text := e.DocumentID + ": " + e.order()
	if e.Version != "" {
		text += ", version " + e.Version
	}
	if e.OccurredAt != "" {
		text += ", at " + e.OccurredAt
	}
	return text
}
