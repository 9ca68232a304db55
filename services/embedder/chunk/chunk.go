// Package chunk cuts Markdown into the pieces that are embedded and found. Pieces follow the headings, and where they are
// cut depends on the text around the cut alone, so that an edit changes the pieces near it and no others.
package chunk

import (
	"crypto/sha256"
	"hash/fnv"
	"strings"
	"unicode/utf8"
)

// Sizes in characters. English has about four characters per token, so a target of 800 is some 200 tokens.
const (
	// DefaultTarget is the size at which a piece is cut at the next block.
	DefaultTarget = 800
	// DefaultMax is the size that no piece exceeds.
	DefaultMax = 1600
)

// Options tune the sizes.
type Options struct {
	// Target in characters; 0: DefaultTarget.
	Target int
	// Max in characters; 0: twice the target.
	Max int
}

// Chunk is a piece of a document.
type Chunk struct {
	// Ordinal counts the pieces of the document from 0.
	Ordinal int
	// HeadingPath are the headings above, outermost first.
	HeadingPath []string
	// Text is the piece, as Markdown, without the headings above.
	Text string
	// Hash is over title, heading path and text: equal hashes have equal vectors.
	Hash [32]byte
}

// Embeddable is the text that is embedded: the piece under its headings, because a paragraph alone often does not say what it is about.
func (c Chunk) Embeddable(title string) string {
	return strings.Join(append(append([]string{title}, c.HeadingPath...), c.Text), "\n")
}

// Split cuts a document. A document with no text but a title is one piece, so that its title is found. It is deterministic
// and takes linear time.
func Split(title, markdown string, opts Options) []Chunk {
	if opts.Target <= 0 {
		opts.Target = DefaultTarget
	}
	if opts.Max < opts.Target {
		opts.Max = 2 * opts.Target
	}
	var chunks []Chunk
	add := func(path []string, text string) {
		c := Chunk{Ordinal: len(chunks), HeadingPath: path, Text: text}
		c.Hash = sha256.Sum256([]byte(title + "\x00" + strings.Join(path, "\x00") + "\x01" + text))
		chunks = append(chunks, c)
	}
	for _, s := range sections(markdown) {
		for _, text := range pack(s.blocks, opts) {
			add(s.path, text)
		}
		if len(s.blocks) == 0 && s.leaf {
			add(s.path[:len(s.path)-1], s.path[len(s.path)-1])
		}
	}
	if len(chunks) == 0 && strings.TrimSpace(title) != "" {
		add(nil, title)
	}
	return chunks
}

// pack joins the blocks of a section to pieces. A piece ends when it has reached the target, or earlier where the block
// itself says so: content-defined cuts do not move when something is inserted before them.
func pack(blocks []string, opts Options) []string {
	var out []string
	var b strings.Builder
	size := 0
	flush := func() {
		if size > 0 {
			out = append(out, b.String())
			b.Reset()
			size = 0
		}
	}
	for _, block := range blocks {
		for _, part := range splitBlock(block, opts.Max) {
			n := utf8.RuneCountInString(part)
			if size > 0 && size+n+2 > opts.Max {
				flush()
			}
			if size > 0 {
				b.WriteString("\n\n")
				size += 2
			}
			b.WriteString(part)
			size += n
			if size >= opts.Target || size >= opts.Target/2 && cutsHere(part) {
				flush()
			}
		}
	}
	flush()
	return out
}

func cutsHere(block string) bool {
	h := fnv.New32a()
	_, _ = h.Write([]byte(block))
	return h.Sum32()%2 == 0
}

// splitBlock cuts a block that is too large: at line ends, else at sentence ends, else at spaces, else anywhere.
func splitBlock(block string, limit int) []string {
	var out []string
	for utf8.RuneCountInString(block) > limit {
		at := cutPoint(block, limit)
		if part := strings.TrimSpace(block[:at]); part != "" {
			out = append(out, part)
		}
		block = strings.TrimSpace(block[at:])
	}
	if block != "" {
		out = append(out, block)
	}
	return out
}

// cutPoint is where to cut within the first limit characters, as a byte offset: in the second half if there is a good place.
func cutPoint(s string, limit int) int {
	end, n := len(s), 0
	for i := range s {
		if n == limit {
			end = i
			break
		}
		n++
	}
	head := s[:end]
	for _, sep := range []string{"\n", ". ", "! ", "? ", "。", "; ", " "} {
		if i := strings.LastIndex(head, sep); i >= len(head)/2 {
			return i + len(sep)
		}
	}
	return end
}
