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

// Check looks at a configuration for what this package cannot judge (whether a preset exists, say). It reports each problem under
// the path of the value, for example sources[0].preset; messages must not hold secrets.
type Check func(cfg *Config, report func(path, message string))

// Load reads and validates a file. The error, if it is about the contents, is an *Error with all problems.
func Load(file string, checks ...Check) (Config, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return Config{}, fmt.Errorf("read config: %w", err)
	}
	return Parse(file, raw, os.LookupEnv, checks...)
}

// Parse reads and validates the contents of a file. getenv finds the variables that it names as ${NAME}.
func Parse(file string, raw []byte, getenv func(string) (string, bool), checks ...Check) (Config, error) {
	cfg := Default()
	var root yaml.Node
	if err := yaml.Unmarshal(raw, &root); err != nil {
		return Config{}, &Error{File: file, Problems: yamlProblems(err)}
	}
	r := reader{getenv: getenv, checker: checker{lines: map[string]int{}, bad: map[string]bool{}}}
	if len(root.Content) > 0 {
		top := root.Content[0]
		r.read(top, reflect.TypeFor[Config](), "")
		if err := top.Decode(&cfg); err != nil {
			r.problems = append(r.problems, yamlProblems(err)...)
		}
	}
	cfg.complete()
	r.validate(&cfg)
	for _, check := range checks {
		check(&cfg, func(path, message string) { r.report(path, "%s", message) })
	}
	if len(r.problems) > 0 {
		slices.SortStableFunc(r.problems, func(a, b Problem) int { return a.Line - b.Line })
		return Config{}, &Error{File: file, Problems: r.problems}
	}
	return cfg, nil
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)$`)

// yamlProblems takes an error of the YAML library apart: it can hold several, with their lines in the text.
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
