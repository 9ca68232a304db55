package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestDebtsCommandsTalkToTheAPI(t *testing.T) {
	for _, tt := range []struct {
		args                  []string
		request, answer, want string
	}{
		{[]string{"debts", "list"}, "GET /v1/debts?pageSize=100 ", `{"debts":[{"debt":{"source":"wiki","reason":"SHED"},"way":"DEBT_WAY_NONE"}],"total":"3"}`, "no way   the whole source\nand 2 more"},
		{[]string{"debts", "list", "--source", "wiki", "--limit", "5"}, "GET /v1/debts?pageSize=5&source=wiki ", `{"debts":[{"debt":{"source":"wiki","documentId":"a b","reason":"GAP"},"way":"DEBT_WAY_FETCH"}],"total":"1"}`, `fetch    "a b"`},
		{[]string{"debts", "list", "--source", "wiki"}, "GET /v1/debts?pageSize=100&source=wiki ", `{}`, "there are none"},
		{[]string{"debts", "write-off", "wiki", "a b", "c", "--reason", "sent again"}, `POST /v1/debts:writeOff {"source":"wiki","documentIds":["a b","c"],"reason":"sent again"}`, `{"writtenOff":"2"}`, "2 written off"},
		{[]string{"debts", "write-off", "wiki", "--all", "--reason", "sent again"}, `POST /v1/debts:writeOff {"source":"wiki","all":true,"reason":"sent again"}`, `{}`, "0 written off"},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			var got string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got = r.Method + " " + r.URL.RequestURI() + " " + strings.NewReplacer(`", "`, `","`, `, "`, `,"`, `: `, `:`).Replace(string(body))
				_, _ = io.WriteString(w, tt.answer)
			}))
			defer server.Close()
			code, out, errs := command(t, append(tt.args, "--url", server.URL)...)
			if code != 0 || got != tt.request && got != tt.request+"\n" || !strings.Contains(out, tt.want) {
				t.Errorf("exit %d, asked %q, printed %q %s", code, got, out, errs)
			}
		})
	}
	for _, args := range [][]string{{"debts", "write-off", "--all", "--reason", "x"}, {"debts", "write-off", "wiki", "--reason", "x"}, {"debts", "write-off", "wiki", "a", "--all", "--reason", "x"}, {"debts", "write-off", "wiki", "--all"}} {
		if code, _, _ := command(t, args...); code != 2 {
			t.Errorf("%v: exit %d, want 2", args, code)
		}
	}
}
