package extract

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/embedder/extract/docx"
	"github.com/hookmesh/hookmesh/services/embedder/extract/pdf"
)

// ErrUnreadable: the content is not what its format says, and never will be.
var ErrUnreadable = errors.New("the content cannot be read")

// Extractor reads whole documents. It holds the PDF reader, which costs nothing until the first PDF file. The zero value is ready;
// safe for concurrent use.
type Extractor struct{ pdf pdf.Reader }

// Close frees what the PDF reader holds.
func (x *Extractor) Close() error { return x.pdf.Close() }

// Document returns all that a document says: its content, then its parts, each under its title. What a part of it cannot be read
// as is in problems; the rest is there all the same.
func (x *Extractor) Document(ctx context.Context, doc connector.Document) (text string, problems []error, err error) {
	if text, err = x.markdown(ctx, doc.Format, doc.Content); err != nil {
		return "", nil, err
	}
	for _, p := range doc.Parts {
		part, err := x.markdown(ctx, p.Format, p.Content)
		if ctx.Err() != nil {
			return "", nil, ctx.Err()
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", p.Title, err))
		}
		if p.Title != "" {
			part = "## " + strings.Join(strings.Fields(clean([]byte(p.Title))), " ") + "\n\n" + part
		}
		text = strings.TrimRight(text, "\n") + "\n\n" + part
	}
	return text, problems, nil
}

func (x *Extractor) markdown(ctx context.Context, format Format, content []byte) (string, error) {
	switch format {
	case connector.FormatPDF:
		pages, err := x.pdf.Text(ctx, content)
		if errors.Is(err, pdf.ErrBroken) || errors.Is(err, pdf.ErrEncrypted) || errors.Is(err, pdf.ErrSlow) {
			return "", fmt.Errorf("%w: %w", ErrUnreadable, err)
		}
		if err != nil {
			return "", err
		}
		return clean([]byte(strings.TrimSpace(strings.Join(pages, "\n\n")))), nil
	case connector.FormatDOCX:
		text, err := docx.Markdown(content)
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrUnreadable, err)
		}
		return clean([]byte(text)), nil
	}
	text, err := Markdown(format, content)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return text, nil
}
