package connector

import (
	"errors"
	"time"
)

// Kinds of failures.
var (
	// ErrGone: the source says that the document does not exist, or it is none of those that the source was set up for.
	ErrGone = errors.New("the document is gone at its source")
	// ErrUnauthorized: the source refuses the credentials.
	ErrUnauthorized = errors.New("the source refuses the credentials")
	// ErrTooLarge: the answer is larger than what is taken.
	ErrTooLarge = errors.New("the answer is too large")
	// ErrCursor: the cursor is not understood, or the source has forgotten it.
	ErrCursor = errors.New("the cursor is of no use any more; the list begins anew")
)

// Error is a failure that is worth another try, or not.
type Error struct {
	// Permanent: the same request will fail again.
	Permanent bool
	// RetryAfter is how long the source asks to be left alone; 0: it did not say.
	RetryAfter time.Duration
	Err        error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Permanent makes an error that no other try will mend.
func Permanent(err error) error { return &Error{Permanent: true, Err: err} }

// RetryAfter is how long to leave the source alone after err at least; 0: it did not say.
func RetryAfter(err error) time.Duration {
	var e *Error
	if errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}

// BadCursor is the error of a cursor that is not understood.
func BadCursor() error { return Permanent(ErrCursor) }
