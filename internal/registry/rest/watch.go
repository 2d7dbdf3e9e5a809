package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/rule"
)

// The bounds of watches. There is no buffer for each: a watch that falls behind the catalog's ring of events is told to
// read everything again, and one that takes nothing for evictAfter is ended.
const (
	maxWatches    = 1000
	maxWatchesOf  = 100 // of one address
	beatEvery     = 15 * time.Second
	recheckEvery  = 4 * time.Second
	evictAfter    = 10 * time.Second
	resetNotAbove = 1 * time.Second // how soon one reset may follow another
)

// events is what watches read: the catalog.
type events interface {
	Watch(ctx context.Context, after discovery.Revision, fn func([]catalog.Event) error) error
	Revision() discovery.Revision
}

// watches counts who watches, by address.
type watches struct {
	mu  sync.Mutex
	all int
	of  map[string]int
}

func newWatches() *watches { return &watches{of: map[string]int{}} }

// enter counts one more; false if that is too many.
func (w *watches) enter(from string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all >= maxWatches || w.of[from] >= maxWatchesOf {
		return false
	}
	w.all++
	w.of[from]++
	return true
}

func (w *watches) leave(from string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all--
	if w.of[from]--; w.of[from] == 0 {
		delete(w.of, from)
	}
}

func (w *watches) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all
}

// change is the data of an event.
type change struct {
	Revision  discovery.Revision  `json:"revision"`
	Removed   discovery.Reason    `json:"removed,omitempty" doc:"why it is gone: deregistered, expired or deleted; absent if it was put"`
	Service   string              `json:"service,omitempty" doc:"of the instance, or what the rule governs"`
	Namespace string              `json:"namespace,omitempty"`
	ID        string              `json:"id,omitempty" doc:"of the instance"`
	Kind      rule.Kind           `json:"kind,omitempty" doc:"of the rule"`
	Name      string              `json:"name,omitempty" doc:"of the rule or the alias"`
	Instance  *discovery.Instance `json:"instance,omitempty" doc:"as it is now; absent if it is gone"`
	Rule      *document           `json:"rule,omitempty" doc:"as it is now; absent if it is gone"`
	Alias     *alias              `json:"alias,omitempty" doc:"as it is now; absent if it is gone"`
}

func changeOf(e catalog.Event) change {
	c := change{Revision: e.Revision, Removed: e.Removed, Service: e.Service.Service, Namespace: e.Service.Namespace}
	switch e.Kind {
	case "instance":
		c.ID, c.Instance = e.ID, e.Instance
	case "rule":
		c.Kind, c.Name = e.Key.Kind, e.Key.Name
		if e.Rule != nil {
			c.Rule = &document{*e.Rule}
		}
	case "alias":
		c.Service, c.Name = "", e.Service.Service
		if e.Alias != nil {
			shown := aliasOf(*e.Alias)
			c.Alias, c.Service = &shown, shown.Service
		}
	}
	return c
}

type watch struct {
	Anywhere
	Service     string `query:"service" maxLength:"127" doc:"only what concerns this service; product or product.shop"`
	LastEventID string `header:"Last-Event-ID" doc:"the id of the last event that was received, or the revision of a list: the watch goes on after it"`
}

func (a *API) addWatch() {
	get := operation("watch", http.MethodGet, "/v1/watch",
		"Follow changes as server-sent events: instance, rule, alias, and reset when what came before is not known and all must be read again", http.StatusUnprocessableEntity)
	get.Responses = map[string]*huma.Response{strconv.Itoa(http.StatusOK): {
		Description: "Events. The id is a revision; it stands at the last event of the revision, so that a watch that goes on after it misses nothing",
		Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: a.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[change](), true, "Change")}},
	}}
	register(a, needs(access.Reader, somewhere).in(noLane), get, a.watch)
}

func (a *API) watch(ctx context.Context, in *watch) (*huma.StreamResponse, error) {
	service, err := in.service(in.Service)
	if err != nil {
		return nil, err
	}
	after := a.events.Revision()
	if in.LastEventID != "" {
		if after, err = discovery.ParseRevision(in.LastEventID); err != nil {
			const message = "must be a revision, such as 1f-42"
			return nil, problem(http.StatusBadRequest, "Last-Event-ID: "+message, wrong("header.Last-Event-ID", message, in.LastEventID))
		}
	}
	c := callOf(ctx)
	if !a.watches.enter(c.from) {
		return nil, problem(http.StatusTooManyRequests, fmt.Sprintf("too many watches: at most %d from one address and %d in all", maxWatchesOf, maxWatches))
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		defer a.watches.leave(c.from)
		r, w := humago.Unwrap(hc)
		if r.Method == http.MethodHead {
			w.Header().Set("Content-Type", "text/event-stream")
			return
		}
		s := &stream{api: a, call: c, w: w, rc: http.NewResponseController(w), at: after,
			shows: func(e catalog.Event) bool { return in.shows(ctx, e.Service.Namespace) && about(e, service) }}
		s.run(ctx)
	}}, nil
}

// about reports whether an event concerns a service; all do if it is zero.
func about(e catalog.Event, service discovery.Name) bool {
	switch {
	case service.Service == "" || e.Service == service:
		return true
	case e.Kind == "rule":
		return e.Service.Service == rule.AllServices && e.Service.Namespace == service.Namespace
	}
	return e.Alias != nil && e.Alias.Target == service
}

// stream is one watch.
type stream struct {
	api   *API
	call  *call
	w     http.ResponseWriter
	rc    *http.ResponseController
	shows func(catalog.Event) bool

	mu sync.Mutex // for writing
	at discovery.Revision
}

// run writes events until the client is gone, takes nothing, or may not watch any more.
func (s *stream) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(s.api.closing, cancel)
	defer stop()
	h := s.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // of nginx
	s.call.allow(evictAfter)
	if s.write(fmt.Sprintf(": watching\nid: %s\n\n", s.at)) != nil {
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		defer cancel()
		s.beat(ctx)
	})
	if err := s.follow(ctx); ctx.Err() == nil {
		s.api.Log.Debug("rest: a watch ended", "from", s.call.from, "error", err)
	}
}

// follow writes events, and a reset wherever it cannot go on.
func (s *stream) follow(ctx context.Context) error {
	var last time.Time
	for {
		err := s.api.events.Watch(ctx, s.at, s.send)
		if !errors.Is(err, catalog.ErrTooOld) {
			return err
		}
		if err := pause(ctx, resetNotAbove-time.Since(last)); err != nil {
			return err
		}
		last = time.Now()
		if err := s.reset(); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (s *stream) reset() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = s.api.events.Revision()
	return s.write(fmt.Sprintf("id: %s\nevent: reset\ndata: {\"revision\":%q}\n\n", s.at, s.at))
}

// send writes the events of one revision. The id stands at the last of them: who is cut off between two gets both again.
func (s *stream) send(events []catalog.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var pending *catalog.Event
	for i := range events {
		if !s.shows(events[i]) {
			continue
		}
		if pending != nil {
			if err := s.event(*pending, false); err != nil {
				return err
			}
		}
		pending = &events[i]
	}
	if len(events) > 0 {
		s.at = events[len(events)-1].Revision
	}
	if pending == nil {
		return nil
	}
	if err := s.event(*pending, true); err != nil {
		return err
	}
	return s.flush()
}

func (s *stream) event(e catalog.Event, last bool) error {
	var b bytes.Buffer
	if last {
		fmt.Fprintf(&b, "id: %s\n", e.Revision)
	}
	fmt.Fprintf(&b, "event: %s\ndata: ", e.Kind)
	if err := json.NewEncoder(&b).Encode(changeOf(e)); err != nil { // ends in a newline, and has none within
		return err
	}
	b.WriteByte('\n')
	s.call.extend(s.rc, evictAfter)
	_, err := s.w.Write(b.Bytes())
	return err
}

// write sends a text at once.
func (s *stream) write(text string) error {
	s.call.extend(s.rc, evictAfter)
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.flush()
}

// flush sends what was written. Between writes there is no deadline: over HTTP/2 it would end the stream.
func (s *stream) flush() error {
	if err := s.rc.Flush(); err != nil {
		return err
	}
	_ = s.rc.SetWriteDeadline(time.Time{})
	return nil
}

// beat looks at the token again and again, and says that the watch is alive. It returns when the watch has to end; if the
// token is the reason it cuts off a write that waits for the client.
func (s *stream) beat(ctx context.Context) {
	recheck, beat := time.NewTicker(recheckEvery), time.NewTicker(beatEvery)
	defer recheck.Stop()
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-recheck.C:
			if !s.allowed() {
				s.call.extend(s.rc, 0)
				return
			}
		case <-beat.C:
			if s.mu.TryLock() { // else it is writing, which is a sign of life
				err := s.write(fmt.Sprintf(": alive\nid: %s\n\n", s.at))
				s.mu.Unlock()
				if err != nil {
					return
				}
			}
		}
	}
}

// allowed reports whether the token still is what it was. An address that is locked out has wrong tokens too; this one
// is looked at when the lock is over.
func (s *stream) allowed() bool {
	now, err := s.api.Access.Check(s.call.token, s.call.from)
	if _, locked := errors.AsType[*access.Locked](err); locked {
		return true
	}
	return err == nil && now.ID == s.call.grant.ID
}
