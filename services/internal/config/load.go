package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Problem is one thing that is wrong with a file.
type Problem struct {
	// Line is where, from 1; 0: not at one place.
	Line int
	// Message says what and what to do.
	Message string
}

func (p Problem) String() string {
	if p.Line == 0 {
		return p.Message
	}
	return fmt.Sprintf("line %d: %s", p.Line, p.Message)
}

// Error is everything that is wrong with a file.
type Error struct {
	File     string
	Problems []Problem
}

func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = "  " + p.String()
	}
	return fmt.Sprintf("%s has %d problem(s):\n%s", e.File, len(e.Problems), strings.Join(lines, "\n"))
}

// Load reads and validates a file. The error, if it is about the contents, is an *Error with all problems.
func Load(file string) (Config, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return Config{}, fmt.Errorf("read config: %w", err)
	}
	return Parse(file, raw, os.LookupEnv)
}

// Parse reads and validates the contents of a file. getenv finds the variables that it names as ${NAME}.
func Parse(file string, raw []byte, getenv func(string) (string, bool)) (Config, error) {
	cfg := Default()
	var root yaml.Node
	if err := yaml.Unmarshal(raw, &root); err != nil {
		return Config{}, &Error{File: file, Problems: yamlProblems(err)}
	}
	var problems []Problem
	lines := map[string]int{}
	if len(root.Content) > 0 {
		top := root.Content[0]
		problems = append(problems, expand(top, getenv)...)
		problems = append(problems, unknownKeys(top, reflect.TypeFor[Config](), "", lines)...)
		if err := top.Decode(&cfg); err != nil {
			problems = append(problems, yamlProblems(err)...)
		}
	}
	cfg.complete()
	if len(problems) == 0 {
		problems = validate(&cfg, lines)
	}
	if len(problems) > 0 {
		slices.SortStableFunc(problems, func(a, b Problem) int { return a.Line - b.Line })
		return Config{}, &Error{File: file, Problems: problems}
	}
	return cfg, nil
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)$`)

// yamlProblems takes a decoding error apart: the library reports several at once, with their lines in the text.
func yamlProblems(err error) []Problem {
	texts := []string{err.Error()}
	var te *yaml.TypeError
	if errors.As(err, &te) {
		texts = te.Errors
	}
	problems := make([]Problem, len(texts))
	for i, text := range texts {
		problems[i].Message = text
		if m := yamlLine.FindStringSubmatch(text); m != nil {
			_, _ = fmt.Sscan(m[1], &problems[i].Line)
			problems[i].Message = m[2]
		}
	}
	return problems
}

var variable = regexp.MustCompile(`\$(\$|\{[^}]*\})`)

// expand replaces ${NAME} in every value; $$ stands for one $. Names of keys are left alone.
func expand(n *yaml.Node, getenv func(string) (string, bool)) (problems []Problem) {
	if n.Kind == yaml.ScalarNode && strings.Contains(n.Value, "$") {
		before := n.Value
		n.Value = variable.ReplaceAllStringFunc(n.Value, func(m string) string {
			if m == "$$" {
				return "$"
			}
			name := m[2 : len(m)-1]
			value, ok := getenv(name)
			if !ok {
				problems = append(problems, Problem{n.Line, fmt.Sprintf("the environment variable %s is not set", name)})
			}
			return value
		})
		if n.Value != before && n.Style == 0 {
			n.Tag = "" // what was put in decides the type: a port may come from a variable
		}
	}
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			continue
		}
		problems = append(problems, expand(child, getenv)...)
	}
	return problems
}

// unknownKeys compares a node with the type that it is decoded into, and notes every value's line on the way.
func unknownKeys(n *yaml.Node, t reflect.Type, path string, lines map[string]int) (problems []Problem) {
	lines[path] = n.Line
	switch {
	case n.Kind == yaml.SequenceNode && t.Kind() == reflect.Slice:
		for i, child := range n.Content {
			problems = append(problems, unknownKeys(child, t.Elem(), fmt.Sprintf("%s[%d]", path, i), lines)...)
		}
	case n.Kind == yaml.MappingNode && t.Kind() == reflect.Struct:
		fields := map[string]reflect.Type{}
		for i := range t.NumField() {
			fields[t.Field(i).Tag.Get("yaml")] = t.Field(i).Type
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			ft, ok := fields[key.Value]
			if !ok {
				problems = append(problems, Problem{key.Line, fmt.Sprintf("unknown key %q; known are %s", key.Value, strings.Join(sortedKeys(fields), ", "))})
				continue
			}
			problems = append(problems, unknownKeys(n.Content[i+1], ft, strings.TrimPrefix(path+"."+key.Value, "."), lines)...)
		}
	}
	return problems
}

func sortedKeys(m map[string]reflect.Type) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
