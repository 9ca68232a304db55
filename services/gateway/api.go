package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	gatewayv1 "github.com/hookmesh/hookmesh/gen/hookmesh/gateway/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	sequencerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/sequencer/v1"
	sourcev1 "github.com/hookmesh/hookmesh/gen/hookmesh/source/v1"
	"github.com/hookmesh/hookmesh/services/gateway/edge"
	"github.com/hookmesh/hookmesh/services/gateway/problem"
)

// maxAPIBody bounds the body of an API call; the largest message is a search of 8 KiB.
const maxAPIBody = 1 << 20

// newAPIHandler serves the services' gRPC APIs as JSON under /v1/.
func newAPIHandler(s *Service) (http.Handler, error) {
	known := &routes{}
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.JSONPb{
			MarshalOptions:   protojson.MarshalOptions{EmitUnpopulated: true},
			UnmarshalOptions: protojson.UnmarshalOptions{},
		}),
		runtime.WithErrorHandler(apiError(s)),
		runtime.WithMiddlewares(onlyAsked),
		runtime.WithRoutingErrorHandler(known.refuse),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableHTTPMethodOverride(),
		// No header of a caller becomes metadata of a service.
		runtime.WithIncomingHeaderMatcher(func(string) (string, bool) { return "", false }),
	)
	known.mux = mux
	ctx := context.Background()
	if err := errors.Join(
		dedupev1.RegisterDedupeServiceHandlerClient(ctx, mux, s.deps.Dedupe),
		sequencerv1.RegisterSequencerServiceHandlerClient(ctx, mux, s.deps.Sequencer),
		embedderv1.RegisterKnowledgeServiceHandlerClient(ctx, mux, s.deps.Knowledge),
		reconcilerv1.RegisterReconcilerServiceHandlerClient(ctx, mux, s.deps.Reconciler),
		gatewayv1.RegisterEventServiceHandlerServer(ctx, mux, s),
	); err != nil {
		return nil, fmt.Errorf("register the API: %w", err)
	}
	if s.deps.Sources != nil {
		if err := sourcev1.RegisterSourceServiceHandlerClient(ctx, mux, s.deps.Sources); err != nil {
			return nil, fmt.Errorf("register the API: %w", err)
		}
	}
	bodies := edge.NewBodies(maxAPIBody, s.cfg.MaxBufferedBytes)
	// A web page of a stranger that a person of the house has open must not be able to start polls.
	origins := http.NewCrossOriginProtection()
	origins.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		problem.Problem{Status: http.StatusForbidden, Code: problem.CrossOrigin, Detail: "Pages of other origins may not call this API."}.Write(w)
	}))
	return origins.Handler(s.guard(known, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if bad := checkAPIRequest(r); bad != nil {
			bad.Write(w)
			return
		}
		body, release, bad := bodies.Read(w, r)
		defer release()
		if bad == nil && !sameJSON(r, body) {
			bad = &problem.Problem{Status: http.StatusUnsupportedMediaType, Code: problem.UnsupportedType, Detail: "The body must be application/json."}
		}
		if bad != nil {
			bad.Write(w)
			return
		}
		r.Body = edge.NewPayload(body)
		r.Header.Del("Grpc-Timeout")
		r.Header.Del("Te")
		r.Header.Del("Authorization")    // it is not for the services
		if r.Method == http.MethodHead { // answered as GET; the server leaves the body out, which looks at the request as it came
			r = r.WithContext(r.Context())
			r.Method = http.MethodGet
		}
		mux.ServeHTTP(w, r)
	}))), nil
}

// checkAPIRequest refuses what no message can carry.
func checkAPIRequest(r *http.Request) *problem.Problem {
	bad := &problem.Problem{Status: http.StatusBadRequest, Code: problem.InvalidRequest, Detail: "Path and query must be UTF-8, escaped as RFC 3986 says."}
	if !utf8.ValidString(r.URL.Path) {
		return bad
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return bad
	}
	for key, values := range query {
		for _, v := range append(values, key) {
			if !utf8.ValidString(v) {
				return bad
			}
		}
	}
	return nil
}

// apiError turns a gRPC error into a problem. What a caller can do something about is told; the rest stays in the log.
func apiError(s *Service) runtime.ErrorHandlerFunc {
	return func(ctx context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
		st := status.Convert(err)
		p := problem.Problem{Status: runtime.HTTPStatusFromCode(st.Code()), Code: reasonOf(st), Detail: st.Message()}
		var forced *runtime.HTTPStatusError
		if errors.As(err, &forced) {
			p = problem.Problem{Status: forced.HTTPStatus, Code: problem.InvalidRequest, Detail: "The request cannot be read."}
		}
		switch {
		case p.Status == http.StatusServiceUnavailable:
			p.Code, p.RetryAfter = problem.Unavailable, spread(1)
			p.Detail = "A service of hookmesh does not answer now."
		case p.Status >= http.StatusInternalServerError:
			p.Detail = "Something went wrong here; the log says what."
		}
		if p.Status >= http.StatusInternalServerError {
			s.tel.Logger.ErrorContext(ctx, "a call of the API failed", "method", r.Method, "path", r.URL.Path, "error", err)
		}
		p.Write(w)
	}
}

// codeNames are the stable codes of gRPC's codes.
var codeNames = map[codes.Code]string{
	codes.InvalidArgument: "INVALID_ARGUMENT", codes.NotFound: problem.NotFound, codes.AlreadyExists: "ALREADY_EXISTS",
	codes.PermissionDenied: problem.PermissionDenied, codes.Unauthenticated: problem.Unauthenticated, codes.ResourceExhausted: "RESOURCE_EXHAUSTED",
	codes.FailedPrecondition: "FAILED_PRECONDITION", codes.Aborted: "ABORTED", codes.OutOfRange: "OUT_OF_RANGE",
	codes.Unimplemented: "UNIMPLEMENTED", codes.Unavailable: problem.Unavailable, codes.DeadlineExceeded: "DEADLINE_EXCEEDED", codes.Canceled: "CANCELED",
}

// reasonOf is the error's own code if the service gave one, else gRPC's.
func reasonOf(st *status.Status) string {
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetReason() != "" {
			return info.GetReason()
		}
	}
	if name, ok := codeNames[st.Code()]; ok {
		return name
	}
	return problem.Internal
}
