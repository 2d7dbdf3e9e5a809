package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxAnswer bounds what is read of an answer, in bytes: a page of the largest instances.
const maxAnswer = 128 << 20

// client calls REST.
type client struct {
	target
	http *http.Client
}

// connect finds the server. The caller closes the client.
func (o *options) connect() (*client, error) {
	s, err := o.find()
	if err != nil {
		return nil, err
	}
	return &client{s, &http.Client{
		Transport: &http.Transport{},
		Timeout:   time.Minute,
		// A redirect would carry the token to where it was not meant for.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func (c *client) close() { c.http.CloseIdleConnections() }

// call sends a request and reads the answer into out.
func (c *client) call(ctx context.Context, method, path string, query url.Values, body []byte, out any) error {
	r, err := http.NewRequestWithContext(ctx, method, c.base+path+"?"+query.Encode(), bytes.NewReader(body))
	if err != nil {
		return noContact("%w", err)
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	if body != nil {
		r.Header.Set("Content-Type", "application/yaml") // JSON too: the server tells them apart
	}
	answer, err := c.http.Do(r)
	if ctx.Err() != nil {
		return noContact("interrupted; whether the server did it is not known: %w", ctx.Err())
	}
	if err != nil {
		return noContact("no registry server answers at %s: %w; start one with registry-server, or say where it is with --server or WEFT_HTTP", c.base, unwrapURL(err))
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return noContact("the answer of %s breaks off: %w; try again", c.base, err)
	}
	if answer.StatusCode >= 300 {
		return c.problem(method, answer.StatusCode, data)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return noContact("what answers at %s is not a registry server: %w; check --server or WEFT_HTTP", c.base, err)
	}
	return nil
}

// unwrapURL drops the method and the address, which the message has already.
func unwrapURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// problem words an answer of RFC 9457, one line for each field.
func (c *client) problem(method string, status int, data []byte) error {
	var p struct {
		Detail string
		Errors []struct {
			Location, Message string
			Value             any
		}
	}
	if err := json.Unmarshal(data, &p); err != nil || p.Detail == "" {
		return noContact("what answers at %s (status %d) is not a registry server; check --server or WEFT_HTTP", c.base, status)
	}
	if status == http.StatusUnauthorized || status == http.StatusForbidden {
		return noContact("%s did not take the token (%d): %s; or set WEFT_TOKEN to it", c.base, status, p.Detail)
	}
	if len(p.Errors) < 2 {
		return refused("%s%s", p.Detail, next(method, status))
	}
	var lines strings.Builder
	for _, e := range p.Errors {
		fmt.Fprintf(&lines, "\n  %s: %s", strings.TrimPrefix(e.Location, "body."), e.Message)
		if e.Value != nil {
			fmt.Fprintf(&lines, " (it is %v)", e.Value)
		}
	}
	return refused("the server refused%s%s", next(method, status), lines.String())
}

// next says what to do about a refusal whose detail does not.
func next(method string, status int) string {
	switch {
	case status == http.StatusNotFound:
		return "; weftctl get shows what there is"
	case status == http.StatusRequestEntityTooLarge:
		return "; split it up"
	case method == http.MethodPost && (status == http.StatusBadRequest || status == http.StatusUnprocessableEntity):
		return "; correct it and try again, --dry-run only checks"
	}
	return ""
}

// list reads all pages of a list.
func (c *client) list(ctx context.Context, path string, query url.Values) ([]json.RawMessage, error) {
	var all []json.RawMessage
	for {
		var page struct {
			Items []json.RawMessage
			Next  string
		}
		if err := c.call(ctx, http.MethodGet, path, query, nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.Next == "" {
			return all, nil
		}
		query.Set("after", page.Next)
	}
}
