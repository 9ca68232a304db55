package static

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// maxWord is the longest word that is looked up, in characters, as in the original tokenizer.
const maxWord = 100

// tokenize is BERT's uncased tokenizer: clean, split Chinese characters, lower-case, strip accents, split at spaces and
// punctuation, then the longest word pieces from the left. A word that cannot be pieced together is unknown as a whole.
func (m *Model) tokenize(text string) []int32 {
	ids := make([]int32, 0, len(text)/4+1)
	for _, word := range words(text) {
		ids = m.pieces(ids, word)
	}
	return ids
}

// words splits a text.
func words(text string) []string {
	var out []string
	var b strings.Builder
	flush := func() {
		if b.Len() > 0 {
			out = append(out, b.String())
			b.Reset()
		}
	}
	ascii := isASCII(text)
	if !ascii {
		text = norm.NFD.String(lowerRunes(text))
	}
	for _, r := range text {
		switch {
		case r == 0 || r == unicode.ReplacementChar:
		case r == '\t' || r == '\n' || r == '\r' || unicode.IsSpace(r):
			flush()
		case unicode.Is(unicode.Mn, r):
		case unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Co):
		case punctuation(r) || chinese(r):
			flush()
			out = append(out, string(r))
		default:
			if ascii && 'A' <= r && r <= 'Z' {
				r += 'a' - 'A'
			}
			b.WriteRune(r)
		}
	}
	flush()
	return out
}

func lowerRunes(s string) string { return strings.ToLower(s) }

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// punctuation is what BERT splits at: Unicode's punctuation and all ASCII signs.
func punctuation(r rune) bool {
	if r < 0x80 {
		return r >= 33 && r <= 47 || r >= 58 && r <= 64 || r >= 91 && r <= 96 || r >= 123 && r <= 126
	}
	return unicode.IsPunct(r)
}

// chinese is what BERT puts spaces around: the CJK ideograph blocks.
func chinese(r rune) bool {
	return r >= 0x4E00 && r <= 0x9FFF || r >= 0x3400 && r <= 0x4DBF || r >= 0x20000 && r <= 0x2A6DF || r >= 0x2A700 && r <= 0x2B73F ||
		r >= 0x2B740 && r <= 0x2B81F || r >= 0x2B820 && r <= 0x2CEAF || r >= 0xF900 && r <= 0xFAFF || r >= 0x2F800 && r <= 0x2FA1F
}

// pieces appends the ids of a word's pieces; nothing if it cannot be pieced together.
func (m *Model) pieces(ids []int32, word string) []int32 {
	if id, ok := m.vocab[word]; ok {
		return append(ids, id)
	}
	if len([]rune(word)) > maxWord {
		return ids
	}
	start, first := len(ids), true
	buf := make([]byte, 0, len(word)+2)
	for len(word) > 0 {
		end, found := len(word), false
		for ; end > 0; end-- {
			if end < len(word) && word[end]&0xC0 == 0x80 {
				continue // inside a character
			}
			buf = buf[:0]
			if !first {
				buf = append(buf, "##"...)
			}
			buf = append(buf, word[:end]...)
			if id, ok := m.vocab[string(buf)]; ok {
				ids, found = append(ids, id), true
				break
			}
		}
		if !found {
			return ids[:start]
		}
		word, first = word[end:], false
	}
	return ids
}
