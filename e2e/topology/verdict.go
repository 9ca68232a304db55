package topology

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// get asks the API for a path.
func get(ctx context.Context, client *http.Client, target string, into any) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return 0, err
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return res.StatusCode, fmt.Errorf("%s answers %s", target, res.Status)
	}
	return res.StatusCode, json.NewDecoder(res.Body).Decode(into)
}

// stored is a document as the knowledge base has it.
type stored struct{ DocumentID, Version, State string }

// Differences compares the knowledge base with what the source holds and says, document by document, what is not the same.
func Differences(ctx context.Context, client *http.Client, base string, final map[string]Change) ([]string, error) {
	known := map[string]stored{}
	for token := ""; ; {
		var page struct {
			Documents     []stored
			NextPageToken string
		}
		if _, err := get(ctx, client, base+"/v1/documents?source=docs&pageSize=500&pageToken="+url.QueryEscape(token), &page); err != nil {
			return nil, err
		}
		for _, d := range page.Documents {
			known[d.DocumentID] = d
		}
		if token = page.NextPageToken; token == "" {
			break
		}
	}
	var wrong []string
	for id, c := range final {
		d, there := known[id]
		delete(known, id)
		gone := !there || d.State == "DOCUMENT_STATE_DELETED"
		switch {
		case c.Action == "deleted" && !gone:
			wrong = append(wrong, fmt.Sprintf("%s is deleted at the source, %s in version %s here", id, d.State, d.Version))
		case c.Action != "deleted" && (gone || d.State != "DOCUMENT_STATE_CURRENT" || d.Version != fmt.Sprint(c.Sequence)):
			wrong = append(wrong, fmt.Sprintf("%s is at version %d at the source, %s in version %q here", id, c.Sequence, d.State, d.Version))
		}
	}
	for id := range known {
		wrong = append(wrong, id+" is not at the source")
	}
	return wrong, nil
}
