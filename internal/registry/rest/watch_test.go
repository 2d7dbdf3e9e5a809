package rest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/store"
)

// pipes is a listener without a network, so that time can be virtual.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7080} }

// peered gives a pipe an address.
type peered struct {
	net.Conn
	from net.Addr
}

func (p peered) RemoteAddr() net.Addr { return p.from }

// serve serves an interface over pipes with the timeouts of a real server, and gives what dials it as an address.
func serve(t *testing.T, api *API) (dial func(from string) net.Conn) {
	t.Helper()
	lis := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	srv := &http.Server{Handler: api, ReadTimeout: 15 * time.Second, WriteTimeout: 30 * time.Second}
	srv.RegisterOnShutdown(api.Close)
	var wg sync.WaitGroup
	wg.Go(func() { srv.Serve(lis) })
	t.Cleanup(func() {
		srv.Close()
		api.Close()
		wg.Wait()
		synctest.Wait()
	})
	return func(from string) net.Conn {
		mine, theirs := net.Pipe()
		lis.conns <- peered{theirs, &net.TCPAddr{IP: net.ParseIP(from), Port: 4711}}
		t.Cleanup(func() { mine.Close() })
		return mine
	}
}

// sse is a watch as a client sees it.
type sse struct {
	conn   net.Conn
	status int
	lines  chan string // closed at the end
}

// open begins a watch and reads it all the time.
func openWatch(t *testing.T, conn net.Conn, query, token, last string) *sse {
	t.Helper()
	header := "GET /v1/watch" + query + " HTTP/1.1\r\nHost: registry\r\nAuthorization: Bearer " + token + "\r\n"
	if last != "" {
		header += "Last-Event-ID: " + last + "\r\n"
	}
	if _, err := io.WriteString(conn, header+"\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &sse{conn: conn, status: resp.StatusCode, lines: make(chan string, 10_000)}
	go func() {
		defer close(s.lines)
		scanner := bufio.NewScanner(resp.Body)
		scanner.Buffer(nil, 1<<20)
		for scanner.Scan() {
			s.lines <- scanner.Text()
		}
	}()
	return s
}

// seen gives what has come, once nothing more does. ended says that the watch has.
func (s *sse) seen() (lines []string, ended bool) {
	synctest.Wait()
	for {
		select {
		case l, open := <-s.lines:
			if !open {
				return lines, true
			}
			if l != "" {
				lines = append(lines, l)
			}
		default:
			return lines, false
		}
	}
}

// kinds gives the events that have come, without their data.
func (s *sse) kinds() string {
	lines, ended := s.seen()
	var out []string
	for _, l := range lines {
		if kind, is := strings.CutPrefix(l, "event: "); is {
			out = append(out, kind)
		}
	}
	if ended {
		out = append(out, "ended")
	}
	return strings.Join(out, " ")
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newAPI(t)
		dial := serve(t, api)
		all := openWatch(t, dial("127.0.0.1"), "", "admin", "")
		shop := openWatch(t, dial("127.0.0.1"), "", "shop-reader", "")
		stock := openWatch(t, dial("127.0.0.1"), "?service=stock", "reader", "")
		start, _ := all.seen()
		if all.status != 200 || len(start) != 2 || start[0] != ": watching" || start[1] != "id: "+api.Catalog.Revision().String() {
			t.Fatalf("%d %q", all.status, start)
		}
		must(t, api, 201, "PUT", product+"/p1", `{"address": "127.0.0.1:9000", "protocol": "http"}`)
		lines, _ := all.seen()
		revision := api.Catalog.Revision().String()
		if len(lines) != 3 || lines[0] != "id: "+revision || lines[1] != "event: instance" || !strings.HasPrefix(lines[2], `data: {"revision":"`+revision+`","service":"product","namespace":"default","id":"p1","instance":{"id":"p1",`) {
			t.Errorf("%q", lines)
		}
		must(t, api, 201, "PUT", canaryPath, canary, asYAML)
		must(t, api, 201, "PUT", "/v1/rules/route/star", strings.NewReplacer("canary", "star", "service: product", `service: "*"`).Replace(canary), asYAML)
		must(t, api, 201, "PUT", "/v1/aliases/goods", `{"service": "stock"}`)
		must(t, api, 201, "PUT", "/v1/services/stock/instances/s1?namespace=shop", `{"address": "127.0.0.1:9000", "protocol": "http"}`)
		must(t, api, 204, "DELETE", product+"/p1", "")
		for name, c := range map[string]struct {
			s    *sse
			want string
		}{
			"all":   {all, "rule rule alias instance instance"},
			"shop":  {shop, "instance"},
			"stock": {stock, "rule alias"},
		} {
			if got := c.s.kinds(); got != c.want {
				t.Errorf("%s: %s, want %s", name, got, c.want)
			}
		}
		// What goes over to another service is told to those who watch the one that it left.
		must(t, api, 200, "PUT", canaryPath, strings.Replace(canary, "service: product", "service: stock", 1), asYAML)
		must(t, api, 200, "PUT", canaryPath, canary, asYAML)
		must(t, api, 200, "PUT", "/v1/aliases/goods", `{"service": "product"}`)
		must(t, api, 204, "DELETE", "/v1/aliases/goods", "")
		if got := stock.kinds(); got != "rule rule alias" {
			t.Errorf("stock: %s, want all that came to it or left it", got)
		}
		lines, _ = all.seen()
		if last := lines[len(lines)-1]; !strings.Contains(last, `"removed":"deleted"`) || strings.Contains(last, `"alias":{`) {
			t.Errorf("an alias that is gone: %s", last)
		}
		if a := must(t, api, 200, "GET", "/metrics", ""); !strings.Contains(a.body, "\nweft_registry_watches 3\n") {
			t.Error("no gauge of 3 watches")
		}
	})
}

// A watch that goes on after what it saw misses nothing and sees nothing twice.
func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newAPI(t)
		dial := serve(t, api)
		put := func(i int) {
			must(t, api, 201, "PUT", fmt.Sprintf("%s/p%03d", product, i), `{"address": "127.0.0.1:9000", "protocol": "http"}`)
		}
		last := api.Catalog.Revision().String()
		var got []string
		for round := range 5 {
			s := openWatch(t, dial("127.0.0.1"), "", "reader", last)
			for i := range 10 {
				put(10*round + i)
			}
			lines, _ := s.seen()
			for _, l := range lines {
				if id, is := strings.CutPrefix(l, "id: "); is {
					last = id
				}
				if _, after, is := strings.Cut(l, `"default","id":"`); is {
					got = append(got, after[:4])
				}
			}
			s.conn.Close()
			synctest.Wait()
		}
		for i := range 50 {
			if want := fmt.Sprintf("p%03d", i); i >= len(got) || got[i] != want {
				t.Fatalf("event %d of %v, want %s", i, got, want)
			}
		}
		if len(got) != 50 || api.watches.count() != 0 {
			t.Errorf("%d events; %d watches are counted", len(got), api.watches.count())
		}
		// Another epoch, or what is not known any more, asks for everything anew, and the watch goes on.
		s := openWatch(t, dial("127.0.0.1"), "", "reader", "1-1")
		if got := s.kinds(); got != "reset" {
			t.Error(got)
		}
		put(50)
		if got := s.kinds(); got != "instance" {
			t.Error(got)
		}
		for bad, location := range map[string]string{"soon": "header.Last-Event-ID"} {
			if a := must(t, api, 400, "GET", "/v1/watch", "", "Last-Event-ID: "+bad); !strings.Contains(a.body, location) {
				t.Error(a.body)
			}
		}
		must(t, api, 422, "GET", "/v1/watch?service=a%20b", "")
		must(t, api, 422, "GET", "/v1/watch?namespace=A", "")
	})
}

// The id stands at the last event of a revision: who is cut off between two of them must get both again.
func TestOneIDForARevision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newAPI(t)
		s := openWatch(t, serve(t, api)("127.0.0.1"), "", "reader", "")
		s.seen()
		other := strings.NewReplacer("canary", "stock-canary", "product", "stock").Replace(canary)
		must(t, api, 200, "POST", "/v1/rules", canary+"---"+other, asYAML)
		lines, _ := s.seen()
		if len(lines) != 5 || !strings.HasPrefix(lines[0], "event") || !strings.HasPrefix(lines[2], "id: ") {
			t.Errorf("%q", lines)
		}
	})
}

// An idle watch outlives the timeouts of the server, shows that it lives, and keeps its place.
func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newAPI(t)
		s := openWatch(t, serve(t, api)("127.0.0.1"), "?service=stock", "reader", "")
		s.seen()
		must(t, api, 201, "PUT", product+"/p1", `{"address": "127.0.0.1:9000", "protocol": "http"}`)
		time.Sleep(10 * time.Minute)
		lines, ended := s.seen()
		alive := 0
		for _, l := range lines {
			if l == ": alive" {
				alive++
			}
		}
		if alive != 40 || ended || lines[len(lines)-1] != "id: "+api.Catalog.Revision().String() {
			t.Errorf("%d signs of life, ended %v, %q", alive, ended, lines[len(lines)-1])
		}
	})
}

func TestARevokedTokenEndsItsWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known := newTokens()
		api := newAPIWith(t, store.NewMemory(), Config{Access: known})
		dial := serve(t, api)
		must(t, api, 201, "POST", "/v1/tokens", `{"name": "ci", "role": "reader"}`)
		mine, other := openWatch(t, dial("127.0.0.1"), "", "text-ci", ""), openWatch(t, dial("127.0.0.1"), "", "reader", "")
		known.lock("127.0.0.1", time.Minute) // others guess from here; that ends no watch
		time.Sleep(time.Minute)
		known.mu.Lock()
		delete(known.locked, "127.0.0.1")
		known.mu.Unlock()
		if got := mine.kinds(); got != "" {
			t.Error(got)
		}
		must(t, api, 204, "DELETE", "/v1/tokens/id-ci", "")
		time.Sleep(5 * time.Second)
		if got := mine.kinds(); got != "ended" {
			t.Errorf("5 s after its token was revoked the watch shows %q", got)
		}
		if got := other.kinds(); got != "" { // the control
			t.Error(got)
		}
		must(t, api, 404, "DELETE", "/v1/tokens/id-ci", "")
	})
}

// A reader that stops reading is evicted; it holds up neither the others nor the writers. The controls are one that reads, and a
// server that waits for longer.
func TestAStalledWatchIsEvicted(t *testing.T) {
	for left, patience := range map[int]time.Duration{1: evictAfter, 2: time.Hour} {
		stalledWatch(t, patience, left)
	}
}

// stalledWatch wants so many of two watches to be left, of which one has stopped reading.
func stalledWatch(t *testing.T, patience time.Duration, left int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		api := newAPI(t)
		api.evictAfter = patience
		dial := serve(t, api)
		good := openWatch(t, dial("127.0.0.1"), "", "reader", "")
		stalled := dial("127.0.0.1")
		if _, err := io.WriteString(stalled, "GET /v1/watch HTTP/1.1\r\nHost: registry\r\nAuthorization: Bearer reader\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // a pipe has no buffer: its first byte waits already
		if n := api.watches.count(); n != 2 {
			t.Fatalf("%d watches", n)
		}
		start := time.Now()
		must(t, api, 201, "PUT", product+"/p1", `{"address": "127.0.0.1:9000", "protocol": "http"}`)
		if time.Since(start) != 0 || good.kinds() != "instance" {
			t.Errorf("after %s the other reader has %q", time.Since(start), good.kinds())
		}
		time.Sleep(evictAfter + time.Second)
		synctest.Wait()
		if n := api.watches.count(); n != left {
			t.Errorf("%d watches with a patience of %s, want %d", n, patience, left)
		}
		stalled.Close()
		if got := good.kinds(); got != "" {
			t.Error(got)
		}
	})
}

func TestManyWatches(t *testing.T) {
	w := newWatches()
	for i := range maxWatches {
		if !w.enter(fmt.Sprint("10.0.0.", i/maxWatchesOf)) {
			t.Fatalf("watch %d was refused", i)
		}
	}
	if w.enter("10.0.1.1") {
		t.Error("one more than the bound was let in")
	}
	w.leave("10.0.0.0")
	if w.enter("10.0.0.1") {
		t.Error("one more of an address than the bound was let in")
	}
	if !w.enter("10.0.0.0") {
		t.Error("a place that became free cannot be taken")
	}
	for i := range maxWatches {
		w.leave(fmt.Sprint("10.0.0.", i/maxWatchesOf))
	}
	if w.count() != 0 || len(w.of) != 0 {
		t.Errorf("%d are left, of %d addresses", w.count(), len(w.of))
	}
	api := newAPI(t)
	for range maxWatchesOf {
		api.watches.enter("192.0.2.1")
	}
	if a := must(t, api, 429, "GET", "/v1/watch", ""); a.header.Get("Retry-After") == "" {
		t.Error(a)
	}
}

// script is a catalog whose watch does what a test says.
type script struct {
	calls func(ctx context.Context, call int, after discovery.Revision, fn func([]catalog.Event) error) error
	n     int
}

func (s *script) Revision() discovery.Revision {
	return discovery.Revision{Epoch: 1, Number: uint64(100 + s.n)}
}

func (s *script) Watch(ctx context.Context, after discovery.Revision, fn func([]catalog.Event) error) error {
	s.n++
	return s.calls(ctx, s.n, after, fn)
}

// A watch that cannot keep up is told to start over, but not in a tight loop.
func TestResetsAreSpaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many = 500
		for spacing, want := range map[time.Duration]int{resetSpacing: 11, 0: many} { // the control: as many as can be
			api := newAPI(t)
			api.resetSpacing = spacing
			api.events = &script{calls: func(ctx context.Context, call int, _ discovery.Revision, _ func([]catalog.Event) error) error {
				if call > many {
					<-ctx.Done()
				}
				return catalog.ErrTooOld
			}}
			s := openWatch(t, serve(t, api)("127.0.0.1"), "", "reader", "")
			time.Sleep(10500 * time.Millisecond)
			if got := strings.Count(s.kinds(), "reset"); got != want {
				t.Errorf("%d resets in 10.5 s, want %d", got, want)
			}
		}
	})
}

// A server that stops ends its watches by itself.
func TestCloseEndsWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newAPI(t)
		s := openWatch(t, serve(t, api)("127.0.0.1"), "", "reader", "")
		api.Close()
		if got := s.kinds(); got != "ended" || api.watches.count() != 0 {
			t.Errorf("%q, %d are counted", got, api.watches.count())
		}
	})
}

var _ Access = (*access.Tokens)(nil)
