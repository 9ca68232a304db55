// Package connector is the seam between the mesh and the places where people write: fetch one document, and list what changed.
// Every provider has a folder of its own below; package connectortest holds the suite that all of them pass.
package connector

import (
	"context"
	"strings"
	"time"
)

// Format says how content is to be read.
type Format string

// The formats.
const (
	FormatMarkdown          Format = "markdown"
	FormatHTML              Format = "html"
	FormatConfluenceStorage Format = "confluence-storage"
	FormatPlain             Format = "plain"
	FormatPDF               Format = "pdf"
	FormatDOCX              Format = "docx"
)

// FormatOf guesses a format from a content type.
func FormatOf(contentType string) Format {
	media, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	switch strings.TrimSpace(media) {
	case "text/html", "application/xhtml+xml":
		return FormatHTML
	case "text/plain":
		return FormatPlain
	case "application/pdf":
		return FormatPDF
	case "application/vnd.openxmlformats-officedocument.wordprocessingml.document":
		return FormatDOCX
	}
	return FormatMarkdown
}

// Connector is what can be asked of a source. A nil field means that its provider cannot do it. Everything in it is safe for
// concurrent use and keeps nothing that a restart may not lose: what must be remembered stands in cursors.
type Connector struct {
	Fetcher    Fetcher
	Lister     Lister
	Sweeper    Sweeper
	Subscriber Subscriber
}

// Ref names a document.
type Ref struct {
	// ID is the document's id, exactly as webhooks and lists spell it.
	ID string
	// URL is where a person reads it, if an event told; some providers find a document faster by it. It is a hint: what was
	// found must bear the ID.
	URL string
}

// Fetcher gets one document's current content.
type Fetcher interface {
	// Fetch returns ErrGone if the document is not there (any more) or is none of those that the source was set up for,
	// ErrUnauthorized if the credentials are refused, ErrTooLarge for what cannot be taken, an *ElsewhereError if another document
	// is meant, and an *Error else.
	Fetch(ctx context.Context, ref Ref) (Document, error)
}

// ElsewhereError says that what was asked for is part of another document, which has to be fetched instead. Webhooks sometimes name
// a document by another id than its own.
type ElsewhereError struct {
	// ID and URL are those of the document.
	ID, URL string
}

// Error implements error.
func (e *ElsewhereError) Error() string { return "it is document " + e.ID + " of the source" }

// Document is what a source answered.
type Document struct {
	Content []byte
	Format  Format
	Title   string
	// URL is where a person reads it; empty if unknown.
	URL string
	// Version is what the source says, in the words of its webhooks; empty if it does not.
	Version string
	// Parts belong to the document and follow its content: comments, replies, attachments.
	Parts []Part
}

// Part is a piece of a document with a format of its own.
type Part struct {
	// Title stands over the part; may be empty.
	Title   string
	Content []byte
	Format  Format
}

// Change is one entry of a list: the document is there, has changed, or is gone.
type Change struct {
	DocumentID string
	// Version is what the source says; empty if it does not.
	Version string
	// URL is where a person reads it; empty if unknown.
	URL string
	// Deleted: it is gone at the source.
	Deleted bool
	// UpdatedAt is when it changed by the source's clock; zero if unknown.
	UpdatedAt time.Time
	// Containers are what it lies in (space, folder, repository), each as the document id of the container's own webhooks, the
	// nearest first; empty if unknown.
	Containers []string
	// Sequence is the change's place in the document's order, on the scale of the source's webhooks; nil if unknown.
	Sequence *int64
}

// At sets the time of the change, and makes its microseconds the place in the order, as most presets do.
func (c Change) At(t time.Time) Change {
	micros := t.UnixMicro()
	c.UpdatedAt, c.Sequence = t, &micros
	return c
}

// Page is one answer.
type Page struct {
	Changes []Change
	// Next is the cursor to go on with, now or at the next poll; empty: the source gave none, keep the one that there is.
	Next string
	// More: there is more to read now.
	More bool
}

// Lister reads a source's changes.
type Lister interface {
	// List reads one page from a cursor on; empty: from the beginning, so that everything that exists is listed once at least.
	// Whoever stores the cursor of a page only after its changes are safe misses none, whenever it crashes; changes may come
	// twice. An *Error that wraps ErrCursor says that the cursor is not (any longer) understood: begin anew with the empty one.
	List(ctx context.Context, cursor string) (Page, error)
}

// Sweeper lists everything that exists, so that what is missing in it can be taken for deleted. Sources whose lists name
// deletions need none.
type Sweeper interface {
	// Sweep reads one page, as List does, but names all documents and no others. A walk that began with the empty cursor and
	// went on to a page without More is complete; what came into being during it may be missing from it, and where the source pages by
	// offsets also what was shifted by a deletion. So what is missing is a suspicion: Fetch says whether it is gone.
	Sweep(ctx context.Context, cursor string) (Page, error)
}

// Subscription is a source's promise to call us, which ends.
type Subscription struct {
	// ID is the source's name for it.
	ID string
	// Resource is what it watches, in the provider's words.
	Resource string
	// ExpiresAt is when it ends.
	ExpiresAt time.Time
	// State is what the provider needs besides to renew or delete it; opaque, and to be kept with the ID.
	State string
}

// Subscriber keeps a source calling us.
type Subscriber interface {
	// Resources lists what has to be watched, one subscription each.
	Resources(ctx context.Context) ([]string, error)
	// Subscribe makes a subscription that calls url and bears secret, for as long as the provider allows.
	Subscribe(ctx context.Context, resource, url, secret string) (Subscription, error)
	// Renew extends it. Providers that cannot extend make a new one and end the old; since nobody says for how long that still called us,
	// the source is polled. ErrGone: it is lost; subscribe anew.
	Renew(ctx context.Context, s Subscription, url, secret string) (Subscription, error)
	// Unsubscribe ends it; one that is gone already is no error.
	Unsubscribe(ctx context.Context, s Subscription) error
	// Subscriptions lists those that the source still knows. ok is false if the provider has no such list.
	Subscriptions(ctx context.Context) (list []Subscription, ok bool, err error)
}
