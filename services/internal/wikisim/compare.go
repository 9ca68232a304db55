package wikisim

import (
	"fmt"
	"slices"
	"strconv"
)

// KnownPage is what the knowledge base has of a page.
type KnownPage struct {
	ID, Title, Version string
	// Searchable is false if it was removed.
	Searchable bool
	// State is the state in words, for the report.
	State string
}

// Compare says page by page where a knowledge base differs from the wiki, both ways.
func Compare(wiki map[string]Page, known map[string]KnownPage) []string {
	var out []string
	for id, p := range wiki {
		k, ok := known[id]
		switch {
		case p.deleted && k.Searchable:
			out = append(out, fmt.Sprintf("%s: deleted in the wiki, searchable as version %s", id, k.Version))
		case p.deleted:
		case !ok:
			out = append(out, fmt.Sprintf("%s: version %d in the wiki, unknown to the knowledge base", id, p.Version))
		case !k.Searchable:
			out = append(out, fmt.Sprintf("%s: version %d in the wiki, %s in the knowledge base", id, p.Version, k.State))
		case k.Version != strconv.FormatInt(p.Version, 10) || k.Title != p.Title:
			out = append(out, fmt.Sprintf("%s: version %d %q in the wiki, version %s %q in the knowledge base", id, p.Version, p.Title, k.Version, k.Title))
		}
	}
	for id, k := range known {
		if _, ok := wiki[id]; !ok && k.Searchable {
			out = append(out, fmt.Sprintf("%s: not in the wiki, searchable in the knowledge base", id))
		}
	}
	slices.Sort(out)
	return out
}
