package sources_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/mesh"
)

// A delivery that was signed rightly but long ago is refused, and the document that it told of is fetched from the source within
// seconds, whether or not the source lists it.
func TestAStaleDeliveryIsRefusedAndBecomesADebtThatIsPaid(t *testing.T) {
	var polls atomic.Int64
	w := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path != "/changes" {
			_, _ = io.WriteString(w, `{"title":"Page","body":"The text of the page.","version":"1"}`)
			return
		}
		defer polls.Add(1)
		_, _ = io.WriteString(w, `{"changes":[],"next_cursor":"0","has_more":false}`)
	}))
	defer w.Close()
	key := []byte("an e2e secret of 24 bytes")
	m := mesh.Start(t, fmt.Sprintf(`
  - name: hooks
    preset: standard-webhooks
    secrets: [{value: whsec_%s}]
    content: {fetch: "%s/pages/{document_id}", body: body, title: title, version: version}
    poll: {changes: "%s/changes?cursor={cursor}", interval: 6h}
`, base64.StdEncoding.EncodeToString(key), w.URL, w.URL))
	m.Until(20*time.Second, "the first poll is over", func() error {
		if polls.Load() == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	body := []byte(`{"type":"page.updated","timestamp":"2026-01-01T00:00:00Z","data":{"id":"stuck"}}`)
	at := fmt.Sprint(time.Now().Add(-time.Hour).Unix())
	mac := hmac.New(sha256.New, key)
	_, _ = fmt.Fprintf(mac, "msg_1.%s.%s", at, body)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, m.HTTP+"/webhooks/hooks", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"Content-Type": "application/json", "Webhook-Id": "msg_1", "Webhook-Timestamp": at, "Webhook-Signature": "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))} {
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusForbidden || !strings.Contains(string(raw), "TIMESTAMP_STALE") {
		t.Fatalf("%d %s", res.StatusCode, raw)
	}
	m.Until(20*time.Second, "the debt is paid", func() error {
		var doc struct{ Document struct{ State string } }
		if err := m.GetJSON("/v1/documents/hooks/stuck", &doc); err != nil {
			return err
		}
		var list struct {
			Sources []struct{ Name, PaidDebts string }
		}
		if err := m.GetJSON("/v1/sources", &list); err != nil {
			return err
		}
		for _, s := range list.Sources {
			if s.Name == "hooks" && s.PaidDebts != "0" {
				return nil
			}
		}
		return fmt.Errorf("%+v", list)
	})
}
