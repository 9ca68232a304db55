// Package embedding is the seam to embedding models: text in, vectors out.
package embedding

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Model turns texts into vectors. Safe for concurrent use.
type Model interface {
	// Embed returns one vector per text, in their order, each of Info().Dimensions numbers and of length 1 (or all zero, if
	// nothing in the text is known to the model). The error is an *Error where the model can tell whether trying again helps.
	Embed(ctx context.Context, texts []string) ([][]float32, error)
	// Info describes the model.
	Info() Info
}

// Info describes a model.
type Info struct {
	// Name for people.
	Name string
	// Dimensions of the vectors; 0: known after the first answer.
	Dimensions int
	// Fingerprint changes whenever vectors are no longer comparable with those made before.
	Fingerprint string
	// Languages for people.
	Languages string
}

// Error is a failure of a model.
type Error struct {
	// Permanent: the same texts will fail again.
	Permanent bool
	// Unauthorized: the credential was refused; no text will pass until it is changed.
	Unauthorized bool
	// RetryAfter is how long the model asks to be left alone; 0: it did not say.
	RetryAfter time.Duration
	Err        error
}

func (e *Error) Error() string { return fmt.Sprintf("embedding model: %v", e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// AsError finds an *Error in a chain.
func AsError(err error) (*Error, bool) {
	var e *Error
	ok := errors.As(err, &e)
	return e, ok
}
