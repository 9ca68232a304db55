package chunk

import "strings"

// section is what stands under one heading, up to the next.
type section struct {
	path   []string
	blocks []string
	// leaf: a heading with nothing below it, whose words would otherwise be lost.
	leaf bool
}

// sections reads a document line by line. Headings inside code fences are code.
func sections(markdown string) []section {
	var out []section
	type heading struct {
		level int
		text  string
	}
	var path []heading
	cur := section{}
	var block []string
	fence := ""
	endBlock := func() {
		if text := strings.Trim(strings.Join(block, "\n"), "\n"); strings.TrimSpace(text) != "" {
			cur.blocks = append(cur.blocks, text)
		}
		block = block[:0]
	}
	begin := func(level int, text string) {
		endBlock()
		deeper := len(path) > 0 && level > path[len(path)-1].level
		cur.leaf = len(cur.blocks) == 0 && len(cur.path) > 0 && !deeper
		out = append(out, cur)
		for len(path) > 0 && path[len(path)-1].level >= level {
			path = path[:len(path)-1]
		}
		path = append(path, heading{level, text})
		cur = section{}
		for _, h := range path {
			cur.path = append(cur.path, h.text)
		}
	}
	for line := range strings.SplitSeq(markdown, "\n") {
		trimmed := strings.TrimSpace(line)
		switch {
		case fence != "":
			block = append(block, line)
			if strings.HasPrefix(trimmed, fence) && strings.Trim(trimmed, fence[:1]) == "" {
				fence = ""
				endBlock()
			}
		case strings.HasPrefix(trimmed, "```") || strings.HasPrefix(trimmed, "~~~"):
			endBlock()
			fence = trimmed[:len(trimmed)-len(strings.TrimLeft(trimmed, trimmed[:1]))]
			block = append(block, line)
		case trimmed == "":
			endBlock()
		default:
			if level, text := atx(line); level > 0 {
				begin(level, text)
			} else if level := setext(trimmed); level > 0 && len(block) == 1 {
				text := strings.TrimSpace(block[0])
				block = block[:0]
				begin(level, text)
			} else {
				block = append(block, line)
			}
		}
	}
	endBlock()
	cur.leaf = len(cur.blocks) == 0 && len(cur.path) > 0
	return append(out, cur)
}

// atx reads "## Heading ##"; level 0: the line is none. CommonMark 0.31 §4.2.
func atx(line string) (int, string) {
	s := strings.TrimLeft(line, " ")
	if len(line)-len(s) > 3 {
		return 0, ""
	}
	level := len(s) - len(strings.TrimLeft(s, "#"))
	if level == 0 || level > 6 || len(s) > level && s[level] != ' ' && s[level] != '\t' {
		return 0, ""
	}
	text := strings.TrimSpace(s[level:])
	if closing := strings.TrimRight(text, "#"); closing == "" || strings.HasSuffix(closing, " ") {
		text = strings.TrimSpace(closing)
	}
	if text == "" {
		return 0, ""
	}
	return level, text
}

// setext reads the underline of a heading; 0: the line is none. CommonMark 0.31 §4.3.
func setext(trimmed string) int {
	switch {
	case strings.Trim(trimmed, "=") == "":
		return 1
	case len(trimmed) >= 2 && strings.Trim(trimmed, "-") == "":
		return 2
	}
	return 0
}
