package github

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
	"github.com/go-git/go-git/v5/storage/memory"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/files"
	"github.com/hookmesh/hookmesh/services/connector/rest"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

// maxPack bounds the newest commit of a wiki, with its pictures.
const maxPack = 128 << 20

// wikiEndings are the markup languages of wikis besides those of package files.
// https://docs.github.com/en/communities/documenting-your-project-with-wikis/editing-wiki-content
var wikiEndings = []string{".asciidoc", ".creole", ".mediawiki", ".wiki", ".pod", ".rdoc", ".rest", ".textile"}

// wikis reads wikis. The API does not serve them; each is a git repository beside its own.
type wikis struct {
	web    string
	client *rest.Client
	auth   *githttp.BasicAuth

	mu sync.Mutex
	// known is the newest commit of each wiki that was read last: a herd of pages costs one clone.
	known map[string]*wiki
}

type wiki struct {
	head  string
	pages map[string]wikiPage
}

type wikiPage struct {
	content []byte
	format  connector.Format
	version string
}

func newWikis(web string, cfg config.Connector) (*wikis, error) {
	client, err := rest.New(rest.Options{Base: web, PrivateAddresses: cfg.PrivateAddresses})
	if err != nil {
		return nil, fmt.Errorf("options.web_url: %w", err)
	}
	return &wikis{web: strings.TrimSuffix(web, "/"), client: client, auth: &githttp.BasicAuth{Username: "x-access-token", Password: cfg.Credential("token")}, known: map[string]*wiki{}}, nil
}

// listWiki names the pages of a wiki unless its newest commit is the marked one. A page's version is its blob's hash.
func (h *hub) listWiki(ctx context.Context, repo, mark string) (part, error) {
	w, err := h.wikis.read(ctx, repo)
	if errors.Is(err, connector.ErrGone) {
		return part{}, nil // it was never written to
	}
	if err != nil {
		return part{}, err
	}
	p := part{mark: w.head}
	if w.head == mark {
		return p, nil
	}
	for _, name := range slices.Sorted(maps.Keys(w.pages)) {
		p.changes = append(p.changes, connector.Change{DocumentID: repo + "/wiki/" + name, Version: w.pages[name].version, URL: h.wikis.url(repo, name)})
	}
	return p, nil
}

func (h *hub) fetchWiki(ctx context.Context, repo, name string) (connector.Document, error) {
	w, err := h.wikis.read(ctx, repo)
	if err != nil {
		return connector.Document{}, err
	}
	p, ok := w.pages[name]
	if !ok {
		return connector.Document{}, connector.ErrGone
	}
	return connector.Document{Content: p.content, Format: p.format, Title: strings.ReplaceAll(name, "-", " "), URL: h.wikis.url(repo, name), Version: p.version}, nil
}

func (w *wikis) url(repo, name string) string {
	return w.web + "/" + repo + "/wiki/" + url.PathEscape(name)
}

// read returns the newest commit of a wiki: from memory, if it still is the newest. One clone at a time.
func (w *wikis) read(ctx context.Context, repo string) (*wiki, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	endpoint, err := transport.NewEndpoint(w.web + "/" + repo + ".wiki.git")
	if err != nil {
		return nil, connector.Permanent(fmt.Errorf("the wiki of %s has no address", repo))
	}
	session, err := githttp.NewClient(w.client.HTTP(maxPack)).NewUploadPackSession(endpoint, w.auth)
	if err != nil {
		return nil, gitError(err)
	}
	defer func() { _ = session.Close() }()
	refs, err := session.AdvertisedReferencesContext(ctx)
	if err != nil {
		return nil, gitError(err)
	}
	if refs.Head == nil {
		return nil, connector.ErrGone
	}
	if k := w.known[repo]; k != nil && k.head == refs.Head.String() {
		return k, nil
	}
	k, err := clone(ctx, session, refs)
	if err != nil {
		return nil, gitError(err)
	}
	w.known[repo] = k
	return k, nil
}

// clone gets the newest commit, alone if the server can do that.
func clone(ctx context.Context, session transport.UploadPackSession, refs *packp.AdvRefs) (*wiki, error) {
	req := packp.NewUploadPackRequestFromCapabilities(refs.Capabilities)
	req.Wants = []plumbing.Hash{*refs.Head}
	if refs.Capabilities.Supports(capability.Shallow) {
		if err := req.Capabilities.Set(capability.Shallow); err != nil {
			return nil, err
		}
		req.Depth = packp.DepthCommits(1)
	}
	res, err := session.UploadPack(ctx, req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Close() }()
	store := memory.NewStorage()
	if err := packfile.UpdateObjectStorage(store, res); err != nil {
		return nil, err
	}
	commit, err := object.GetCommit(store, *refs.Head)
	if err != nil {
		return nil, err
	}
	tree, err := commit.Tree()
	if err != nil {
		return nil, err
	}
	k := &wiki{head: refs.Head.String(), pages: map[string]wikiPage{}}
	return k, tree.Files().ForEach(func(f *object.File) error { return k.add(f) })
}

// add keeps a page under its name without ending and folder: this is what events call it.
func (k *wiki) add(f *object.File) error {
	ending := strings.ToLower(path.Ext(f.Name))
	format, ok := files.FormatOf(f.Name)
	if !ok && slices.Contains(wikiEndings, ending) {
		format, ok = connector.FormatPlain, true
	}
	if !ok || format == connector.FormatPDF || format == connector.FormatDOCX || f.Size > rest.MaxContent {
		return nil
	}
	r, err := f.Reader()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	name := path.Base(f.Name)
	k.pages[name[:len(name)-len(ending)]] = wikiPage{content: content, format: format, version: f.Hash.String()}
	return nil
}

// gitError turns a git client's error into the seam's kinds.
func gitError(err error) error {
	var unexpected *plumbing.UnexpectedError
	if errors.As(err, &unexpected) {
		err = unexpected.Err // it does not unwrap by itself
	}
	var status *githttp.Err
	var known *connector.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, transport.ErrRepositoryNotFound), errors.Is(err, transport.ErrEmptyRemoteRepository):
		return connector.ErrGone
	case errors.Is(err, transport.ErrAuthenticationRequired), errors.Is(err, transport.ErrAuthorizationFailed):
		return fmt.Errorf("the wiki: %w", connector.ErrUnauthorized)
	case errors.As(err, &status) && status.Response != nil:
		return rest.Failure("the wiki", status.Response.StatusCode, status.Response.Header)
	case errors.Is(err, http.ErrHandlerTimeout), errors.Is(err, context.DeadlineExceeded):
		return &connector.Error{Err: errors.New("the wiki's clone took too long")}
	}
	return &connector.Error{Err: fmt.Errorf("read the wiki: %w", err)}
}
