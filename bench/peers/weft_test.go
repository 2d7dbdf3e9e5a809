package peers

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
)

// weft is a registry server of ours.
type weft struct {
	*process
	dir, grpc, http string
	admin, workload string
	creds           credentials.TransportCredentials
	client          *http.Client
	trace           bool
}

func newWeft(t *testing.T, trace bool) *weft {
	t.Helper()
	w := &weft{
		dir:   filepath.Join(t.TempDir(), "data"),
		grpc:  fmt.Sprintf("127.0.0.1:%d", freePort(t)),
		http:  fmt.Sprintf("127.0.0.1:%d", freePort(t)),
		trace: trace,
	}
	w.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: writers}, Timeout: 30 * time.Second}
	t.Cleanup(w.client.CloseIdleConnections)
	w.start(t)
	w.readCredentials(t)
	return w
}

// start starts the server and gives the time until it was ready.
func (w *weft) start(t *testing.T) time.Duration {
	t.Helper()
	bin, err := registryBinary()
	if err != nil {
		t.Fatal(err)
	}
	w.client.CloseIdleConnections()
	config := t.TempDir() // its credential file is nobody's business
	began := time.Now()
	w.process = spawn(t, w.trace, []string{"XDG_CONFIG_HOME=" + config}, bin, "--data-dir", w.dir, "--grpc-addr", w.grpc, "--http-addr", w.http, "--log-level", "warn")
	eventually(t, "the registry server is ready", 60*time.Second, func() error {
		resp, err := w.client.Get("http://" + w.http + "/readyz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s, %w", resp.Status, err)
		}
		return nil
	})
	return time.Since(began)
}

func (w *weft) readCredentials(t *testing.T) {
	t.Helper()
	admin, err1 := os.ReadFile(filepath.Join(w.dir, "admin.token"))
	workload, err2 := os.ReadFile(filepath.Join(w.dir, "workload.token"))
	certificate, err3 := os.ReadFile(filepath.Join(w.dir, "server.pem"))
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	w.admin, w.workload = string(bytes.TrimSpace(admin)), string(bytes.TrimSpace(workload))
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(certificate) {
		t.Fatal("server.pem has no certificate")
	}
	w.creds = credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: "localhost"})
}

// put writes by REST.
func (w *weft) put(ctx context.Context, path, body string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+w.http+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+w.admin)
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s: %s", resp.Status, text)
	}
	return err
}

// window is the SDK's, at both ends.
const window = 64 << 10

// sdkOptions are those with which the SDK dials.
func sdkOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithStaticStreamWindowSize(window), grpc.WithStaticConnWindowSize(window),
		grpc.WithReadBufferSize(4 << 10), grpc.WithWriteBufferSize(4 << 10),
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(),
	}
}

// session is the client's end of a session, on a connection of its own.
type session struct {
	weftv1.SessionService_ConnectClient
	conn    *grpc.ClientConn
	process string
	seq     uint64

	sending sync.Mutex
}

// Send may be called by many.
func (s *session) Send(m *weftv1.ConnectRequest) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	return s.SessionService_ConnectClient.Send(m)
}

// keepAlive renews sessions until the test ends, as SDKs do.
func keepAlive(t *testing.T, sessions ...*session) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	t.Cleanup(func() { cancel(); <-ended })
	go func() {
		defer close(ended)
		for {
			for _, s := range sessions {
				if s.renew() != nil {
					return
				}
			}
			select {
			case <-time.After(3 * time.Second):
			case <-ctx.Done():
				return
			}
		}
	}()
}

// connect opens a session, up to the Welcome.
func connect(ctx context.Context, addr string, creds credentials.TransportCredentials, token, process, service string, options []grpc.DialOption) (*session, error) {
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	conn, err := grpc.NewClient("passthrough:///"+addr, append(options, grpc.WithTransportCredentials(creds), grpc.WithContextDialer(dialFromMany))...)
	if err != nil {
		return nil, err
	}
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	stream, err := weftv1.NewSessionServiceClient(conn).Connect(ctx)
	if err == nil {
		err = stream.Send(&weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Hello{Hello: &weftv1.Hello{Process: process, Service: service, Namespace: "default"}}})
	}
	if err == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &session{SessionService_ConnectClient: stream, conn: conn, process: process}, nil
}

// dialFromMany takes one of eight loopback addresses to come from: the server bounds the sessions of one address.
func dialFromMany(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+rand.IntN(8)))}}
	return d.DialContext(ctx, "tcp", addr)
}

func (w *weft) connect(ctx context.Context, process, service string) (*session, error) {
	return connect(ctx, w.grpc, w.creds, w.workload, process, service, sdkOptions())
}

// connectMany opens sessions, some at a time, and closes them with the test.
func connectMany(t *testing.T, n int, open func(i int) (*session, error)) []*session {
	t.Helper()
	all := make([]*session, n)
	err := inParallel(32, n, func(i int) (err error) {
		all[i], err = open(i)
		return err
	})
	t.Cleanup(func() { closeAll(all) })
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func closeAll(all []*session) {
	_ = inParallel(32, len(all), func(i int) error {
		if all[i] != nil {
			all[i].conn.Close()
		}
		return nil
	})
}

// register announces instances and waits until they are on disk. A server that is too busy is asked again, as the SDK does.
func (s *session) register(instances ...*weftv1.Instance) error {
	for {
		s.seq++
		err := s.Send(&weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Register{Register: &weftv1.Register{Seq: s.seq, Instances: instances}}})
		if err == nil {
			err = s.awaitResult()
		}
		if !errors.Is(err, errBusy) {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// errBusy is a refusal that is not for long.
var errBusy = errors.New("the server is busy")

// deregister takes instances away.
func (s *session) deregister(ids ...string) error {
	s.seq++
	err := s.Send(&weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Deregister{Deregister: &weftv1.Deregister{Seq: s.seq, Ids: ids}}})
	if err != nil {
		return err
	}
	return s.awaitResult()
}

func (s *session) awaitResult() error {
	for {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		if r := m.GetResult(); r.GetSeq() >= s.seq {
			if len(r.GetRefusals()) == 0 {
				return nil
			}
			if first := r.GetRefusals()[0]; first.GetCode() != "unavailable" {
				return fmt.Errorf("refused: %v", first)
			}
			return errBusy
		}
	}
}

func (s *session) renew() error {
	return s.Send(&weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Renew{Renew: &weftv1.Renew{}}})
}

// instance has what an instance usually has; its weight makes one generation differ from the next. Labels are those of a
// release, so that many instances have the same.
func (s *session) instance(service, id string, generation int) *weftv1.Instance {
	return &weftv1.Instance{
		Id: id, Service: service, Namespace: "default", Process: s.process, Address: "10.1.2.3:8080", Protocol: "grpc", Weight: uint32(1 + generation%10_000),
		Labels: map[string]string{"version": fmt.Sprintf("v%d", generation%10), "track": "stable"}, Region: "eu-1", Zone: "eu-1a", State: "up",
	}
}
