package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// The commands ask for what the API documents, and print what a person can act on.
func TestOrderAndDedupeCommandsTalkToTheAPI(t *testing.T) {
	tests := []struct {
		args    []string
		request string
		answer  string
		want    string
	}{
		{[]string{"order", "show", "wiki", "a/b"}, "GET /v1/order?documentId=a%2Fb&source=wiki ", `{"revision":"3","deleted":true}`, `"deleted":`},
		{[]string{"order", "gaps"}, "GET /v1/gaps?limit=50&source= ", `{"gaps":[{"source":"wiki","documentId":"7","missing":"4","missingUntil":"6","held":2}]}`, "wiki/7  missing 4-6, 2 wait"},
		{[]string{"order", "gaps", "--source", "wiki"}, "GET /v1/gaps?limit=50&source=wiki ", `{}`, "nothing is waited for"},
		{[]string{"order", "skip", "wiki", "7", "--missing", "4"}, `POST /v1/gaps:skip {"source":"wiki","documentId":"7","missing":"4"}`, `{}`, "on its way"},
		{[]string{"order", "skip", "wiki", "--missing", "4"}, `POST /v1/gaps:skip {"source":"wiki","missing":"4"}`, `{}`, "on its way"},
		{[]string{"order", "wait", "wiki", "7", "--missing", "4", "--for", "1h"}, `POST /v1/gaps:wait {"source":"wiki","documentId":"7","missing":"4","until":"`, `{}`, "waits until"},
		{[]string{"dedupe", "lookup", "wiki", "k 1"}, "GET /v1/dedupe/keys?idempotencyKey=k+1&source=wiki ", `{"eventId":"e1"}`, `"e1"`},
		{[]string{"dedupe", "forget", "wiki", "k"}, `POST /v1/dedupe/keys:forget {"source":"wiki","idempotencyKey":"k"}`, `{"forgotten":true}`, "forgotten"},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			var got string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got = r.Method + " " + r.URL.RequestURI() + " " + strings.ReplaceAll(string(body), `", "`, `","`)
				_, _ = io.WriteString(w, tt.answer)
			}))
			defer server.Close()
			code, out, errs := command(t, append(tt.args, "--url", server.URL)...)
			if code != 0 || !strings.HasPrefix(got, tt.request) || !strings.Contains(out, tt.want) {
				t.Errorf("exit %d, asked %q, printed %q %s", code, got, out, errs)
			}
		})
	}
	for _, args := range [][]string{{"order", "skip", "--missing", "1"}, {"order", "wait", "a", "b", "--missing", "1", "--for", "-1s"}, {"dedupe", "lookup", "a"}} {
		if code, _, _ := command(t, args...); code != 2 {
			t.Errorf("%v: exit %d, want 2", args, code)
		}
	}
}
