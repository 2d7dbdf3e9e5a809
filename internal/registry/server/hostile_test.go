package server_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// heap is what is in use after a collection, in MiB.
func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc >> 20)
}

// sampled runs f and gives the most goroutines and MiB of heap that were seen above what was there before.
func sampled(f func()) (goroutines, mib int) {
	beforeG, beforeM := runtime.NumGoroutine(), heap()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				goroutines = max(goroutines, runtime.NumGoroutine()-beforeG)
				mib = max(mib, heap()-beforeM)
			}
		}
	})
	f()
	close(stop)
	wg.Wait()
	return goroutines, mib
}

func zipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	w.Close()
	return b.String()
}

// TestHostileBodies sends what costs a careless reader memory or time, over and over, and wants each refused, the memory
// bounded, and other calls answered all the while.
func TestHostileBodies(t *testing.T) {
	s := start(t, inMemory())
	const asYAML, rules, rule = "Content-Type: application/yaml", "/v1/rules", "/v1/rules/route/canary"
	var laughs strings.Builder
	laughs.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x]\n")
	for i := range 30 {
		fmt.Fprintf(&laughs, "a%d: &a%d [%s]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*a%d, ", i), 8)+fmt.Sprintf("*a%d", i))
	}
	for _, c := range []struct {
		name, method, path, body string
		headers                  []string
		want                     []int
	}{
		{"a megabyte of objects", "POST", rules, strings.Repeat("{},", 1<<20/3) + "{}", []string{asJSON}, []int{413}},
		{"what fits of it", "POST", rules, strings.Repeat("{},", 80_000) + "{}", []string{asJSON}, []int{400, 413, 422}},
		{"a list of them", "POST", rules, "[" + strings.Repeat("{},", 80_000) + "{}]", []string{asJSON}, []int{400, 413, 422}},
		{"documents of YAML", "POST", rules, strings.Repeat("---\n{}\n", 36_000), []string{asYAML}, []int{400, 413, 422}},
		{"deep JSON", "PUT", rule, strings.Repeat("[", 200_000), []string{asJSON}, []int{413}},
		{"deep objects", "PUT", rule, strings.Repeat(`{"spec":`, 25_000), []string{asJSON}, []int{400, 422}},
		{"deep JSON of an instance", "PUT", "/v1/services/product/instances/p1", `{"labels":` + strings.Repeat("[", 200_000), []string{asJSON}, []int{400, 422}},
		{"deep YAML", "PUT", rule, strings.Repeat("[", 200_000), []string{asYAML}, []int{400, 413, 422}},
		{"deep YAML by lines", "PUT", rule, strings.Repeat("- ", 100_000), []string{asYAML}, []int{400, 413, 422}},
		{"a billion laughs", "PUT", rule, laughs.String(), []string{asYAML}, []int{400, 413, 422}},
		{"zipped", "PUT", rule, zipped(t, strings.Repeat(" ", 16<<20)), []string{asJSON, "Content-Encoding: gzip"}, []int{400, 415}},
		{"zipped YAML", "PUT", rule, zipped(t, canary+strings.Repeat("#", 16<<20)), []string{asYAML, "Content-Encoding: gzip"}, []int{400, 415}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, mib := sampled(func() {
				for range 4 {
					code, body := s.call(t, c.method, c.path, c.body, c.headers...)
					if !slices.Contains(c.want, code) {
						t.Fatalf("status %d, want one of %v: %.300s", code, c.want, body)
					}
					if len(body) > 64<<10 {
						t.Errorf("the answer has %d bytes", len(body))
					}
					if code, _ := s.call(t, "GET", "/v1/services", ""); code != 200 {
						t.Errorf("a call meanwhile: %d", code)
					}
				}
			})
			if mib > 128 {
				t.Errorf("%d MiB more are in use, want at most 128", mib)
			}
		})
	}
}

func TestHeaderFloods(t *testing.T) {
	s := start(t, inMemory())
	for name, header := range map[string]string{
		"many":  strings.Repeat("X-Flood: x\r\n", 100_000),
		"long":  "X-Flood: " + strings.Repeat("x", 1<<20) + "\r\n",
		"never": strings.Repeat("X-Flood: x\r\n", 200_000),
	} {
		conn, err := net.Dial("tcp", s.HTTPAddr())
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		go func() { // the server closes before all is sent
			_, _ = io.WriteString(conn, "GET /readyz HTTP/1.1\r\nHost: weft\r\n"+header+"\r\n")
		}()
		answer, err := io.ReadAll(conn)
		conn.Close()
		if err == nil && !strings.HasPrefix(string(answer), "HTTP/1.1 431 ") {
			t.Errorf("%s: answered by %.100q", name, answer)
		}
		if isTimeout(err) {
			t.Errorf("%s: it is still being read after 20 s", name)
		}
		if code, _ := s.call(t, "GET", "/readyz", ""); code != 200 {
			t.Errorf("%s: then a call is answered by %d", name, code)
		}
	}
}

// TestSlowloris holds hundreds of half requests: other calls are answered, and the half ones are cut off.
func TestSlowloris(t *testing.T) {
	s := start(t, inMemory())
	const halves = 500
	conns := make([]net.Conn, halves)
	goroutines, mib := sampled(func() {
		for i := range conns {
			conn, err := net.Dial("tcp", s.HTTPAddr())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, "PUT /v1/rules/route/canary HTTP/1.1\r\nHost: weft\r\nX-Slow: "); err != nil {
				t.Fatal(err)
			}
			conns[i] = conn
		}
		for i := range 50 {
			if code, _ := s.call(t, "GET", "/v1/services", ""); code != 200 {
				t.Errorf("call %d beside them: %d", i, code)
			}
		}
		for i, conn := range conns { // ReadHeaderTimeout is 5 s
			conn.SetReadDeadline(time.Now().Add(30 * time.Second))
			if _, err := io.ReadAll(conn); isTimeout(err) {
				t.Fatalf("half request %d is still waited for after 30 s", i)
			}
		}
	})
	if goroutines > 2*halves || mib > 64 {
		t.Errorf("%d goroutines and %d MiB more, want at most %d and 64", goroutines, mib, 2*halves)
	}
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// attack is a connection that speaks HTTP/2 by frames.
type attack struct {
	conn   net.Conn
	framer *http2.Framer
	block  []byte // of headers
}

func newAttack(address, path string) (*attack, error) {
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
	conn, err := (&tls.Dialer{Config: config}).DialContext(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	a := &attack{conn: conn, framer: http2.NewFramer(conn, conn)}
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for _, h := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":path", path}, {":authority", "weft"}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
		if err := enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
			return nil, err
		}
	}
	a.block = b.Bytes()
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return nil, err
	}
	go func() { _, _ = io.Copy(io.Discard, conn) }() // ends with the connection
	return a, a.framer.WriteSettings()
}

// resets opens streams and takes each back at once, until the server has enough of it or n were sent.
func (a *attack) resets(n int) (sent int) {
	for id := uint32(1); sent < n; id += 2 {
		err := a.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: a.block, EndHeaders: true})
		if err == nil {
			err = a.framer.WriteRSTStream(id, http2.ErrCodeCancel)
		}
		if err != nil {
			return sent
		}
		sent++
	}
	return sent
}

// TestRapidReset opens and resets streams as fast as the server reads, at both ports.
func TestRapidReset(t *testing.T) {
	c := config(t, t.TempDir())
	c.HTTPAddr = "0.0.0.0:0" // hence TLS, hence HTTP/2
	s := start(t, c)
	_, port, _ := net.SplitHostPort(s.HTTPAddr())
	for _, target := range []struct {
		name, address, path string
		legitimate          func() error
	}{
		{"sessions", s.GRPCAddr(), "/weft.v1.SessionService/Connect", func() error { return hello(t, s.GRPCAddr(), s.Pin(), s.WorkloadToken()) }},
		{"REST", "127.0.0.1:" + port, "/v1/services", func() error { return getTLS(t, s, s.Pin(), nil) }},
	} {
		t.Run(target.name, func(t *testing.T) {
			total := 0
			goroutines, mib := sampled(func() {
				var wg sync.WaitGroup
				defer wg.Wait()
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				wg.Go(func() {
					for ctx.Err() == nil {
						a, err := newAttack(target.address, target.path)
						if err != nil {
							continue
						}
						release := context.AfterFunc(ctx, func() { a.conn.Close() })
						total += a.resets(20_000)
						release()
						a.conn.Close()
					}
				})
				for i := range 15 {
					if err := target.legitimate(); err != nil {
						t.Errorf("legitimate call %d: %v", i, err)
					}
				}
			})
			t.Logf("%d streams were reset", total)
			if total < 100 {
				t.Errorf("only %d streams were reset: this was no attack", total)
			}
			if goroutines > 1000 || mib > 64 {
				t.Errorf("%d goroutines and %d MiB more, want at most 1000 and 64", goroutines, mib)
			}
		})
	}
}
