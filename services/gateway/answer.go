package gateway

import (
	"net/http"
	"net/textproto"
	"strconv"

	"golang.org/x/net/http/httpguts"
	"google.golang.org/genproto/googleapis/api/httpbody"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	gatewayv1 "github.com/hookmesh/hookmesh/gen/hookmesh/gateway/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/gateway/problem"
)

// answer is what a sender gets.
type answer struct {
	status      int
	headers     []*eventv1.Header
	contentType string
	body        []byte
	// outcome is a word for metrics and traces.
	outcome string
	// problem is what body says, if the answer is an error.
	problem *problem.Problem
}

// name puts the request's id into an error.
func (a *answer) name(requestID string) {
	if a.problem != nil && requestID != "" {
		a.problem.RequestID = requestID
		a.body = a.problem.JSON()
	}
}

func (a *answer) header(name, value string) {
	a.headers = append(a.headers, &eventv1.Header{Name: name, Value: []byte(value)})
}

func (a *answer) proto() *gatewayv1.ReceiveWebhookResponse {
	return &gatewayv1.ReceiveWebhookResponse{
		Status: int32(a.status), Headers: a.headers,
		Body: &httpbody.HttpBody{ContentType: a.contentType, Data: a.body},
	}
}

// write sends the answer over HTTP, for deliveries that end before they reach the API.
func (a *answer) write(w http.ResponseWriter) {
	a.name(w.Header().Get(problem.RequestIDHeader))
	w.Header().Set("Content-Type", a.contentType)
	setHeaders(w, a.headers)
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // the sender is gone if this fails
}

func setHeaders(w http.ResponseWriter, headers []*eventv1.Header) {
	for _, h := range headers {
		w.Header().Add(h.GetName(), string(h.GetValue()))
	}
}

func problemAnswer(outcome string, p problem.Problem) *answer {
	a := &answer{status: p.Status, contentType: problem.ContentType, body: p.JSON(), outcome: outcome, problem: &p}
	if p.RetryAfter > 0 {
		a.header("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	return a
}

func unavailable(outcome, code, detail string) *answer {
	return problemAnswer(outcome, problem.Problem{Status: http.StatusServiceUnavailable, Code: code, Detail: detail, RetryAfter: spread(1)})
}

// publicCodes are the verifier's codes that a stranger may read: they say no more than that it was refused, and what any
// documentation says is needed. Everything else is NOT_AUTHENTIC outside; the log has the rest.
var publicCodes = map[string]bool{
	"SIGNATURE_MISSING": true, "SIGNATURE_MISMATCH": true, "SIGNATURE_MALFORMED": true,
	"TIMESTAMP_MISSING": true, "TIMESTAMP_MALFORMED": true, "TIMESTAMP_STALE": true, "TIMESTAMP_FUTURE": true,
}

func rejected(code string) *answer {
	if !publicCodes[code] {
		code = problem.NotAuthentic
	}
	return problemAnswer("rejected", problem.Problem{Status: http.StatusForbidden, Code: code, Detail: "The delivery was not accepted."})
}

// neverSent are headers that an answer of a provider's handshake must not set.
var neverSent = map[string]bool{
	"Connection": true, "Content-Length": true, "Content-Type": true, "Keep-Alive": true, "Proxy-Authenticate": true, "Set-Cookie": true,
	"Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
}

// providerAnswer is what a provider expects to hear instead of our own words. Values that came from the sender are echoed in it, so
// that only well-formed headers pass, and nothing in it is taken for a page.
func providerAnswer(outcome string, r *verifierv1.HttpResponse) *answer {
	a := &answer{status: int(r.GetStatus()), contentType: "text/plain; charset=utf-8", body: r.GetBody(), outcome: outcome}
	if a.status < 200 || a.status > 599 {
		a.status = http.StatusOK
	}
	for _, h := range r.GetHeaders() {
		name, value := textproto.CanonicalMIMEHeaderKey(h.GetName()), string(h.GetValue())
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			continue
		}
		if name == "Content-Type" {
			a.contentType = value
		}
		if !neverSent[name] {
			a.header(name, value)
		}
	}
	return a
}
