package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/internal/registry/store"
)

// backup gives one of a server that had one rule.
func backup(t *testing.T) []byte {
	t.Helper()
	s := start(t, config(t, t.TempDir()))
	if code, body := s.call(t, "PUT", "/v1/rules/route/canary", canary); code != 201 {
		t.Fatal(code, body)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	var b bytes.Buffer
	if err := store.Backup(st, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// process is a client that connects again whenever its session ends, and tells the epochs that it was welcomed with.
func process(ctx context.Context, s *running, name string, epochs chan<- uint64) error {
	conn, err := grpc.NewClient(s.GRPCAddr(), grpc.WithTransportCredentials(credentials.NewTLS(pinned(s.Pin()))))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+s.WorkloadToken())
	for ctx.Err() == nil {
		stream, err := weftv1.NewSessionServiceClient(conn).Connect(ctx, grpc.WaitForReady(true))
		if err != nil {
			continue
		}
		_ = stream.Send(&weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Hello{Hello: &weftv1.Hello{Process: name}}})
		for {
			m, err := stream.Recv()
			if err != nil {
				break
			}
			if welcome := m.GetWelcome(); welcome != nil {
				epochs <- welcome.GetEpoch()
			}
		}
	}
	return nil
}

// TestRestoreUnderSessions wants every process back, at another epoch, and REST on its port all the time.
func TestRestoreUnderSessions(t *testing.T) {
	old := backup(t)
	s := start(t, config(t, t.TempDir()))
	if code, body := s.call(t, "PUT", "/v1/rules/route/newer", strings.NewReplacer("canary", "newer", "product", "stock").Replace(canary)); code != 201 {
		t.Fatal(code, body)
	}
	before := [2]string{s.GRPCAddr(), s.HTTPAddr()}
	const processes = 20
	epochs := make(chan uint64, 10*processes)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for i := range processes {
		wg.Go(func() {
			if err := process(ctx, s, fmt.Sprint("p", i), epochs); err != nil {
				t.Error(err)
			}
		})
	}
	first := next(t, epochs, processes)
	if err := s.Restore(t.Context(), bytes.NewReader(old)); err != nil {
		t.Fatal(err)
	}
	second := next(t, epochs, processes)
	if len(first) != 1 || len(second) != 1 || second[0] == first[0] {
		t.Errorf("epochs %v, and after the restore %v; want one each, and not the same", first, second)
	}
	if code, body := s.call(t, "GET", "/v1/rules/route/canary", ""); code != 200 {
		t.Errorf("the rule of the backup: %d %s", code, body)
	}
	if code, _ := s.call(t, "GET", "/v1/rules/route/newer", ""); code != 404 {
		t.Errorf("a rule that the backup does not have: %d", code)
	}
	if after := [2]string{s.GRPCAddr(), s.HTTPAddr()}; after != before {
		t.Errorf("it listens at %v, was %v", after, before)
	}
	if f := readCredential(t, s); f.Token != s.WorkloadToken() {
		t.Errorf("the credential file says %+v", f)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "restore.weftbackup")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the upload is left: %v", err)
	}
}

// next gives the different epochs of the next n welcomes.
func next(t *testing.T, epochs <-chan uint64, n int) (different []uint64) {
	t.Helper()
	seen := map[uint64]bool{}
	deadline := time.After(30 * time.Second)
	for i := range n {
		select {
		case e := <-epochs:
			if !seen[e] {
				seen[e] = true
				different = append(different, e)
			}
		case <-deadline:
			t.Fatalf("%d of %d processes came", i, n)
		}
	}
	return different
}

// What is no backup changes nothing, and one whose restore fails leaves the server as it was.
func TestRestoreRefuses(t *testing.T) {
	good := backup(t)
	s := start(t, config(t, t.TempDir()))
	s.call(t, "PUT", "/v1/rules/route/canary", canary)
	stop := session(t, s)
	defer stop()
	if err := s.Restore(t.Context(), strings.NewReader("no backup")); !errors.Is(err, store.ErrBackup) {
		t.Errorf("no backup: %v", err)
	}
	if err := s.Restore(t.Context(), io.MultiReader(strings.NewReader("half"), broken{})); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a body that ends early: %v", err)
	}
	other := filepath.Join(t.TempDir(), "other")
	if err := errors.Join(os.WriteFile(other, []byte("precious"), 0o600), os.Symlink(other, filepath.Join(s.dir, "restore.weftbackup"))); err != nil {
		t.Fatal(err)
	}
	if err := s.Restore(t.Context(), strings.NewReader("no backup")); !errors.Is(err, store.ErrBackup) {
		t.Errorf("no backup: %v", err)
	}
	if text, err := os.ReadFile(other); string(text) != "precious" {
		t.Errorf("the upload went through a link: %q %v", text, err)
	}
	if entries, _ := filepath.Glob(filepath.Join(s.dir, "restore*")); len(entries) != 0 {
		t.Errorf("left: %v", entries)
	}
	obstacle := filepath.Join(s.dir, "registry.db.restoring", "in the way")
	if err := os.MkdirAll(obstacle, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Restore(t.Context(), bytes.NewReader(good)); err != nil {
		t.Fatal(err)
	}
	if err := s.Restore(t.Context(), strings.NewReader("another")); err == nil || !strings.Contains(err.Error(), "another backup is being restored") && !errors.Is(err, store.ErrBackup) {
		t.Errorf("a second one meanwhile: %v", err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if hello(t, s.GRPCAddr(), s.Pin(), s.WorkloadToken()) == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the server did not go on")
		}
	}
	if code, body := s.call(t, "GET", "/v1/rules/route/canary", ""); code != 200 {
		t.Errorf("what was there: %d %s", code, body)
	}
	if err := start(t, inMemory()).Restore(t.Context(), strings.NewReader("x")); err == nil || !strings.Contains(err.Error(), "in memory") {
		t.Errorf("in memory: %v", err)
	}
}

// broken is a body whose sender has gone.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// What was revoked after the backup stays revoked, what was made after it is gone, and the log says who restored.
func TestTokensAfterARestore(t *testing.T) {
	s := start(t, config(t, t.TempDir()))
	kept, revoked := newToken(t, s, "kept"), newToken(t, s, "revoked")
	code, copied := s.call(t, "GET", "/v1/backup", "")
	if code != 200 {
		t.Fatal(code, copied)
	}
	if code, body := s.call(t, "DELETE", "/v1/tokens/"+revoked.ID, ""); code != 204 {
		t.Fatal(code, body)
	}
	late := newToken(t, s, "late")
	if code, body := s.call(t, "POST", "/v1/restore", copied, "Content-Type: application/octet-stream"); code != 202 {
		t.Fatal(code, body)
	}
	var log string
	for end := time.Now().Add(20 * time.Second); !strings.Contains(log, `"restore"`); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the audit log does not name the restore: %s", log)
		}
		_, log = s.call(t, "GET", "/v1/audit?kind=backup", "")
	}
	if !strings.Contains(log, `"who":"admin","from":"127.0.0.1","action":"restore","kind":"backup","target":"*"`) {
		t.Error(log)
	}
	for token, want := range map[made]int{kept: 200, revoked: 401, late: 401} {
		if code, body := s.call(t, "GET", "/v1/services", "", "Authorization: Bearer "+token.Token); code != want {
			t.Errorf("%s: %d %s, want %d", token.Name, code, body, want)
		}
	}
}

// made is a token as its creation answers.
type made struct{ ID, Name, Token string }

func newToken(t *testing.T, s *running, name string) (m made) {
	t.Helper()
	code, body := s.call(t, "POST", "/v1/tokens", `{"name": "`+name+`", "role": "reader"}`, "Content-Type: application/json")
	if err := json.Unmarshal([]byte(body), &m); err != nil || code != 201 {
		t.Fatal(code, body, err)
	}
	return m
}
