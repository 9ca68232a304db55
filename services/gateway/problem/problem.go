// Package problem writes errors as RFC 9457 says: application/problem+json with a stable code for machines.
package problem

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// ContentType of every problem.
const ContentType = "application/problem+json"

// The codes of the edge. They never change their meaning; docs/api.md lists them.
const (
	NotFound              = "NOT_FOUND"
	UnknownSource         = "UNKNOWN_SOURCE"
	MethodNotAllowed      = "METHOD_NOT_ALLOWED"
	BodyTooLarge          = "BODY_TOO_LARGE"
	BodyIncomplete        = "BODY_INCOMPLETE"
	BodyTooSlow           = "BODY_TOO_SLOW"
	BodyNotGzip           = "BODY_NOT_GZIP"
	UnsupportedEncoding   = "UNSUPPORTED_CONTENT_ENCODING"
	UnsupportedType       = "UNSUPPORTED_CONTENT_TYPE"
	HeadersTooLarge       = "HEADERS_TOO_LARGE"
	InvalidRequest        = "INVALID_REQUEST"
	CrossOrigin           = "CROSS_ORIGIN"
	NotAuthentic          = "NOT_AUTHENTIC"
	AddressNotAllowed     = "ADDRESS_NOT_ALLOWED"
	CertificateNotAllowed = "CERTIFICATE_NOT_ALLOWED"
	RateLimited           = "RATE_LIMITED"
	Overloaded            = "OVERLOADED"
	VerifierUnavailable   = "VERIFIER_UNAVAILABLE"
	StorageUnavailable    = "STORAGE_UNAVAILABLE"
	Unavailable           = "UNAVAILABLE"
	Internal              = "INTERNAL"
	Unauthenticated       = "UNAUTHENTICATED"
	PermissionDenied      = "PERMISSION_DENIED"
)

// Problem is one error as the caller sees it.
type Problem struct {
	// Status is the HTTP status.
	Status int
	// Code is stable and in SCREAMING_SNAKE_CASE.
	Code string
	// Detail is a sentence for a person; it holds nothing that only an operator may know.
	Detail string
	// RetryAfter is when to try again, in seconds; 0: not said.
	RetryAfter int
	// Challenge is the scheme to authenticate with (RFC 9110, 11.6.1); empty: not said.
	Challenge string
	// RequestID names the request in the log; empty: not said.
	RequestID string
}

// JSON is the body.
func (p Problem) JSON() []byte {
	b, err := json.Marshal(struct {
		Type      string `json:"type"`
		Title     string `json:"title"`
		Status    int    `json:"status"`
		Code      string `json:"code"`
		Detail    string `json:"detail,omitempty"`
		RequestID string `json:"requestId,omitempty"`
	}{"about:blank", http.StatusText(p.Status), p.Status, p.Code, p.Detail, p.RequestID})
	if err != nil {
		return []byte(`{"code":"` + Internal + `"}`) // not reached: strings and a number always marshal
	}
	return b
}

// RequestIDHeader names a request in the answer's headers, where Write finds it.
const RequestIDHeader = "X-Request-Id"

// Write answers with the problem.
func (p Problem) Write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", ContentType)
	if p.RequestID == "" {
		p.RequestID = w.Header().Get(RequestIDHeader)
	}
	if p.Challenge != "" {
		w.Header().Set("WWW-Authenticate", p.Challenge)
	}
	if p.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(p.JSON()) // the client is gone if this fails
}
