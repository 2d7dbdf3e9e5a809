package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// registry makes a call to the registry server's REST interface and decodes the answer into out.
func (w *world) registry(ctx context.Context, method, path, body string, out any) error {
	token, err := os.ReadFile(filepath.Join(w.dir, "data", "admin.token"))
	if err != nil {
		return err
	}
	header := http.Header{"Authorization": {"Bearer " + strings.TrimSpace(string(token))}}
	if body != "" {
		header.Set("Content-Type", "application/yaml")
	}
	return request(ctx, method, "http://"+w.httpAddr+path, header, body, out)
}

// web makes a call to the web process.
func (w *world) web(ctx context.Context, method, path string, header http.Header, out any) error {
	return request(ctx, method, "http://"+w.webAddr+path, header, "", out)
}

func request(ctx context.Context, method, url string, header http.Header, body string, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	if header != nil {
		req.Header = header
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, url, resp.Status, text)
	}
	switch out := out.(type) {
	case nil:
		return nil
	case *string:
		*out = string(text)
		return nil
	}
	return json.Unmarshal(text, out)
}

// instance is what this program needs of an instance.
type instance struct {
	ID       string            `json:"id"`
	Address  string            `json:"address"`
	Protocol string            `json:"protocol"`
	Labels   map[string]string `json:"labels"`
	State    string            `json:"state"`
}

func (w *world) instances(ctx context.Context, service string) ([]instance, error) {
	var list struct{ Items []instance }
	err := w.registry(ctx, http.MethodGet, "/v1/services/"+service+"/instances", "", &list)
	return list.Items, err
}

// tally is what the web process counts.
type tally struct {
	Versions  map[string]int `json:"versions"`
	Instances map[string]int `json:"instances"`
	Failed    int            `json:"failed"`
	Error     string         `json:"error"`
}

func (t tally) total() (n int) {
	for _, v := range t.Versions {
		n += v
	}
	return n + t.Failed
}

// calls lets the web process call product; query is such as "via=grpc&n=100".
func (w *world) calls(ctx context.Context, query string) (t tally, err error) {
	if err := w.web(ctx, http.MethodGet, "/calls?"+query, nil, &t); err != nil {
		return t, err
	}
	if t.Failed > 0 {
		return t, fmt.Errorf("%d of %d calls failed, the first with: %s", t.Failed, t.total(), t.Error)
	}
	return t, nil
}
