package problem_test

import (
	"net/http/httptest"
	"testing"

	"github.com/hookmesh/hookmesh/services/gateway/problem"
)

func TestAProblemIsWrittenAsRFC9457Says(t *testing.T) {
	w := httptest.NewRecorder()
	problem.Problem{Status: 429, Code: problem.RateLimited, Detail: `slow "down"`, RetryAfter: 3}.Write(w)
	const want = `{"type":"about:blank","title":"Too Many Requests","status":429,"code":"RATE_LIMITED","detail":"slow \"down\""}`
	if w.Body.String() != want || w.Code != 429 || w.Header().Get("Retry-After") != "3" || w.Header().Get("Content-Type") != problem.ContentType {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}
