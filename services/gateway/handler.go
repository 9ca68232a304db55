package gateway

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	gatewayv1 "github.com/hookmesh/hookmesh/gen/hookmesh/gateway/v1"
	"github.com/hookmesh/hookmesh/services/gateway/edge"
	"github.com/hookmesh/hookmesh/services/gateway/problem"
)

const webhooks = "/webhooks/"

// IsDelivery says whether a request is for a source's webhooks rather than for the API.
func IsDelivery(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, webhooks) }

// Handler returns the whole HTTP edge of a gateway: /webhooks/{source}, the JSON API under /v1/, /openapi.json and an index.
// Serve it with NewHTTPServer, which bounds what a handler cannot.
func Handler(s *Service) (http.Handler, error) {
	hooks, err := newWebhookHandler(s)
	if err != nil {
		return nil, err
	}
	api, err := newAPIHandler(s)
	if err != nil {
		return nil, err
	}
	// Not http.ServeMux: it redirects paths with dots, and a webhook must not be redirected.
	root := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case IsDelivery(r):
			hooks.ServeHTTP(w, r)
		case strings.HasPrefix(path, "/v1/"):
			api.ServeHTTP(w, r)
		case path == "/openapi.json" && len(s.deps.OpenAPI) > 0:
			serveBytes(w, r, "application/json", s.deps.OpenAPI)
		case path == "/":
			serveBytes(w, r, "text/plain; charset=utf-8", []byte(index))
		default:
			notFound(w)
		}
	})
	return edge.Secure(edge.Trace(s.tracer, s.cfg.TrustTraceparent, edge.RequestID(edge.Recover(s.tel.Logger, edge.LimitHeaders(root))))), nil
}

const index = `hookmesh
POST /webhooks/{source}            takes webhooks
GET  /v1/search?query=…            searches the knowledge base
GET  /v1/documents/{source}/{id}   tells what is known of a document
GET  /v1/events/{id}               tells what became of an event
GET  /openapi.json                 describes the API
`

func serveBytes(w http.ResponseWriter, r *http.Request, contentType string, data []byte) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		methodNotAllowed(w, "GET, HEAD")
		return
	}
	secluded(w, r)
	w.Header().Set("Content-Type", contentType)
	_, _ = w.Write(data) // the client is gone if this fails
}

func notFound(w http.ResponseWriter) {
	problem.Problem{Status: http.StatusNotFound, Code: problem.NotFound, Detail: "There is nothing at this path."}.Write(w)
}

func methodNotAllowed(w http.ResponseWriter, allowed string) {
	w.Header().Set("Allow", allowed)
	problem.Problem{Status: http.StatusMethodNotAllowed, Code: problem.MethodNotAllowed, Detail: "The method is not allowed here; allowed: " + allowed + "."}.Write(w)
}

// webhookHandler stands before the generated handler of ReceiveWebhook.
type webhookHandler struct {
	s      *Service
	bodies *edge.Bodies
	mux    *runtime.ServeMux
}

func newWebhookHandler(s *Service) (*webhookHandler, error) {
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, edge.Raw{}),
		runtime.WithForwardResponseOption(forwardAnswer),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithErrorHandler(apiError(s)),
		runtime.WithRoutingErrorHandler(routingError),
		runtime.WithIncomingHeaderMatcher(func(string) (string, bool) { return "", false }),
	)
	if err := gatewayv1.RegisterGatewayServiceHandlerServer(context.Background(), mux, s); err != nil {
		return nil, fmt.Errorf("register the webhook API: %w", err)
	}
	return &webhookHandler{s: s, bodies: edge.NewBodies(s.cfg.MaxBodyBytes, s.cfg.MaxBufferedBytes), mux: mux}, nil
}

// webhookMethods are what providers deliver and ask with; whether a source's provider uses one is the verifier's decision.
var webhookMethods = []string{http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPatch, http.MethodPost, http.MethodPut}

// ServeHTTP decides whether the delivery may come in before a byte of its body is read.
func (h *webhookHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := h.s.now()
	// The escaped path, so that nothing but a plain name matches: no slash, dot or percent sign.
	name := strings.TrimPrefix(r.URL.EscapedPath(), webhooks)
	refuse := func(src *source, a *answer) {
		h.s.finish(r.Context(), src, a, h.s.now().Sub(start))
		a.write(w)
	}
	if !slices.Contains(webhookMethods, r.Method) {
		methodNotAllowed(w, strings.Join(webhookMethods, ", "))
		return
	}
	src, refused := h.s.admit(name, httpPeer{r, &h.s.cfg.Proxies})
	if refused != nil {
		refuse(src, refused)
		return
	}
	body, release, bad := h.bodies.Read(w, r)
	defer release()
	if bad != nil {
		a := problemAnswer(strings.ToLower(bad.Code), *bad)
		if bad.Code == problem.Overloaded {
			a = h.s.shed(src, refusal{bad.Code, bad.Detail, quota{"memory", h.s.cfg.MaxBufferedBytes, 0, "content-bytes"}, 1})
		}
		refuse(src, a)
		return
	}
	inner := src.inner.WithContext(withArrival(r.Context(), &arrival{src, edge.NewRequest(r, &h.s.cfg.Proxies, body, start), w.Header().Get(problem.RequestIDHeader)}))
	// The generated handler has one route for all of them; the delivery itself says which it was.
	inner.Method, inner.Body, inner.ContentLength = http.MethodPost, edge.NewPayload(body), int64(len(body))
	h.mux.ServeHTTP(w, inner)
}

// plain is the request that the generated handler sees: without query, headers and addresses, so that none of them can fill
// fields of the message, choose a deadline or a method, or become metadata. The service reads the real ones from the context.
func plain(name string) *http.Request {
	return &http.Request{
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, URL: &url.URL{Path: webhooks + name},
		Header: http.Header{"Content-Type": {"application/octet-stream"}}, Form: url.Values{}, PostForm: url.Values{},
	}
}

// forwardAnswer writes status and headers of a ReceiveWebhookResponse; grpc-gateway writes its body.
func forwardAnswer(_ context.Context, w http.ResponseWriter, m proto.Message) error {
	a, ok := m.(interface {
		GetStatus() int32
		GetHeaders() []*eventv1.Header
	})
	if !ok {
		return fmt.Errorf("%T is not an answer to a webhook", m)
	}
	setHeaders(w, a.GetHeaders())
	w.WriteHeader(int(a.GetStatus()))
	return nil
}

// routingError answers paths and methods that grpc-gateway does not know.
func routingError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, status int) {
	switch status {
	case http.StatusMethodNotAllowed:
		methodNotAllowed(w, strings.Join(webhookMethods, ", "))
	case http.StatusNotFound:
		notFound(w)
	default:
		problem.Problem{Status: status, Code: problem.InvalidRequest, Detail: "The request's path cannot be read."}.Write(w)
	}
}

// sameJSON reports whether a body is absent or says that it is JSON.
func sameJSON(r *http.Request, body []byte) bool {
	mime, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return len(bytes.TrimSpace(body)) == 0 || strings.EqualFold(strings.TrimSpace(mime), "application/json")
}
