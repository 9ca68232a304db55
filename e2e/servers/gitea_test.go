//go:build servers

package servers

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// repository is one of a real Gitea.
type repository struct {
	server
	name, api string
	branches  int
	// numbers are those of issues, by their ids.
	numbers map[string]int
}

func newRepository(t *testing.T) *repository {
	token := setting(t, "HOOKMESH_TEST_GITEA_TOKEN")
	r := &repository{server: server{t, setting(t, "HOOKMESH_TEST_GITEA"), func(req *http.Request) { req.Header.Set("Authorization", "token "+token) }}, numbers: map[string]int{}}
	var made struct {
		FullName string `json:"full_name"`
	}
	r.call("POST", "/api/v1/user/repos", map[string]any{"name": fmt.Sprint("e2e-", time.Now().UnixNano()), "auto_init": true, "default_branch": "main"}, &made)
	r.name, r.api = made.FullName, "/api/v1/repos/"+made.FullName
	return r
}

// commit writes or deletes a file.
func (r *repository) commit(method, path, text, branch string) {
	body := map[string]any{"content": base64.StdEncoding.EncodeToString([]byte(text)), "message": method + " " + path}
	if branch != "" {
		body["new_branch"] = branch
	}
	if method != "POST" {
		var old struct{ SHA string }
		r.call("GET", r.api+"/contents/"+path, nil, &old)
		body["sha"] = old.SHA
	}
	r.call(method, r.api+"/contents/"+path, body, nil)
}

func (r *repository) files() kind {
	path := func(id string) string { return strings.TrimPrefix(id, r.name+"/") }
	n := 0
	return kind{name: "file",
		create: func(title, text string) string {
			n++
			at := fmt.Sprintf("docs/page-%d.md", n)
			r.commit("POST", at, "# "+title+"\n\n"+text, "")
			return r.name + "/" + at
		},
		update: func(id, text string) { r.commit("PUT", path(id), text, "") },
		remove: func(id string) { r.commit("DELETE", path(id), "", "") },
	}
}

func (r *repository) wiki() kind {
	body := func(title, text string) map[string]any {
		return map[string]any{"title": title, "content_base64": base64.StdEncoding.EncodeToString([]byte(text))}
	}
	page := func(id string) string { return r.api + "/wiki/page/" + strings.TrimPrefix(id, r.name+"/wiki/") }
	n, titles := 0, map[string]string{}
	return kind{name: "wiki page",
		create: func(title, text string) string {
			n++
			title = fmt.Sprintf("%s %d ä", title, n)
			var made struct {
				SubURL string `json:"sub_url"`
			}
			r.call("POST", r.api+"/wiki/new", body(title, text), &made)
			id := r.name + "/wiki/" + made.SubURL
			titles[id] = title
			return id
		},
		update: func(id, text string) { r.call("PATCH", page(id), body(titles[id], text), nil) },
		remove: func(id string) { r.call("DELETE", page(id), nil, nil) },
	}
}

// numbered are issues and pull requests: their text, comments and deletion go by the number.
func (r *repository) numbered(name, of string, create func(title, text string) string) kind {
	at := func(of, id string) string { return fmt.Sprintf("%s/%s/%d", r.api, of, r.numbers[id]) }
	return kind{name: name, create: create,
		update: func(id, text string) { r.call("PATCH", at(of, id), map[string]any{"body": text}, nil) },
		remove: func(id string) { r.call("DELETE", at("issues", id), nil, nil) },
		remark: func(id, text string) { r.call("POST", at("issues", id)+"/comments", map[string]any{"body": text}, nil) },
	}
}

func (r *repository) issues() kind {
	return r.numbered("issue", "issues", func(title, text string) string {
		var i struct {
			ID     int64
			Number int
		}
		r.call("POST", r.api+"/issues", map[string]any{"title": title, "body": text}, &i)
		id := fmt.Sprint("issue/", i.ID)
		r.numbers[id] = i.Number
		return id
	})
}

func (r *repository) pulls() kind {
	return r.numbered("pull request", "pulls", func(title, text string) string {
		r.branches++
		branch := fmt.Sprint("branch-", r.branches)
		r.commit("POST", branch+".txt", branch, branch)
		var p struct{ Number int }
		r.call("POST", r.api+"/pulls", map[string]any{"title": title, "body": text, "head": branch, "base": "main"}, &p)
		id := fmt.Sprint(r.name, "/pulls/", p.Number)
		r.numbers[id] = p.Number
		return id
	})
}

func TestRealGiteasWebhooksBecomeSearchable(t *testing.T) {
	r := newRepository(t)
	w := newWorld(t, "gitea", fmt.Sprintf(`{type: gitea, base_url: %q, credentials: {token: %q}, scope: [%s], options: {kinds: "files, wiki, issues, pulls"}}`, r.url, setting(t, "HOOKMESH_TEST_GITEA_TOKEN"), r.name))
	r.call("POST", r.api+"/hooks", map[string]any{"type": "gitea", "active": true, "events": []string{"push", "wiki", "issues", "issue_comment", "pull_request", "pull_request_comment"},
		"config": map[string]string{"url": w.webhook(), "content_type": "json", "secret": secret}}, nil)
	kinds := []kind{r.files(), r.wiki(), r.issues(), r.pulls()}
	for _, k := range kinds {
		w.lives(k)
	}
	w.recovers(kinds)
}
