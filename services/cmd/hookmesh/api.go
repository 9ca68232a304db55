package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// api is a running hookmesh, as the commands talk to it.
type api struct {
	base   string
	client *http.Client
	// flag names another address.
	flag string
}

func newAPI(base string) api {
	return api{base: strings.TrimRight(base, "/"), client: &http.Client{Timeout: 30 * time.Second}, flag: "--url"}
}

// get asks for path and reads the JSON answer into a message.
func (a api) get(ctx context.Context, path string, query url.Values, into proto.Message) error {
	raw, err := a.getRaw(ctx, path, query)
	if err != nil {
		return err
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(raw, into); err != nil {
		return fmt.Errorf("read the answer of %s%s: %w", a.base, path, err)
	}
	return nil
}

// getRaw asks for path and returns the answer.
func (a api) getRaw(ctx context.Context, path string, query url.Values) ([]byte, error) {
	target := a.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, usageError{fmt.Errorf("%s is not a URL: %w", a.base, err)}
	}
	return a.do(req)
}

// post sends a message to path and reads the JSON answer into another.
func (a api) post(ctx context.Context, path string, message, into proto.Message) error {
	body, err := protojson.Marshal(message)
	if err != nil {
		return fmt.Errorf("write the request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.base+path, bytes.NewReader(body))
	if err != nil {
		return usageError{fmt.Errorf("%s is not a URL: %w", a.base, err)}
	}
	req.Header.Set("Content-Type", "application/json")
	raw, err := a.do(req)
	if err != nil {
		return err
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(raw, into); err != nil {
		return fmt.Errorf("read the answer of %s%s: %w", a.base, path, err)
	}
	return nil
}

// do sends a request and turns a problem into an error that a person understands.
func (a api) do(req *http.Request) ([]byte, error) {
	if key := os.Getenv(apiKeyVariable); key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	res, err := a.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no hookmesh answers at %s (%w); start one with `hookmesh up`, or name another with %s", a.base, err, a.flag)
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(res.Body, 64<<20))
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", req.URL.Redacted(), err)
	}
	if res.StatusCode < 300 {
		return raw, nil
	}
	if res.StatusCode == http.StatusUnauthorized {
		return nil, fmt.Errorf("%s asks who you are: set %s to a key of `hookmesh keys new` that its configuration knows", a.base, apiKeyVariable)
	}
	var problem struct{ Title, Detail, Code string }
	if json.Unmarshal(raw, &problem) == nil && problem.Detail != "" {
		return nil, fmt.Errorf("%s (%s, HTTP %d)", problem.Detail, problem.Code, res.StatusCode)
	}
	return nil, fmt.Errorf("%s answered HTTP %d", req.URL.Redacted(), res.StatusCode)
}
