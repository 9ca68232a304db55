package lsm_test

import (
	"bufio"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hookmesh/hookmesh/services/internal/sqlite"
)

// powerLives is how often the process opens the table, each time for powerRounds.
const powerLives = 3

// A disk is what a power cut leaves of what a process did to the files in a folder: what was synced, and any part of the rest, down to single writes and names.
type disk struct {
	root    string
	now     int
	folders map[string]*folder
}

// folder has names on the disk, and later changes to them that may be there or not.
type folder struct {
	names   map[string]*content
	changes []change
}

type change struct {
	at   int
	name string
	to   *content // nil: the name is removed
}

// content is what a file, or a folder, is.
type content struct {
	folder bool
	data   []byte
	writes []write
}

type write struct {
	at   int
	from int
	data []byte
	cut  bool // the file ends at from
}

func (c *content) apply(w write) {
	if w.cut {
		c.data = append(c.data, make([]byte, max(0, w.from-len(c.data)))...)[:w.from]
		return
	}
	c.data = append(c.data, make([]byte, max(0, w.from+len(w.data)-len(c.data)))...)
	copy(c.data[w.from:], w.data)
}

// look finds what a path is while the power is on.
func (d *disk) look(path string) *content {
	f := d.folders[filepath.Dir(path)]
	if f == nil {
		return nil
	}
	found := f.names[filepath.Base(path)]
	for _, c := range f.changes {
		if c.name == filepath.Base(path) {
			found = c.to
		}
	}
	return found
}

func (d *disk) name(path string, to *content) {
	f := d.folders[filepath.Dir(path)]
	f.changes = append(f.changes, change{d.now, filepath.Base(path), to})
}

// sync brings what was done to a file or a folder before a moment to the disk.
func (d *disk) sync(path string, before int) {
	if f := d.folders[path]; f != nil {
		for len(f.changes) > 0 && f.changes[0].at < before {
			f.names[f.changes[0].name], f.changes = f.changes[0].to, f.changes[1:]
		}
	}
	if c := d.look(path); c != nil {
		for len(c.writes) > 0 && c.writes[0].at < before {
			c.apply(c.writes[0])
			c.writes = c.writes[1:]
		}
	}
}

// after makes a folder of what is there after a power cut. some says for each thing that was not synced whether it is there.
func (d *disk) after(t *testing.T, to string, some func() bool) {
	t.Helper()
	var fill func(from, to string)
	fill = func(from, to string) {
		if err := os.Mkdir(to, 0o700); err != nil {
			t.Fatal(err)
		}
		names := maps.Clone(d.folders[from].names)
		for _, c := range d.folders[from].changes {
			if some() {
				names[c.name] = c.to
			}
		}
		for name, c := range names {
			switch {
			case c == nil || strings.HasSuffix(name, "-shm"): // which is memory, in spite of its name
			case c.folder:
				fill(filepath.Join(from, name), filepath.Join(to, name))
			default:
				left := &content{data: slices.Clone(c.data)}
				for _, w := range c.writes {
					if some() {
						left.apply(w)
					}
				}
				if err := os.WriteFile(filepath.Join(to, name), left.data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	fill(d.root, to)
}

var (
	callShape = regexp.MustCompile(`^(\w+)\((.*)\) += (\d+)`)
	ofFile    = regexp.MustCompile(`^\d+<([^>]*)>`)
	quoted    = regexp.MustCompile(`"((?:[^"\\]|\\.)*)"`)
)

// unquote reads a string as strace writes it.
func unquote(s string) []byte {
	var out []byte
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			out = append(out, s[i])
			continue
		}
		i++
		if at := strings.IndexByte("nrtvf", s[i]); at >= 0 {
			out = append(out, "\n\r\t\v\f"[at])
			continue
		}
		n, digits := 0, 0
		for ; digits < 3 && i+digits < len(s) && s[i+digits] >= '0' && s[i+digits] <= '7'; digits++ {
			n = 8*n + int(s[i+digits]-'0')
		}
		if digits == 0 {
			out = append(out, s[i])
			continue
		}
		out, i = append(out, byte(n)), i+digits-1
	}
	return out
}

// do plays a call that has ended; began is when it began. told is what the process says with it.
func (d *disk) do(t *testing.T, call string, began int) (told string) {
	t.Helper()
	shape := callShape.FindStringSubmatch(call)
	if shape == nil {
		return "" // it failed
	}
	what, args := shape[1], shape[2]
	path, text := "", ""
	if m := ofFile.FindStringSubmatch(args); m != nil {
		path = m[1]
	}
	if m := quoted.FindStringSubmatch(args); m != nil {
		text = m[1]
	}
	last := func() int {
		n, err := strconv.Atoi(args[strings.LastIndex(args, ", ")+2:])
		if err != nil {
			t.Fatalf("%s: %v", call, err)
		}
		return n
	}
	change := func(c *content, w write) {
		if w.at = d.now; c != nil {
			c.writes = append(c.writes, w)
		}
	}
	inRoot := func(path string) bool { return strings.HasPrefix(path, d.root+"/") }
	switch {
	case what == "write" && strings.HasPrefix(path, "pipe:"):
		return string(unquote(text))
	case what == "fsync" || what == "fdatasync":
		d.sync(path, began)
	case what == "pwrite64":
		change(d.look(path), write{from: last(), data: unquote(text)})
	case what == "ftruncate":
		change(d.look(path), write{from: last(), cut: true})
	case strings.HasPrefix(what, "open") && inRoot(text) && strings.Contains(args, "O_CREAT") && d.look(text) == nil:
		d.name(text, &content{})
	case strings.HasPrefix(what, "mkdir") && inRoot(text):
		d.name(text, &content{folder: true})
		d.folders[text] = &folder{names: map[string]*content{}}
	case strings.HasPrefix(what, "unlink") && inRoot(text):
		d.name(text, nil)
	case (what == "write" || strings.HasPrefix(what, "rename")) && (inRoot(path) || inRoot(text)):
		t.Fatalf("this model of a disk does not know %.200s", call)
	}
	return ""
}

// The power fails between system calls of a process that writes, and of what was not synced anything may be lost: single writes, names of files. Whatever the
// process had told is there when the table is opened again, and all of each transaction or nothing of it.
func TestAPowerCutLosesNothing(t *testing.T) {
	if os.Getenv("HOOKMESH_TEST_POWER") == "" {
		t.Skip("needs strace: make test-power")
	}
	dir := t.TempDir()
	d := &disk{root: filepath.Join(dir, "disk"), folders: map[string]*folder{}}
	d.folders[d.root] = &folder{names: map[string]*content{}}
	if err := os.Mkdir(d.root, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "strace", "-f", "-qq", "-y", "-s", "10000000", "-o", filepath.Join(dir, "trace"), //nolint:gosec // this test
		"-e", "signal=none", "-e", "trace=open,openat,mkdir,mkdirat,write,pwrite64,ftruncate,fsync,fdatasync,unlink,unlinkat,rename,renameat,renameat2", os.Args[0])
	cmd.Env = append(os.Environ(), crashDir+"="+d.root, crashLives+"="+strconv.Itoa(powerLives))
	if out, err := cmd.Output(); err != nil || strings.Count(string(out), "round") != powerLives*powerRounds {
		t.Fatalf("%v: %s", err, out)
	}
	trace, err := os.Open(filepath.Join(dir, "trace"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = trace.Close() }()
	begun, since := map[string]string{}, map[string]int{}
	lines := bufio.NewScanner(trace)
	lines.Buffer(nil, 100<<20)
	rounds, cuts, all := 0, 0, 0
	for lines.Scan() {
		d.now++
		pid, call, _ := strings.Cut(lines.Text(), " ")
		call, began := strings.TrimSpace(call), d.now
		if half, ok := strings.CutSuffix(call, " <unfinished ...>"); ok {
			begun[pid], since[pid] = half, d.now
			continue
		}
		if strings.HasPrefix(call, "<... ") {
			_, rest, _ := strings.Cut(call, " resumed>")
			call, began = begun[pid]+rest, since[pid]
		}
		told := d.do(t, call, began)
		if _, err := fmt.Sscanf(told, "round %d", &rounds); err == nil {
			rounds++
		}
		if all++; rand.IntN(5) != 0 {
			continue
		}
		cuts++
		left := filepath.Join(dir, "left")
		chance := []float64{0, 0.5, 1, rand.Float64()}[cuts%4]
		d.after(t, left, func() bool { return rand.Float64() < chance })
		p, err := start(filepath.Join(left, "t.db"), small)
		if err != nil {
			t.Fatalf("after %d calls, the last of them %.100s, of which %.2f of what was not synced is there: %v", all, call, chance, err)
		}
		p.holds(t, rounds)
		p.named(t)
		p.close(t)
		if err := os.RemoveAll(left); err != nil {
			t.Fatal(err)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d cuts among %d calls of %d rounds", cuts, all, rounds)
	p := open(t, filepath.Join(d.root, "t.db"), small)
	defer p.close(t)
	p.holds(t, rounds)
	if runs, err := os.ReadDir(sqlite.FilesOf(p.db.Path())); err != nil || len(runs) == 0 {
		t.Errorf("no run was written: %v", err)
	}
}
