package folder

import (
	"path"
	"slices"
	"strings"
)

func parent(name string) string {
	if name == "." {
		return ""
	}
	return path.Dir(name)
}

// before says whether a walk comes to a earlier than to b: it goes through each directory in the order of its names.
func before(a, b string) bool {
	return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/")) < 0
}
