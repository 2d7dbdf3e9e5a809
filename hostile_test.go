package weft_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"

	"github.com/weftmesh/weft"
	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/session/sessiontest"
)

// identity makes the key of a registry and its pin.
func identity(t *testing.T) (config *tls.Config, pin string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(parsed.RawSubjectPublicKeyInfo)
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, hex.EncodeToString(sum[:])
}

// puppet is a registry that says what the test tells it to say, at an address of its own and known by its pin.
func puppet(t *testing.T) (server *sessiontest.Server, m *weft.Mesh) {
	t.Helper()
	certificate, pin := identity(t)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server = sessiontest.New(7)
	server.Want = "remote"
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(certificate)))
	weftv1.RegisterSessionServiceServer(g, server)
	go g.Serve(lis)
	t.Cleanup(g.Stop)
	t.Setenv("XDG_CONFIG_HOME", t.TempDir()) // no credential file
	t.Setenv("WEFT_PIN", pin)
	t.Setenv("WEFT_TOKEN", "remote")
	t.Setenv("WEFT_REGISTRY", lis.Addr().String())
	return server, join(t, weft.WithService("web"), weft.WithCacheDir(t.TempDir()))
}

func wireOf(instances ...discovery.Instance) (out []*weftv1.Instance) {
	for _, in := range instances {
		out = append(out, &weftv1.Instance{Id: in.ID, Service: "product", Namespace: "default", Address: in.Address, Protocol: string(in.Protocol), State: "up"})
	}
	return out
}

func retryRule(attempts, revision int) []byte {
	return fmt.Appendf(nil, `{"kind":"Retry","namespace":"default","name":"r","service":"product","spec":{"attempts":%d},"revision":"7-%d"}`, attempts, revision)
}

// Whatever a registry says in whatever field of an update, no call fails, and what it says next is applied.
func TestHostileRegistry(t *testing.T) {
	fleet := newFleet(t, 3)
	server, m := puppet(t)
	good := &weftv1.Update{Service: "product.default", Revision: 1, Snapshot: true, Instances: wireOf(fleet.instances...), HasRules: true}
	server.Push(proto.CloneOf(good))
	calls := &load{stop: make(chan struct{}), repeatable: true}
	calls.run(t, m)
	caller := newHTTPCaller(m)
	extra := wireOf(fleet.instances[0])[0]
	extra.Id, extra.Labels = "extra", map[string]string{"version": "v1"}
	base := &weftv1.Update{Service: "product.default", Epoch: 7, Revision: 2, Instances: []*weftv1.Instance{extra}, HasRules: true, Rules: [][]byte{retryRule(2, 2)}}
	revision, count := uint64(2), 0
	try := func(what string, u *weftv1.Update) {
		count++
		revision += 2
		if u.Revision == 2 {
			u.Revision = revision
		}
		attempts := count%4 + 2
		next := proto.CloneOf(good)
		next.Revision, next.Rules = revision+1, [][]byte{retryRule(attempts, int(revision+1))}
		server.Send(&weftv1.ConnectResponse{Message: &weftv1.ConnectResponse_Update{Update: u}})
		eventually(t, "the good update after "+what, 20*time.Second, func() error {
			server.Push(proto.CloneOf(next))
			var d weft.Decision
			if _, err := caller.call(weft.With(t.Context(), weft.Record(&d)), request{behave: "ok", repeatable: true}); err != nil {
				return err
			}
			if d.Revision != fmt.Sprintf("7-%d", next.Revision) {
				return fmt.Errorf("the plan is of %s", d.Revision)
			}
			return nil
		})
		if first := calls.first.Load(); first != nil {
			t.Fatalf("%d calls failed with %s: %v", calls.failed.Load(), what, *first)
		}
	}
	for what, u := range sessiontest.Hostile(base) {
		try(what, u)
	}
	try("an empty snapshot", &weftv1.Update{Service: "product.default", Epoch: 7, Revision: 2, Snapshot: true, HasRules: true})
	try("a service that is missing", &weftv1.Update{Service: "product.default", Epoch: 7, Revision: 2, Snapshot: true, Missing: true})
	try("two thirds that are gone", &weftv1.Update{Service: "product.default", Epoch: 7, Revision: 2, Snapshot: true, Instances: wireOf(fleet.instances[:2]...)})
	try("an unknown kind of rule", &weftv1.Update{Service: "product.default", Epoch: 7, Revision: 2, HasRules: true, Rules: [][]byte{[]byte(`{"kind":"Quantum","name":"q","service":"product"}`)}})
	if count < 80 {
		t.Errorf("%d updates were tried: want all fields with all values", count)
	}
	close(calls.stop)
	calls.wg.Wait()
	t.Logf("%d updates, %d calls", count, calls.calls.Load())
}

// A registry that was restored from an older backup has another epoch: what it has is older and is applied all the same,
// and nothing newer of the other epoch stays.
func TestOlderBackup(t *testing.T) {
	fleet := newFleet(t, 2)
	server, m := puppet(t)
	update := func(epoch, revision uint64, attempts int) *weftv1.Update {
		return &weftv1.Update{Service: "product.default", Epoch: epoch, Revision: revision, Snapshot: true, Instances: wireOf(fleet.instances...),
			HasRules: true, Rules: [][]byte{retryRule(attempts, int(revision))}}
	}
	server.Push(update(7, 1000, 5))
	caller := newHTTPCaller(m)
	attempts := func() string {
		var d weft.Decision
		if _, err := caller.call(weft.With(t.Context(), weft.Record(&d)), request{behave: "ok"}); err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%s, %d attempts", d.Revision, d.Retry.Attempts)
	}
	if got := attempts(); got != "7-1000, 5 attempts" {
		t.Fatal(got)
	}
	server.Push(update(9, 12, 2))
	eventually(t, "the older rule", 10*time.Second, func() error {
		if got := attempts(); got != "9-12, 2 attempts" {
			return errors.New(got)
		}
		return nil
	})
}
