package github_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/server"
	"github.com/go-git/go-git/v5/storage/memory"

	"github.com/hookmesh/hookmesh/services/connector/connectortest"
)

const repo = "acme/docs"

// thread is an issue, pull request or discussion.
type thread struct {
	id, number  int
	title, body string
	updated     time.Time
	pull, gone  bool
	comments    []string
}

// sim is GitHub as far as one repository goes. A page holds three entries, whatever is asked for.
type sim struct {
	api *connectortest.API

	mu      sync.Mutex
	commits []map[string]string
	threads map[string][]*thread // by kind
	wiki    map[string]string
	git     *memory.Storage
}

func newSim(t testing.TB) *sim {
	s := &sim{commits: []map[string]string{{}}, threads: map[string][]*thread{}, wiki: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /repos/acme/docs", func(w http.ResponseWriter, _ *http.Request) {
		connectortest.Answer(w, 200, map[string]any{"full_name": repo, "default_branch": "main"})
	})
	mux.HandleFunc("GET /repos/acme/docs/commits/main", s.head)
	mux.HandleFunc("GET /repos/acme/docs/git/trees/{sha}", s.tree)
	mux.HandleFunc("GET /repos/acme/docs/compare/{range}", s.compare)
	mux.HandleFunc("GET /repos/acme/docs/contents/{path...}", s.contents)
	mux.HandleFunc("GET /repos/acme/docs/git/blobs/{sha}", s.blob)
	for _, kind := range []string{"issues", "pulls", "releases"} {
		mux.HandleFunc("GET /repos/acme/docs/"+kind, func(w http.ResponseWriter, r *http.Request) { s.list(w, r, kind) })
		mux.HandleFunc("GET /repos/acme/docs/"+kind+"/{number}", func(w http.ResponseWriter, r *http.Request) { s.get(w, r, kind) })
	}
	mux.HandleFunc("GET /repos/acme/docs/issues/{number}/comments", s.comments)
	mux.HandleFunc("POST /graphql", s.graphql)
	mux.HandleFunc("GET /acme/docs.wiki.git/info/refs", s.refs)
	mux.HandleFunc("POST /acme/docs.wiki.git/git-upload-pack", s.pack)
	s.api = connectortest.NewAPI(t, func(r *http.Request) bool {
		_, password, _ := r.BasicAuth()
		return connectortest.Bearer(r) || strings.Contains(r.URL.Path, ".wiki.git") && password == connectortest.Secret
	}, mux)
	return s
}

func sum(text string) string {
	h := sha1.Sum([]byte(text))
	return hex.EncodeToString(h[:])
}

func sha(commit int) string { return fmt.Sprintf("%040x", commit) }

// commit makes a commit that puts a file, or removes it.
func (s *sim) commit(path string, text *string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tree := maps.Clone(s.commits[len(s.commits)-1])
	if delete(tree, path); text != nil {
		tree[path] = *text
	}
	s.commits = append(s.commits, tree)
}

func (s *sim) head(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	connectortest.Answer(w, 200, map[string]any{"sha": sha(len(s.commits) - 1)})
}

func (s *sim) at(ref string) map[string]string {
	n, err := strconv.ParseInt(ref, 16, 64)
	if err != nil || int(n) >= len(s.commits) {
		return nil
	}
	return s.commits[n]
}

func (s *sim) tree(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var entries []map[string]any
	files := s.at(r.PathValue("sha"))
	for _, p := range slices.Sorted(maps.Keys(files)) {
		entries = append(entries, map[string]any{"path": p, "type": "blob", "sha": sum(files[p])})
	}
	entries = append(entries, map[string]any{"path": "dir", "type": "tree", "sha": sum("")})
	connectortest.Answer(w, 200, map[string]any{"tree": entries, "truncated": false})
}

func (s *sim) compare(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from, to, _ := strings.Cut(r.PathValue("range"), "...")
	a, b := s.at(from), s.at(to)
	if a == nil || b == nil {
		connectortest.NotFound(w)
		return
	}
	files := []map[string]any{}
	for p, text := range b {
		if old, ok := a[p]; !ok || old != text {
			files = append(files, map[string]any{"filename": p, "sha": sum(text), "status": map[bool]string{true: "modified", false: "added"}[ok]})
		}
	}
	for p := range a {
		if _, ok := b[p]; !ok {
			files = append(files, map[string]any{"filename": p, "status": "removed"})
		}
	}
	connectortest.Answer(w, 200, map[string]any{"status": "ahead", "files": files})
}

func (s *sim) contents(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := r.PathValue("path")
	text, ok := s.commits[len(s.commits)-1][path]
	if !ok {
		connectortest.NotFound(w)
		return
	}
	file := map[string]any{"type": "file", "sha": sum(text), "size": len(text), "encoding": "base64", "content": base64.StdEncoding.EncodeToString([]byte(text)), "html_url": "https://github.com/acme/docs/blob/main/" + path}
	if len(text) > 1<<20 {
		file["encoding"], file["content"] = "none", ""
	}
	connectortest.Answer(w, 200, file)
}

func (s *sim) blob(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, text := range s.commits[len(s.commits)-1] {
		if sum(text) == r.PathValue("sha") {
			_, _ = w.Write([]byte(text))
			return
		}
	}
	connectortest.NotFound(w)
}

// add makes a thread of a kind.
func (s *sim) add(kind, title, body string) *thread {
	at := s.api.Tick()
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, l := range s.threads {
		n += len(l)
	}
	t := &thread{id: 9_000_000_000 + n, number: n + 1, title: title, body: body, updated: at, pull: kind == "pulls"}
	s.threads[kind] = append(s.threads[kind], t)
	return t
}

func (s *sim) edit(id string, change func(*thread)) {
	at := s.api.Tick()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.threads {
		for _, t := range l {
			if strconv.Itoa(t.id) == id {
				change(t)
				t.updated = at
			}
		}
	}
}

func (s *sim) json(kind string, t *thread) map[string]any {
	path := map[string]string{"issues": "issues", "pulls": "pull", "discussions": "discussions"}[kind]
	m := map[string]any{"id": t.id, "number": t.number, "title": t.title, "body": t.body, "updated_at": t.updated, "comments": len(t.comments), "html_url": fmt.Sprintf("https://github.com/acme/docs/%s/%d", path, t.number)}
	if kind == "issues" && t.pull {
		m["id"], m["pull_request"] = t.id+500, map[string]any{}
	}
	return m
}

func (s *sim) list(w http.ResponseWriter, r *http.Request, kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if kind == "releases" {
		connectortest.Answer(w, 200, []map[string]any{{"id": 77, "name": "v1", "body": "notes of v1", "html_url": "https://github.com/acme/docs/releases/tag/v1", "published_at": s.api.Now()}})
		return
	}
	since, _ := time.Parse(time.RFC3339, r.FormValue("since"))
	var all []*thread
	for k, l := range s.threads {
		for _, t := range l {
			if (k == kind || kind == "issues" && k == "pulls") && !t.gone && !t.updated.Before(since) {
				all = append(all, t)
			}
		}
	}
	slices.SortFunc(all, func(a, b *thread) int { return a.updated.Compare(b.updated) })
	if r.FormValue("direction") != "asc" {
		slices.Reverse(all)
	}
	page, _ := strconv.Atoi(r.FormValue("page"))
	from := min(3*page, len(all))
	to := min(from+3, len(all))
	if to < len(all) {
		q := r.URL.Query()
		q.Set("page", strconv.Itoa(page+1))
		w.Header().Set("Link", fmt.Sprintf(`<%s%s?%s>; rel="next", <https://x/>; rel="last"`, s.api.URL, r.URL.Path, q.Encode()))
	}
	out := []map[string]any{}
	for _, t := range all[from:to] {
		out = append(out, s.json(kind, t))
	}
	connectortest.Answer(w, 200, out)
}

func (s *sim) find(kind, number string) *thread {
	for k, l := range s.threads {
		for _, t := range l {
			if (k == kind || kind == "issues" && k == "pulls") && strconv.Itoa(t.number) == number && !t.gone {
				return t
			}
		}
	}
	return nil
}

func (s *sim) get(w http.ResponseWriter, r *http.Request, kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if kind == "releases" && r.PathValue("number") == "77" {
		connectortest.Answer(w, 200, map[string]any{"id": 77, "name": "v1", "body": "notes of v1"})
		return
	}
	if t := s.find(kind, r.PathValue("number")); t != nil {
		connectortest.Answer(w, 200, s.json(kind, t))
		return
	}
	connectortest.NotFound(w)
}

func (s *sim) comments(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []map[string]any{}
	if t := s.find("issues", r.PathValue("number")); t != nil {
		page, _ := strconv.Atoi(r.FormValue("page"))
		if page+1 < len(t.comments) {
			w.Header().Set("Link", fmt.Sprintf(`<%s%s?page=%d>; rel="next"`, s.api.URL, r.URL.Path, page+1))
		}
		for _, c := range t.comments[page : page+1] {
			out = append(out, map[string]any{"body": c, "user": map[string]any{"login": "ann"}})
		}
	}
	connectortest.Answer(w, 200, out)
}

func (s *sim) graphql(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Query     string
		Variables struct {
			Owner, Name, After string
			Number             int
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil || q.Variables.Owner+"/"+q.Variables.Name != repo {
		connectortest.Answer(w, 200, map[string]any{"data": map[string]any{"repository": nil}, "errors": []map[string]any{{"type": "NOT_FOUND", "message": "Could not resolve to a Repository"}}})
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	node := func(t *thread) map[string]any {
		comments := []map[string]any{}
		for _, c := range t.comments {
			comments = append(comments, map[string]any{"author": nil, "body": c, "replies": map[string]any{"nodes": []map[string]any{{"author": map[string]any{"login": "bob"}, "body": "reply to " + c}}}})
		}
		return map[string]any{"databaseId": t.id, "title": t.title, "body": t.body, "updatedAt": t.updated, "url": fmt.Sprintf("https://github.com/acme/docs/discussions/%d", t.number),
			"comments": map[string]any{"nodes": comments, "pageInfo": map[string]any{"hasNextPage": false}}}
	}
	if strings.Contains(q.Query, "discussion(number") {
		var d any
		if t := s.find("discussions", strconv.Itoa(q.Variables.Number)); t != nil {
			d = node(t)
		}
		connectortest.Answer(w, 200, map[string]any{"data": map[string]any{"repository": map[string]any{"discussion": d}}})
		return
	}
	var all []*thread
	for _, t := range s.threads["discussions"] {
		if !t.gone {
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(a, b *thread) int { return b.updated.Compare(a.updated) })
	from, _ := strconv.Atoi(q.Variables.After)
	to := min(from+3, len(all))
	var nodes []map[string]any
	for _, t := range all[from:to] {
		nodes = append(nodes, node(t))
	}
	connectortest.Answer(w, 200, map[string]any{"data": map[string]any{"repository": map[string]any{"discussions": map[string]any{
		"nodes": nodes, "pageInfo": map[string]any{"endCursor": strconv.Itoa(to), "hasNextPage": to < len(all)}}}}})
}

// write makes the wiki's repository anew, with one commit that holds the pages.
func (s *sim) write(t testing.TB, change func(map[string]string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s.wiki)
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.git = memory.NewStorage()
	_, err := git.Init(s.git, nil)
	must(err)
	tree := &object.Tree{}
	put := func(o interface {
		Encode(plumbing.EncodedObject) error
	}) plumbing.Hash {
		e := s.git.NewEncodedObject()
		must(o.Encode(e))
		h, err := s.git.SetEncodedObject(e)
		must(err)
		return h
	}
	for _, name := range slices.Sorted(maps.Keys(s.wiki)) {
		e := s.git.NewEncodedObject()
		e.SetType(plumbing.BlobObject)
		w, err := e.Writer()
		must(err)
		_, err = w.Write([]byte(s.wiki[name]))
		must(err)
		must(w.Close())
		h, err := s.git.SetEncodedObject(e)
		must(err)
		tree.Entries = append(tree.Entries, object.TreeEntry{Name: name, Mode: filemode.Regular, Hash: h})
	}
	head := put(&object.Commit{TreeHash: put(tree), Author: object.Signature{When: s.api.Now()}, Committer: object.Signature{When: s.api.Now()}, Message: "pages"})
	must(s.git.SetReference(plumbing.NewHashReference("refs/heads/master", head)))
	must(s.git.SetReference(plumbing.NewSymbolicReference(plumbing.HEAD, "refs/heads/master")))
}

func (s *sim) session() transport.UploadPackSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.git == nil {
		return nil
	}
	ep, _ := transport.NewEndpoint("https://x/wiki.git")
	session, err := server.NewServer(server.MapLoader{ep.String(): s.git}).NewUploadPackSession(ep, nil)
	if err != nil {
		return nil
	}
	return session
}

func (s *sim) refs(w http.ResponseWriter, r *http.Request) {
	session := s.session()
	if session == nil {
		connectortest.NotFound(w)
		return
	}
	refs, err := session.AdvertisedReferencesContext(r.Context())
	if err != nil {
		http.Error(w, err.Error(), 500)
		return
	}
	refs.Prefix = [][]byte{[]byte("# service=git-upload-pack"), {}}
	w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
	_ = refs.Encode(w)
}

func (s *sim) pack(w http.ResponseWriter, r *http.Request) {
	req := packp.NewUploadPackRequest()
	if err := req.Decode(r.Body); err != nil {
		http.Error(w, err.Error(), 400)
		return
	}
	res, err := s.session().UploadPack(r.Context(), req)
	if err != nil {
		http.Error(w, err.Error(), 500)
		return
	}
	var out bytes.Buffer
	_ = res.Encode(&out)
	w.Header().Set("Content-Type", "application/x-git-upload-pack-result")
	_, _ = w.Write(out.Bytes())
}
