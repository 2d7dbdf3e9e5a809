package peers

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// etcd is a server of one node, as it comes but for the size of its backend.
type etcd struct {
	*process
	dir, client, peer string
	trace             bool
}

func newEtcd(t *testing.T, trace bool) *etcd {
	t.Helper()
	e := &etcd{
		dir:    filepath.Join(t.TempDir(), "data"),
		client: fmt.Sprintf("http://127.0.0.1:%d", freePort(t)),
		peer:   fmt.Sprintf("http://127.0.0.1:%d", freePort(t)),
		trace:  trace,
	}
	e.start(t)
	return e
}

func (e *etcd) start(t *testing.T) time.Duration {
	t.Helper()
	bin, err := etcdBinary()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	e.process = spawn(t, e.trace, nil, bin, "--data-dir", e.dir, "--name", "one", "--log-level", "fatal", "--quota-backend-bytes", "8589934592",
		"--listen-client-urls", e.client, "--advertise-client-urls", e.client,
		"--listen-peer-urls", e.peer, "--initial-advertise-peer-urls", e.peer, "--initial-cluster", "one="+e.peer)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	eventually(t, "etcd is ready", 60*time.Second, func() error {
		resp, err := client.Get(e.client + "/health")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("health: %s", resp.Status)
		}
		return nil
	})
	return time.Since(began)
}

// connect gives n clients, each with a connection of its own.
func (e *etcd) connect(t *testing.T, n int) []*clientv3.Client {
	t.Helper()
	all := make([]*clientv3.Client, n)
	for i := range all {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{e.client}, DialTimeout: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		all[i] = c
	}
	return all
}

// grant gives a lease that outlives the test.
func grant(ctx context.Context, c *clientv3.Client) (clientv3.LeaseID, error) {
	l, err := c.Grant(ctx, 3600)
	if err != nil {
		return 0, err
	}
	return l.ID, nil
}

// etcdKey and etcdValue are an instance as people keep it in etcd.
func etcdKey(service, id string) string { return "/services/default/" + service + "/" + id }

func etcdValue(id string, generation int) string {
	return fmt.Sprintf(`{"id":%q,"process":"p","address":"10.1.2.3:8080","protocol":"grpc","weight":%d,"labels":{"version":"v%d","track":"stable"},"locality":{"region":"eu-1","zone":"eu-1a"},"state":"up"}`,
		id, 1+generation%10_000, generation%10)
}
