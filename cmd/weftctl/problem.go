package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// problem is an answer of RFC 9457.
type problem struct {
	Detail string
	Errors []fieldError

	status     int
	hint       string // what to do, if the status does not say it
	retryAfter string
	base       string
}

// fieldError is what is wrong with one field.
type fieldError struct {
	Location, Message string
	Value             any
}

// problem reads what the server did not like.
func (c *client) problem(answer *http.Response, data []byte) error {
	p := problem{status: answer.StatusCode, retryAfter: answer.Header.Get("Retry-After"), base: c.base}
	if err := json.Unmarshal(data, &p); err != nil || p.Detail == "" {
		return c.stranger(answer.StatusCode)
	}
	return &failure{&p}
}

// stranger is the error about a server that is none of ours.
func (c *client) stranger(status int) error {
	return failed("what answers at %s (status %d, from %s) is not a registry server; check --server or WEFT_HTTP", c.base, status, c.from)
}

// Error words it: one line if one thing is wrong, else one line for each field.
func (p *problem) Error() string {
	switch {
	case p.status == http.StatusUnauthorized:
		return fmt.Sprintf("%s did not take the token: %s; or set WEFT_TOKEN to it", p.base, p.Detail)
	case len(p.Errors) < 2 && p.Detail != "":
		return p.Detail + p.next()
	}
	var lines strings.Builder
	for _, e := range p.Errors {
		fmt.Fprintf(&lines, "\n  %s: %s", strings.TrimPrefix(e.Location, "body."), e.Message)
		if e.Value != nil {
			fmt.Fprintf(&lines, " (it is %v)", e.Value)
		}
	}
	return "the server refused" + p.next() + lines.String()
}

// next says what to do about a refusal whose detail does not.
func (p *problem) next() string {
	switch {
	case p.retryAfter != "":
		return "; try again in " + p.retryAfter + " s"
	case p.status == http.StatusForbidden:
		return "; use a token whose role and namespaces allow it, in WEFT_TOKEN"
	case p.status == http.StatusNotFound:
		return "; weftctl get shows what there is"
	case p.status == http.StatusRequestEntityTooLarge:
		return "; split it up"
	case p.status == http.StatusPreconditionFailed:
		return "; it was changed meanwhile: look at it, and try again"
	}
	return p.hint
}
