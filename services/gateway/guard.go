package gateway

import (
	"errors"
	"net/http"
	"regexp"
	"strconv"

	"github.com/hookmesh/hookmesh/services/gateway/edge"
	"github.com/hookmesh/hookmesh/services/gateway/problem"
	"github.com/hookmesh/hookmesh/services/internal/access"
)

// operated are changes under /v1/sources that work with a source and leave its settings alone.
var operated = regexp.MustCompile(`^/v1/sources/[^/:]+:(poll|sweep|backfill)$`)

// administered are the paths of sources' settings and secrets.
var administered = regexp.MustCompile(`^/v1/sources(/|:|$)`)

// needOf is the scope that a request of the API needs. One with a method that its path does not have does nothing, and who may read hears so.
func needOf(r *http.Request, known *routes) access.Scope {
	switch {
	case r.Method == http.MethodGet || r.Method == http.MethodHead || !known.have(r, r.Method):
		return access.Read
	case administered.MatchString(r.URL.Path) && !operated.MatchString(r.URL.Path):
		return access.IngestAdmin
	}
	return access.Operate
}

// guard lets only those use the API who may, and writes changes into the audit log. CORS stays closed: no answer allows a page of
// another origin to read it.
func (s *Service) guard(known *routes, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secluded(w, r)
		need := needOf(r, known)
		p, err := s.deps.Access.Authorize(r.Context(), access.Credential(r.Header.Values("Authorization")), need)
		if err != nil {
			s.tel.Logger.WarnContext(r.Context(), "a call of the API was refused", "method", r.Method, "path", r.URL.Path, "principal", p.Name, "needs", need, "remote", r.RemoteAddr, "error", err)
			answer := refusedCall(err, need)
			if need != access.Read && errors.Is(err, access.ErrDenied) {
				access.Audit(r.Context(), s.tel.Logger, p, r.Method+" "+r.URL.Path, strconv.Itoa(answer.Status), "remote", r.RemoteAddr)
			}
			answer.Write(w)
			return
		}
		if need == access.Read {
			next.ServeHTTP(w, r)
			return
		}
		rec := &edge.Recorder{ResponseWriter: w}
		next.ServeHTTP(rec, r)
		access.Audit(r.Context(), s.tel.Logger, p, r.Method+" "+r.URL.Path, strconv.Itoa(rec.Status), "remote", r.RemoteAddr)
	})
}

// secluded sets the headers that answers to people carry beyond those of every answer.
func secluded(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if r.TLS != nil {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

// refusedCall is what a caller hears who may not do something.
func refusedCall(err error, need access.Scope) problem.Problem {
	switch {
	case errors.Is(err, access.ErrDenied):
		return problem.Problem{Status: http.StatusForbidden, Code: problem.PermissionDenied, Detail: "This needs the scope " + string(need) + "."}
	case errors.Is(err, access.ErrUnavailable):
		return problem.Problem{Status: http.StatusServiceUnavailable, Code: problem.Unavailable, Detail: "The token cannot be checked now: its issuer does not answer.", RetryAfter: spread(1)}
	}
	return problem.Problem{Status: http.StatusUnauthorized, Code: problem.Unauthenticated, Detail: "Send an API key or a token as `Authorization: Bearer …`.", Challenge: "Bearer"}
}
