package peers

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"
)

// consul is a server of one node. It is measured only where WEFT_CONSUL names its binary.
type consul struct {
	*process
	url    string
	client *http.Client
}

// newConsul gives nil without a binary.
func newConsul(t *testing.T) *consul {
	t.Helper()
	bin := os.Getenv("WEFT_CONSUL")
	if bin == "" {
		return nil
	}
	port := strconv.Itoa(freePort(t))
	c := &consul{url: "http://127.0.0.1:" + port, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: writers}, Timeout: 30 * time.Second}}
	t.Cleanup(c.client.CloseIdleConnections)
	args := []string{"agent", "-server", "-bootstrap-expect=1", "-data-dir", t.TempDir(), "-node", "one", "-log-level", "error",
		"-bind", "127.0.0.1", "-client", "127.0.0.1", "-http-port", port, "-dns-port", "-1", "-grpc-port", "-1", "-grpc-tls-port", "-1"}
	for _, flag := range []string{"-server-port", "-serf-lan-port", "-serf-wan-port"} {
		args = append(args, flag, strconv.Itoa(freePort(t)))
	}
	c.process = spawn(t, false, nil, bin, args...)
	eventually(t, "consul has a leader", 60*time.Second, func() error {
		text, err := c.do(t.Context(), http.MethodGet, "/v1/status/leader", nil)
		if err == nil && len(text) < 3 { // "" in JSON
			err = fmt.Errorf("leader: %s", text)
		}
		return err
	})
	return c
}

func (c *consul) do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s: %s", resp.Status, text)
	}
	return text, err
}

// register writes an instance into the catalog.
func (c *consul) register(ctx context.Context, node, service, id string, generation int) error {
	_, err := c.do(ctx, http.MethodPut, "/v1/catalog/register", fmt.Appendf(nil,
		`{"Node":%q,"Address":"10.1.2.3","Service":{"ID":%q,"Service":%q,"Address":"10.1.2.3","Port":8080,"Meta":{"version":"v%d","track":"stable","weight":"%d"}}}`,
		node, id, service, generation%10, 1+generation%10_000))
	return err
}
