package slack

import (
	"regexp"
	"strings"
)

// title is the beginning of a thread's first message.
func title(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(markdown(text)), "\n")
	if r := []rune(line); len(r) > 80 {
		return string(r[:79]) + "…"
	}
	return line
}

// markdown is all that a message says.
func (m message) markdown() string {
	out := []string{markdown(m.Text)}
	for _, a := range m.Attachments {
		text := a.Title + "\n" + a.Text
		if strings.TrimSpace(text) == "" {
			text = a.Fallback
		}
		out = append(out, markdown(text))
	}
	for _, f := range m.Files {
		out = append(out, "File: "+strings.TrimSpace(f.Title+" "+f.Name))
	}
	return strings.Join(out, "\n\n")
}

// reference is <https://x|label>, <@U1>, <#C1|name>, <!here>: https://docs.slack.dev/messaging/formatting-message-text
var reference = regexp.MustCompile(`<([^<>|]+)(?:\|([^<>]*))?>`)

var entities = strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&")

func markdown(text string) string {
	text = reference.ReplaceAllStringFunc(text, func(s string) string {
		m := reference.FindStringSubmatch(s)
		target, label := m[1], m[2]
		switch {
		case strings.HasPrefix(target, "@"), strings.HasPrefix(target, "!"):
			if label != "" {
				return label
			}
			return "@" + target[1:]
		case strings.HasPrefix(target, "#"):
			if label != "" {
				return "#" + label
			}
			return target
		case label != "":
			return "[" + label + "](" + target + ")"
		}
		return target
	})
	return entities.Replace(text)
}
