package sharepoint

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/rest"
)

// life of a subscription to a drive: 42,300 minutes at most, less a little for clocks that differ.
// https://learn.microsoft.com/en-us/graph/change-notifications-overview#subscription-lifetime
const life = 42_000 * time.Minute

type subscription struct {
	ID       string    `json:"id,omitempty"`
	Change   string    `json:"changeType,omitempty"`
	URL      string    `json:"notificationUrl,omitempty"`
	Resource string    `json:"resource,omitempty"`
	Expires  time.Time `json:"expirationDateTime,omitzero"`
	State    string    `json:"clientState,omitempty"`
}

func (s subscription) seam() connector.Subscription {
	return connector.Subscription{ID: s.ID, Resource: s.Resource, ExpiresAt: s.Expires}
}

// Resources implements connector.Subscriber: only roots of drives can be watched.
func (l *library) Resources(context.Context) ([]string, error) {
	var out []string
	for _, d := range l.drives {
		out = append(out, d+"/root")
	}
	return out, nil
}

// expiry is what is asked for. Clocks may differ by the minutes that life leaves.
func (l *library) expiry() time.Time { return time.Now().Add(life).UTC().Truncate(time.Second) }

// Subscribe implements connector.Subscriber. The secret comes back with every notification as clientState.
func (l *library) Subscribe(ctx context.Context, resource, address, secret string) (connector.Subscription, error) {
	var made subscription
	_, err := l.client.JSON(ctx, rest.Request{Method: http.MethodPost, Path: "subscriptions",
		Body: subscription{Change: "updated", URL: address, Resource: resource, Expires: l.expiry(), State: secret}}, &made)
	if made.Resource == "" {
		made.Resource = resource
	}
	return made.seam(), err
}

// Renew implements connector.Subscriber.
func (l *library) Renew(ctx context.Context, s connector.Subscription, _, _ string) (connector.Subscription, error) {
	var made subscription
	_, err := l.client.JSON(ctx, rest.Request{Method: http.MethodPatch, Path: "subscriptions/" + url.PathEscape(s.ID), Body: subscription{Expires: l.expiry()}}, &made)
	if err != nil {
		return connector.Subscription{}, err
	}
	s.ExpiresAt = made.Expires
	return s, nil
}

// Unsubscribe implements connector.Subscriber.
func (l *library) Unsubscribe(ctx context.Context, s connector.Subscription) error {
	_, err := l.client.Do(ctx, rest.Request{Method: http.MethodDelete, Path: "subscriptions/" + url.PathEscape(s.ID)})
	if errors.Is(err, connector.ErrGone) {
		return nil
	}
	return err
}

// Subscriptions implements connector.Subscriber.
func (l *library) Subscriptions(ctx context.Context) ([]connector.Subscription, bool, error) {
	var out []connector.Subscription
	for next := "subscriptions"; next != ""; {
		var list struct {
			Value []subscription
			Next  string `json:"@odata.nextLink"`
		}
		if _, err := l.client.GetJSON(ctx, next, nil, &list); err != nil {
			return nil, true, err
		}
		for _, s := range list.Value {
			out = append(out, s.seam())
		}
		next = list.Next
	}
	return out, true, nil
}
