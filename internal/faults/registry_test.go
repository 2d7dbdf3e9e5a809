//go:build unix

package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/credential"
)

// registry is a registry server in a process of its own, which can be killed and started again on the same ports and
// the same data.
type registry struct {
	*process
	binary     func() (string, error)
	flags      []string
	dir        string // its data
	grpc, http string // its addresses
	client     *http.Client
}

// newRegistry starts a registry on an empty directory.
func newRegistry(t *testing.T) *registry {
	t.Helper()
	return startRegistry(t, serverBinary)
}

// startRegistry starts another binary, or with more flags.
func startRegistry(t *testing.T, binary func() (string, error), flags ...string) *registry {
	t.Helper()
	r := &registry{binary: binary, flags: flags, dir: filepath.Join(t.TempDir(), "data"), grpc: freeAddr(t), http: freeAddr(t)}
	r.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: 30 * time.Second}
	t.Cleanup(r.client.CloseIdleConnections)
	r.start(t)
	return r
}

// on is the same registry on other data. Only one of both can run at a time.
func (r *registry) on(dir string) *registry {
	other := *r
	other.dir = dir
	return &other
}

// start starts the process and waits until it is ready.
func (r *registry) start(t *testing.T) {
	t.Helper()
	bin, err := r.binary()
	if err != nil {
		t.Fatal(err)
	}
	r.client.CloseIdleConnections()
	r.process = spawn(t, "registry", exec.Command(bin, append(r.flags, "--data-dir", r.dir, "--grpc-addr", r.grpc, "--http-addr", r.http)...))
	eventually(t, "the registry is ready", 20*time.Second, func() error {
		if !r.running() {
			t.Fatalf("the registry does not start: %s", r.said())
		}
		_, err := r.call(t.Context(), http.MethodGet, "/readyz", "", nil)
		return err
	})
}

// credentials are what a process that has no credential file is given.
func (r *registry) credentials(t *testing.T) credential.File {
	t.Helper()
	_, port, err := net.SplitHostPort(r.grpc)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	file, err := credential.Read(n)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// freeAddr finds a loopback port below those that the system gives to clients, so that it is still free when a process
// that was killed on it comes back.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 100 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(20_000+rand.IntN(12_000)))
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatal("100 ports are all in use")
	return ""
}

// refusal is an answer that is not 2xx. Any other error means that there was no answer.
type refusal struct {
	status int
	body   string
}

func (r *refusal) Error() string { return fmt.Sprintf("status %d: %s", r.status, r.body) }

// call makes a REST call and decodes the answer into out. It returns the revision in the answer's ETag, if it has one.
func (r *registry) call(ctx context.Context, method, path, body string, out any) (etag string, err error) {
	return r.callWith(ctx, method, path, body, nil, out)
}

func (r *registry) callWith(ctx context.Context, method, path, body string, headers map[string]string, out any) (etag string, err error) {
	resp, err := r.send(ctx, method, path, body, headers)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode >= 300 {
		return "", &refusal{resp.StatusCode, string(data)}
	}
	if out != nil {
		err = json.Unmarshal(data, out)
	}
	return strings.Trim(resp.Header.Get("ETag"), `"`), err
}

// send makes a REST call with the administrator's token and gives the answer as it is.
func (r *registry) send(ctx context.Context, method, path, body string, headers map[string]string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+r.http+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+r.token())
	req.Header.Set("Content-Type", "application/json")
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	return r.client.Do(req)
}

// token is the administrator's; "" while there is none.
func (r *registry) token() string {
	token, _ := os.ReadFile(filepath.Join(r.dir, "admin.token"))
	return strings.TrimSpace(string(token))
}

// list reads all pages of a list, and its revision.
func list[T any](ctx context.Context, r *registry, path string) (all []T, revision discovery.Revision, err error) {
	after := ""
	for {
		var page struct {
			Items    []T
			Next     string
			Revision discovery.Revision
		}
		if _, err := r.call(ctx, http.MethodGet, path+"?limit=10000&after="+url.QueryEscape(after), "", &page); err != nil {
			return nil, revision, err
		}
		all, revision, after = append(all, page.Items...), page.Revision, page.Next
		if after == "" {
			return all, revision, nil
		}
	}
}

// instances lists the instances of a service; a service that does not exist has none.
func (r *registry) instances(ctx context.Context, service string) ([]discovery.Instance, error) {
	all, _, err := list[discovery.Instance](ctx, r, "/v1/services/"+service+"/instances")
	var no *refusal
	if errors.As(err, &no) && no.status == http.StatusNotFound {
		err = nil
	}
	return all, err
}

// states gives the state of each instance of a service, by id.
func (r *registry) states(ctx context.Context, service string) (map[string]discovery.State, error) {
	all, err := r.instances(ctx, service)
	states := map[string]discovery.State{}
	for _, in := range all {
		states[in.ID] = in.State
	}
	return states, err
}
