package openai_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/embedder/embedding"
	"github.com/hookmesh/hookmesh/services/embedder/embedding/openai"
)

const key = "sk-very-secret"

func serve(t *testing.T, h http.HandlerFunc) *openai.Model {
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return openai.New(openai.Config{BaseURL: srv.URL + "/v1/", Model: "m", Dimensions: 2, APIKey: key, Batch: 2})
}

func TestTextsAreBatchedAndAnswersPutInOrder(t *testing.T) {
	var sizes []int
	m := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var req struct{ Input []string }
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil || r.URL.Path != "/v1/embeddings" || r.Header.Get("Authorization") != "Bearer "+key {
			t.Errorf("bad request %s %v", r.URL, err)
		}
		sizes = append(sizes, len(req.Input))
		var items []string
		for i := len(req.Input) - 1; i >= 0; i-- {
			items = append(items, fmt.Sprintf(`{"index":%d,"embedding":[%d,0]}`, i, len(req.Input[i])))
		}
		_, _ = fmt.Fprintf(w, `{"data":[%s]}`, strings.Join(items, ","))
	})
	got, err := m.Embed(t.Context(), []string{"a", "bb", "ccc"})
	if err != nil || len(got) != 3 || got[2][0] != 1 {
		t.Fatalf("got %v, %v", got, err)
	}
	if fmt.Sprint(sizes) != "[2 1]" {
		t.Errorf("batches of %v", sizes)
	}
}

func TestFailuresSayWhetherTryingAgainHelps(t *testing.T) {
	tests := []struct {
		name   string
		status int
		header string
		body   string
		want   embedding.Error
	}{
		{"too many requests", 429, "7", "", embedding.Error{RetryAfter: 7 * time.Second}},
		{"a failing server", 503, "", "", embedding.Error{}},
		{"a bad key", 401, "", "", embedding.Error{Unauthorized: true}},
		{"a bad request", 400, "", "", embedding.Error{Permanent: true}},
		{"too few vectors", 200, "", `{"data":[]}`, embedding.Error{}},
		{"a wrong dimension", 200, "", `{"data":[{"index":0,"embedding":[1,2,3]}]}`, embedding.Error{}},
		{"an index out of range", 200, "", `{"data":[{"index":5,"embedding":[1,2]}]}`, embedding.Error{}},
		{"not JSON", 200, "", `<html>`, embedding.Error{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", tt.header)
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body))
			})
			_, err := m.Embed(context.Background(), []string{"x"})
			e, ok := embedding.AsError(err)
			if !ok {
				t.Fatalf("got %v", err)
			}
			if e.Permanent != tt.want.Permanent || e.Unauthorized != tt.want.Unauthorized || e.RetryAfter != tt.want.RetryAfter {
				t.Errorf("got %+v, want %+v", *e, tt.want)
			}
			if strings.Contains(err.Error(), key) {
				t.Error("the error holds the key")
			}
		})
	}
}
