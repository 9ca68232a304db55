package gateway

import (
	"context"
	"net/http"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
)

// routes says which methods the paths of the API have. It asks the router itself: a list beside it could say something else.
type routes struct{ mux *runtime.ServeMux }

// asked marks a request that only asks whether there is a handler for it.
type asked struct{}

// onlyAsked keeps such requests from their handlers, and notes that they have one.
func onlyAsked(next runtime.HandlerFunc) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, params map[string]string) {
		if found, ok := r.Context().Value(asked{}).(*bool); ok {
			*found = true
			return
		}
		next(w, r, params)
	}
}

// have says whether a request's path has a method. Whatever has GET has HEAD.
func (t *routes) have(r *http.Request, method string) bool {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	found := false
	question := r.WithContext(context.WithValue(context.Background(), asked{}, &found))
	question.Method, question.Header, question.Body = method, http.Header{}, http.NoBody
	t.mux.ServeHTTP(nowhere{}, question)
	return found
}

// allowed lists the methods of a request's path, as the header Allow does.
func (t *routes) allowed(r *http.Request) string {
	var some []string
	for _, method := range []string{http.MethodDelete, http.MethodGet, http.MethodHead, http.MethodPatch, http.MethodPost, http.MethodPut} {
		if t.have(r, method) {
			some = append(some, method)
		}
	}
	return strings.Join(some, ", ")
}

// refuse answers paths and methods that the router does not know.
func (t *routes) refuse(ctx context.Context, mux *runtime.ServeMux, m runtime.Marshaler, w http.ResponseWriter, r *http.Request, status int) {
	switch _, question := ctx.Value(asked{}).(*bool); {
	case question:
	case status == http.StatusMethodNotAllowed:
		methodNotAllowed(w, t.allowed(r))
	default:
		routingError(ctx, mux, m, w, r, status)
	}
}

// nowhere is where the answers to such questions go.
type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (nowhere) WriteHeader(int)             {}
