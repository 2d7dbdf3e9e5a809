package main

import (
	"bufio"
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

	"github.com/spf13/cobra"
)

const (
	// maxEvent bounds one line of a watch, in bytes.
	maxEvent = 4 << 20
	// maxSilence ends a watch that says nothing: the server writes something every 15 s.
	maxSilence = 45 * time.Second
	// The pause before a lost watch is opened again doubles from the first to the last.
	firstPause, lastPause = 100 * time.Millisecond, 5 * time.Second
)

func newWatch(o *options) *cobra.Command {
	service := ""
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Show changes as they happen, until it is interrupted",
		Long: `Show changes of instances, rules and aliases as they happen, until it is interrupted. A lost connection is opened again
and goes on where it was: the last changes may come twice, and none is missed. If that is no longer possible, a reset
says that changes may have been missed. With -o json each change is a line.`,
		Example: "  weftctl watch\n  weftctl watch --service product -o json",
		Args:    words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := o.query()
			if service != "" {
				query.Set("service", service)
			}
			return o.with(func(c *client) error { return o.watch(cmd, c, query) })
		},
	}
	cmd.Flags().StringVar(&service, "service", "", "only changes of this service, such as product or product.shop")
	return cmd
}

// watcher is one run of watch.
type watcher struct {
	o     *options
	cmd   *cobra.Command
	last  string // the id of the last event
	heard bool   // something came since the connection was opened
}

// watch follows the changes. To be interrupted is its usual end, and no error.
func (o *options) watch(cmd *cobra.Command, c *client, query url.Values) error {
	w := &watcher{o: o, cmd: cmd}
	ctx := cmd.Context()
	pause, opened := firstPause, false
	for ctx.Err() == nil {
		err := w.follow(ctx, c, query)
		opened = opened || w.heard
		switch {
		case ctx.Err() != nil:
			continue
		case !opened || final(err):
			return err
		case w.heard:
			pause, w.heard = firstPause, false
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "weftctl: the connection is lost, and is opened again in %s: %s\n", pause, clean(err.Error()))
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
	return nil
}

// errGone wraps what the terminal or the pipe said that we write to.
var errGone = errors.New("nobody reads the output")

// final reports whether asking again would not help.
func final(err error) bool {
	var p *problem
	if errors.As(err, &p) {
		return p.status < http.StatusInternalServerError && p.status != http.StatusTooManyRequests
	}
	return errors.Is(err, errGone) || errors.Is(err, errWrongPin)
}

// follow opens one connection and reads it to its end.
func (w *watcher) follow(ctx context.Context, c *client, query url.Values) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := request{method: http.MethodGet, path: "/v1/watch", query: query, header: http.Header{"Accept": {"text/event-stream"}}}
	if w.last != "" {
		r.header.Set("Last-Event-ID", w.last)
	}
	quiet := time.AfterFunc(w.o.silence, func() { cancel(fmt.Errorf("nothing came for %s", w.o.silence)) })
	defer quiet.Stop()
	answer, err := c.send(ctx, r)
	if cause := context.Cause(ctx); cause != nil {
		return failed("%w", cause)
	}
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if !strings.HasPrefix(answer.Header.Get("Content-Type"), "text/event-stream") {
		return c.stranger(answer.StatusCode)
	}
	w.heard = true
	err = events(beating{answer.Body, quiet, w.o.silence}, w.show)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return failed("%w", err)
}

// beating puts a timer off whenever something is read.
type beating struct {
	io.Reader
	quiet *time.Timer
	by    time.Duration
}

// Read implements [io.Reader].
func (b beating) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.quiet.Reset(b.by)
	return n, err
}

// event is one event of a stream.
type event struct{ id, name, data string }

// events reads a stream as the HTML standard describes it: lines of "field: value", and an empty line after each event.
func events(r io.Reader, do func(event) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), maxEvent)
	var e event
	var data []string
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			e.id = value
		case "event":
			e.name = value
		case "data":
			if data = append(data, value); len(data) > maxLines {
				return fmt.Errorf("an event has more than %d lines", maxLines)
			}
		case "":
			if lines.Text() != "" {
				continue // a comment
			}
			e.data = strings.Join(data, "\n")
			if err := do(e); err != nil {
				return err
			}
			e, data = event{}, nil
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return errors.New("the server ended it")
}

// maxLines bounds the data of one event.
const maxLines = 100

// show prints an event, and remembers where to go on.
func (w *watcher) show(e event) error {
	if e.id != "" {
		w.last = e.id
	}
	if e.data == "" {
		return nil // it only says where we are
	}
	if e.name == "reset" {
		fmt.Fprintf(w.cmd.ErrOrStderr(), "weftctl: the watch starts anew at %s: changes before it may have been missed; weftctl get shows what there is\n", first(oneLine(e.id), "the present"))
	}
	if !json.Valid([]byte(e.data)) {
		return fmt.Errorf("event %s of %s cannot be read", oneLine(e.id), oneLine(e.name))
	}
	return w.print(e)
}

func (w *watcher) print(e event) error {
	text, err := w.text(e)
	if err != nil || text == "" {
		return err
	}
	if _, err := fmt.Fprintln(w.cmd.OutOrStdout(), text); err != nil {
		return fmt.Errorf("%w: %w", errGone, err)
	}
	return nil
}

func (w *watcher) text(e event) (string, error) {
	switch w.o.output {
	case asJSON:
		return jsonLine(e)
	case asYAML:
		var out strings.Builder
		line, err := jsonLine(e)
		if err != nil {
			return "", err
		}
		err = printYAML(&out, []json.RawMessage{json.RawMessage(line)})
		return "---\n" + strings.TrimSuffix(out.String(), "\n"), err
	}
	c, err := read[change](json.RawMessage(e.data))
	if err != nil {
		return "", err
	}
	if w.o.output == asName {
		return oneLine(c.what(e.name)), nil
	}
	return strings.TrimRight(oneLine(fmt.Sprintf("%s  %-8s  %s  %s", first(c.Revision, "-"), e.name, c.what(e.name), c.how())), " "), nil
}

// jsonLine puts the id and the name beside the data.
func jsonLine(e event) (string, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	err := enc.Encode(struct {
		ID    string          `json:"id,omitempty"`
		Event string          `json:"event"`
		Data  json.RawMessage `json:"data"`
	}{e.id, e.name, json.RawMessage(e.data)})
	return strings.TrimSuffix(out.String(), "\n"), err
}

// change is what an event says.
type change struct {
	Revision, Service, ID, Name, Removed string
	Kind                                 string // of a rule
	Instance                             *instance
	Rule                                 *document
	Alias                                *alias
}

// what names the thing that has changed.
func (c change) what(event string) string {
	switch event {
	case "instance":
		return c.Service + "/" + c.ID
	case "rule":
		return strings.ToLower(c.Kind) + "/" + c.Name
	case "alias":
		return "alias/" + c.Name
	}
	return ""
}

// how says what it is now, or why it is gone.
func (c change) how() string {
	switch {
	case c.Removed != "":
		return "removed: " + c.Removed
	case c.Instance != nil:
		return fmt.Sprintf("%s, weight %d, %s", c.Instance.State, c.Instance.Weight, c.Instance.Address)
	case c.Rule != nil:
		return "for " + c.Rule.Service + ", by " + first(c.Rule.UpdatedBy, "-")
	case c.Alias != nil:
		return "for " + c.Alias.Service
	}
	return ""
}
