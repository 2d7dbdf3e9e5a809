package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

// maxAnswer bounds what is read of an answer, in bytes: a page of the largest instances.
const maxAnswer = 128 << 20

// patience is how long one call may take, beside what it was asked to wait.
const patience = time.Minute

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
		Transport: s.transport(),
		// A redirect would carry the token to where it was not meant for.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func (c *client) close() { c.http.CloseIdleConnections() }

// with connects for the time of do.
func (o *options) with(do func(*client) error) error {
	c, err := o.connect()
	if err != nil {
		return err
	}
	defer c.close()
	return do(c)
}

// request is one call.
type request struct {
	method, path string
	query        url.Values
	body         []byte
	stream       io.Reader // in place of body, if it is large
	length       int64     // of the stream
	mime         string    // of the body; "": JSON
	header       http.Header
}

// send sends a request; the caller closes the body of the answer. An answer of 300 and above is an error.
func (c *client) send(ctx context.Context, r request) (*http.Response, error) {
	var body io.Reader = bytes.NewReader(r.body)
	if r.stream != nil {
		body = r.stream
	}
	out, err := http.NewRequestWithContext(ctx, r.method, c.base+r.path, body)
	if err != nil {
		return nil, failed("%w", err)
	}
	out.URL.RawQuery = r.query.Encode()
	if r.stream != nil {
		out.ContentLength = r.length
	}
	maps.Copy(out.Header, r.header)
	out.Header.Set("Authorization", "Bearer "+c.token)
	if r.body != nil || r.stream != nil {
		out.Header.Set("Content-Type", first(r.mime, "application/json"))
	}
	answer, err := c.http.Do(out)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if answer.StatusCode >= 300 {
		defer answer.Body.Close()
		data, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<20)) // what is cut off is no problem that can be read
		return nil, c.problem(answer, data)
	}
	return answer, nil
}

// unreachable explains why there is no answer.
func (c *client) unreachable(ctx context.Context, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return failed("interrupted; whether the server did it is not known: %w", ctx.Err())
	case errors.Is(err, errWrongPin):
		return failed("%s: %w", c.base, unwrapURL(err))
	case c.isTLS(err):
		return failed("%s (from %s) does not show a certificate that is trusted: %w; --pin or WEFT_PIN is for a server whose certificate is its own", c.base, c.from, unwrapURL(err))
	}
	return failed("no registry server answers at %s (from %s): %w; start one with registry-server, or say where it is with --server or WEFT_HTTP", c.base, c.from, unwrapURL(err))
}

// unwrapURL drops the method and the address, which the message has already.
func unwrapURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// call sends a request and reads the answer, which is empty if the server had nothing to say.
func (c *client) call(cmd *cobra.Command, r request) (json.RawMessage, error) {
	wait, _ := time.ParseDuration(r.query.Get("waitTimeout"))
	ctx, cancel := context.WithTimeout(cmd.Context(), patience+wait)
	defer cancel()
	answer, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return nil, failed("the answer of %s breaks off: %w; try again", c.base, err)
	}
	if answer.StatusCode != http.StatusNoContent && !json.Valid(data) {
		return nil, c.stranger(answer.StatusCode)
	}
	return data, nil
}

// get reads one thing.
func (c *client) get(cmd *cobra.Command, path string, query url.Values) (json.RawMessage, error) {
	return c.call(cmd, request{method: http.MethodGet, path: path, query: query})
}

// list reads the pages of a list. next is the parameter that leads from page to page; enough says when to stop.
func (c *client) list(cmd *cobra.Command, path string, query url.Values) ([]json.RawMessage, error) {
	var all []json.RawMessage
	for {
		items, next, err := c.page(cmd, path, query)
		all = append(all, items...)
		if err != nil || next == "" {
			return all, err
		}
		query.Set("after", next)
	}
}

func (c *client) page(cmd *cobra.Command, path string, query url.Values) ([]json.RawMessage, string, error) {
	data, err := c.get(cmd, path, query)
	if err != nil {
		return nil, "", err
	}
	page, err := read[struct {
		Items []json.RawMessage
		Next  word
	}](data)
	return page.Items, string(page.Next), err
}

// word is a text or a number of an answer.
type word string

// UnmarshalJSON implements [json.Unmarshaler].
func (w *word) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err == nil {
		*w = word(text)
		return nil
	}
	var number json.Number
	err := json.Unmarshal(data, &number)
	*w = word(number)
	return err
}

func first(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}
