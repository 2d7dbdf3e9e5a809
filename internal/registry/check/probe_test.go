package check

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
)

// local may connect to 127.0.0.1 and to no other address of loopback.
func local() *prober {
	return newProber(Options{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
}

// ask probes an instance with a timeout that is never reached by an instance that answers.
func ask(t *testing.T, p *prober, in discovery.Instance, check catalog.Check) error {
	t.Helper()
	if check.Timeout == 0 {
		check.Timeout = 20 * time.Second
	}
	ctx, cancel := context.WithTimeout(t.Context(), check.Timeout)
	defer cancel()
	return p.probe(ctx, catalog.Checked{Instance: in, Check: check})
}

func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lis.Close() })
	return lis
}

func isDenied(err error) bool {
	var denied *deniedError
	return errors.As(err, &denied)
}

// TestDenied: each kind of check is refused towards loopback, by address and by name, before anything is sent, and made
// if it is allowed.
func TestDenied(t *testing.T) {
	lis := listen(t, "127.0.0.1:0")
	accepted := make(chan string, 100)
	go func() {
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			accepted <- conn.RemoteAddr().String()
			conn.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(lis.Addr().String())
	open := newProber(Options{})
	open.guard.off = true
	each := func(do func(kind, host string, in discovery.Instance)) {
		for _, host := range []string{"127.0.0.1", "localhost", "::ffff:127.0.0.1"} {
			for _, kind := range []string{"tcp", "http", "grpc"} {
				do(kind, host, discovery.Instance{Address: net.JoinHostPort(host, port), Protocol: discovery.HTTP})
			}
		}
	}
	each(func(kind, host string, in discovery.Instance) {
		if err := ask(t, newProber(Options{}), in, catalog.Check{Type: kind}); !isDenied(err) {
			t.Errorf("%s to %s: %v, want it denied", kind, host, err)
		}
	})
	conn, err := net.Dial("tcp", lis.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if first := <-accepted; first != conn.LocalAddr().String() {
		t.Error("a check that is denied has connected")
	}
	each(func(kind, host string, in discovery.Instance) {
		for name, p := range map[string]*prober{"control": open, "allowed": local()} {
			err := ask(t, p, in, catalog.Check{Type: kind})
			if name == "allowed" && host == "localhost" {
				continue // ::1 may come first
			}
			if isDenied(err) || kind == "tcp" && err != nil {
				t.Errorf("%s: %s to %s: %v", name, kind, host, err)
			}
		}
	})
}

// TestOwnListener: the server is not made to talk to itself.
func TestOwnListener(t *testing.T) {
	lis := listen(t, "127.0.0.1:0")
	own := netip.MustParseAddrPort(lis.Addr().String())
	p := newProber(Options{Own: []netip.AddrPort{own}})
	p.guard.hosts = hosts("127.0.0.1/8")
	if reason := p.guard.reason(own); reason == "" {
		t.Error("want it denied")
	}
	if err := ask(t, local(), discovery.Instance{Address: own.String()}, catalog.Check{Type: "tcp"}); err != nil {
		t.Errorf("allowed: %v", err)
	}
}

func TestTCP(t *testing.T) {
	lis := listen(t, "127.0.0.1:0")
	in := discovery.Instance{Address: lis.Addr().String()}
	if err := ask(t, local(), in, catalog.Check{Type: "tcp"}); err != nil {
		t.Error(err)
	}
	lis.Close()
	if err := ask(t, local(), in, catalog.Check{Type: "tcp"}); err == nil || isDenied(err) {
		t.Errorf("closed: %v", err)
	}
	if err := ask(t, local(), in, catalog.Check{Type: "icmp"}); err == nil || !strings.Contains(err.Error(), "icmp") {
		t.Errorf("unknown type: %v", err)
	}
}

func TestHTTP(t *testing.T) {
	mux := http.NewServeMux()
	for path, code := range map[string]int{"/200": 200, "/204": 204, "/304": 304, "/302": 302, "/400": 400, "/404": 404, "/500": 500, "/503": 503} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/500")
			http.SetCookie(w, &http.Cookie{Name: "c", Value: "v"})
			if r.Method != http.MethodGet || r.UserAgent() != "weft-registry" || len(r.Cookies()) > 0 {
				code = http.StatusTeapot
			}
			w.WriteHeader(code)
		})
	}
	mux.HandleFunc("/query", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "a=b" {
			w.WriteHeader(500)
		}
	})
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	srv := httptest.NewServer(mux)
	defer srv.Close()
	in := discovery.Instance{Address: srv.Listener.Addr().String(), Protocol: discovery.HTTP}
	p := local()
	for path, want := range map[string]string{
		"/200": "", "/204": "", "/304": "", "/302": "", "/query?a=b": "",
		"/400": "400", "/404": "404", "/500": "500", "/503": "503", "": "404", "/panic": "EOF",
		"no": "want a path", "http://example.com/": "want a path", "/\r\nX: y": "want a path", "//example.com/": "", // a path of this server, which redirects
	} {
		for range 2 { // the second would bring the cookie
			err := ask(t, p, in, catalog.Check{Type: "http", Path: path})
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v, want %q", path, err, want)
			}
		}
	}
}

// TestRedirect: a redirect is an answer, and nobody goes where it leads. Even if one went, the guard stands there too.
func TestRedirect(t *testing.T) {
	var hits atomic.Int32
	secret := &httptest.Server{Listener: listen(t, "127.0.0.2:0"), Config: &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) })}}
	secret.Start()
	defer secret.Close()
	front := httptest.NewServer(http.RedirectHandler("http://"+secret.Listener.Addr().String(), http.StatusFound))
	defer front.Close()
	in := discovery.Instance{Address: front.Listener.Addr().String()}
	for _, tt := range []struct {
		name           string
		redirects, off bool
		err, hit       bool
	}{
		{"as it is", false, false, false, false},
		{"control: follows redirects", true, false, true, false},
		{"control: and there is no guard", true, true, false, true},
	} {
		hits.Store(0)
		p := local()
		p.redirects, p.guard.off = tt.redirects, tt.off
		err := ask(t, p, in, catalog.Check{Type: "http"})
		if (err != nil) != tt.err || isDenied(err) != tt.err || (hits.Load() > 0) != tt.hit {
			t.Errorf("%s: %v, %d hits", tt.name, err, hits.Load())
		}
	}
}

// TestNoProxy: the environment's proxy would be asked instead of the instance, and would connect to anything.
func TestNoProxy(t *testing.T) {
	if local().transport(discovery.Instance{}).Proxy != nil {
		t.Error("the transport has a proxy")
	}
}

// TestEndlessBody: 64 KiB are read, and that is that. The status counts.
func TestEndlessBody(t *testing.T) {
	var sent atomic.Int64
	ended := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		defer close(ended)
		for piece := make([]byte, 64<<10); ; {
			n, err := w.Write(piece)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}))
	defer srv.Close()
	if err := ask(t, local(), discovery.Instance{Address: srv.Listener.Addr().String()}, catalog.Check{Type: "http"}); err != nil {
		t.Error(err)
	}
	<-ended
	if sent.Load() > 64<<20 { // what lies in socket buffers is the system's
		t.Errorf("it could send %d bytes", sent.Load())
	}
}

// TestEndlessHeader: an answer that never gets to its body is no answer, and takes no memory.
func TestEndlessHeader(t *testing.T) {
	lis := listen(t, "127.0.0.1:0")
	go func() {
		conn, err := lis.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			return
		}
		io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
		for {
			if _, err := io.WriteString(conn, "X: "+strings.Repeat("y", 4096)+"\r\n"); err != nil {
				return
			}
		}
	}()
	err := ask(t, local(), discovery.Instance{Address: lis.Addr().String()}, catalog.Check{Type: "http"})
	if err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want it refused", err)
	}
}

// TestTimeout: whoever takes a connection and says nothing fails, and in time.
func TestTimeout(t *testing.T) {
	lis := listen(t, "127.0.0.1:0")
	for _, kind := range []string{"http", "grpc"} {
		began := time.Now()
		err := ask(t, local(), discovery.Instance{Address: lis.Addr().String()}, catalog.Check{Type: kind, Timeout: 100 * time.Millisecond})
		if err == nil || !strings.Contains(err.Error(), "no answer within 100ms") {
			t.Errorf("%s: %v", kind, err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s took %v", kind, took)
		}
	}
}

func TestOtherHTTP(t *testing.T) {
	var major atomic.Int32
	handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { major.Store(int32(r.ProtoMajor)) })
	for _, tt := range []struct {
		name       string
		tls, http2 bool
		want       int32
	}{{"h1", false, false, 1}, {"https", true, false, 1}, {"h2", true, true, 2}, {"h2c", false, true, 2}} {
		srv := httptest.NewUnstartedServer(handler)
		srv.EnableHTTP2 = true
		srv.Config.Protocols = new(http.Protocols)
		srv.Config.Protocols.SetHTTP1(true)
		srv.Config.Protocols.SetHTTP2(true)
		srv.Config.Protocols.SetUnencryptedHTTP2(true)
		if srv.Start(); tt.tls {
			srv.Close()
			srv = httptest.NewUnstartedServer(handler)
			srv.EnableHTTP2 = true
			srv.StartTLS()
		}
		in := discovery.Instance{Address: srv.Listener.Addr().String(), TLS: tt.tls, HTTP2: tt.http2}
		if err := ask(t, local(), in, catalog.Check{Type: "http"}); err != nil || major.Load() != tt.want {
			t.Errorf("%s: %v, HTTP/%d", tt.name, err, major.Load())
		}
		srv.Close()
	}
}

func TestGRPC(t *testing.T) {
	for _, secure := range []bool{false, true} {
		status := health.NewServer()
		status.SetServingStatus("up", healthv1.HealthCheckResponse_SERVING)
		status.SetServingStatus("down", healthv1.HealthCheckResponse_NOT_SERVING)
		srv := grpc.NewServer()
		healthv1.RegisterHealthServer(srv, status)
		lis := listen(t, "127.0.0.1:0")
		address := lis.Addr().String()
		if secure {
			cert := httptest.NewUnstartedServer(nil)
			cert.StartTLS()
			lis = tls.NewListener(lis, &tls.Config{Certificates: cert.TLS.Certificates, NextProtos: []string{"h2"}})
			cert.Close()
		}
		go srv.Serve(lis)
		for service, want := range map[string]string{"": "", "up": "", "down": "NOT_SERVING", "other": "NotFound"} {
			err := ask(t, local(), discovery.Instance{Address: address, TLS: secure}, catalog.Check{Type: "grpc", Service: service})
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("secure %v, %q: %v, want %q", secure, service, err, want)
			}
		}
		srv.Stop()
	}
}

// TestRebinding: a name that resolves to an address that is allowed, and then to another, gets nowhere by that.
func TestRebinding(t *testing.T) {
	lis := listen(t, "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(lis.Addr().String())
	other := listen(t, "127.0.0.2:"+port)
	var hits atomic.Int32
	go func() {
		for {
			conn, err := other.Accept()
			if err != nil {
				return
			}
			hits.Add(1)
			conn.Close()
		}
	}()
	for _, off := range []bool{false, true} {
		var asked atomic.Int32
		p := local()
		p.guard.off = off
		p.names = answering(func() [4]byte {
			if asked.Add(1) == 1 {
				return [4]byte{127, 0, 0, 1}
			}
			return [4]byte{127, 0, 0, 2}
		})
		in := discovery.Instance{Address: "rebind.example.com.:" + port}
		if err := ask(t, p, in, catalog.Check{Type: "tcp"}); err != nil {
			t.Fatalf("the first time: %v", err)
		}
		err := ask(t, p, in, catalog.Check{Type: "tcp"})
		if isDenied(err) == off || off && err != nil {
			t.Errorf("guard off %v, the second time: %v", off, err)
		}
		if !off && hits.Load() > 0 {
			t.Error("it was connected to")
		}
	}
}

// TestResolvedWithTheTimeout: a name server that says nothing does not hold a check.
func TestResolvedWithTheTimeout(t *testing.T) {
	p := local()
	p.names = func(context.Context, string, string) (net.Conn, error) {
		a, b := net.Pipe()
		go func() {
			defer b.Close()
			io.Copy(io.Discard, b)
		}()
		return a, nil
	}
	began := time.Now()
	err := ask(t, p, discovery.Instance{Address: "slow.example.com.:80"}, catalog.Check{Type: "http", Timeout: 100 * time.Millisecond})
	if err == nil || time.Since(began) > 10*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

// answering connects to a name server in memory, which knows one IPv4 address for every name.
func answering(address func() [4]byte) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		a, b := net.Pipe()
		go func() {
			defer b.Close()
			var size [2]byte
			for {
				if _, err := io.ReadFull(b, size[:]); err != nil {
					return
				}
				query := make([]byte, binary.BigEndian.Uint16(size[:]))
				if _, err := io.ReadFull(b, query); err != nil {
					return
				}
				answer := reply(query, address)
				if _, err := b.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
					return
				}
			}
		}()
		return a, nil
	}
}

// reply answers a question for an address of type A, and says of any other that there is none.
func reply(query []byte, address func() [4]byte) []byte {
	end := 12
	for query[end] != 0 {
		end += 1 + int(query[end])
	}
	end += 5
	answer := append([]byte{}, query[:end]...)
	answer[2], answer[3] = 0x84, 0                     // an authoritative response
	copy(answer[4:12], []byte{0, 1, 0, 0, 0, 0, 0, 0}) // one question
	if binary.BigEndian.Uint16(query[end-4:]) == 1 {
		ip := address()
		answer[7] = 1
		answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		answer = append(answer, ip[:]...)
	}
	return answer
}
