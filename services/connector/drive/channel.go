package drive

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/rest"
)

// channelLife is what is asked for; the source decides. https://developers.google.com/workspace/drive/api/reference/rest/v3/changes/watch
const channelLife = 7 * 24 * time.Hour

// mine stands for the user's own view, which has no id.
const mine = "my-drive"

// Resources implements connector.Subscriber: a feed per drive.
func (d *drive) Resources(context.Context) ([]string, error) {
	out := slices.Clone(d.drives)
	for i, id := range out {
		if id == "" {
			out[i] = mine
		}
	}
	return out, nil
}

// Subscribe implements connector.Subscriber. The secret comes back with every call as X-Goog-Channel-Token.
func (d *drive) Subscribe(ctx context.Context, resource, address, secret string) (connector.Subscription, error) {
	id := resource
	if id == mine {
		id = ""
	}
	var start struct {
		Token string `json:"startPageToken"`
	}
	res, err := d.client.GetJSON(ctx, "drive/v3/changes/startPageToken", query(id, url.Values{}), &start)
	if err != nil {
		return connector.Subscription{}, err
	}
	var channel struct {
		ID         string `json:"id"`
		ResourceID string `json:"resourceId"`
		Expiration string `json:"expiration"`
	}
	_, err = d.client.JSON(ctx, rest.Request{
		Method: http.MethodPost, Path: "drive/v3/changes/watch", Query: query(id, url.Values{"pageToken": {start.Token}, "includeItemsFromAllDrives": {"true"}}),
		Body: map[string]any{"id": uuid.NewString(), "type": "web_hook", "address": address, "token": secret, "expiration": strconv.FormatInt(res.Date.Add(channelLife).UnixMilli(), 10)},
	}, &channel)
	if err != nil {
		return connector.Subscription{}, err
	}
	ends, err := strconv.ParseInt(channel.Expiration, 10, 64)
	if err != nil {
		ends = res.Date.Add(time.Hour).UnixMilli() // what a channel lives that asks for nothing
	}
	return connector.Subscription{ID: channel.ID, Resource: resource, ExpiresAt: time.UnixMilli(ends), State: channel.ResourceID}, nil
}

// Renew implements connector.Subscriber: channels cannot be extended, so a new one takes over before the old one is stopped.
func (d *drive) Renew(ctx context.Context, s connector.Subscription, address, secret string) (connector.Subscription, error) {
	next, err := d.Subscribe(ctx, s.Resource, address, secret)
	if err != nil {
		return connector.Subscription{}, err
	}
	// An old channel that does not stop ends by itself; meanwhile its calls are duplicates.
	_ = d.Unsubscribe(ctx, s)
	return next, nil
}

// Unsubscribe implements connector.Subscriber: https://developers.google.com/workspace/drive/api/reference/rest/v3/channels/stop
func (d *drive) Unsubscribe(ctx context.Context, s connector.Subscription) error {
	_, err := d.client.Do(ctx, rest.Request{Method: http.MethodPost, Path: "drive/v3/channels/stop", Body: map[string]string{"id": s.ID, "resourceId": s.State}})
	if errors.Is(err, connector.ErrGone) {
		return nil
	}
	return err
}

// Subscriptions implements connector.Subscriber: Drive does not list its channels.
func (d *drive) Subscriptions(context.Context) ([]connector.Subscription, bool, error) {
	return nil, false, nil
}
