//go:build unix

package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/weftmesh/weft/discovery"
	sdk "github.com/weftmesh/weft/discovery/registry"
	"github.com/weftmesh/weft/rule"
)

// An older backup is restored while the registry runs: every process goes back to the rules of the backup, none keeps a
// newer one, and each announces its instance again under the same id.
func TestAnOlderBackupIsRestored(t *testing.T) {
	r := newRegistry(t)
	put := func(name string, seq int) {
		t.Helper()
		if _, err := r.call(t.Context(), http.MethodPut, "/v1/rules/route/"+name, route(name, seq), nil); err != nil {
			t.Fatal(err)
		}
	}
	put("changed", 1)
	put("deleted", 1)
	backup := r.backup(t)
	_, before, err := list[struct{}](t.Context(), r, "/v1/rules")
	if err != nil {
		t.Fatal(err)
	}
	var readers [8]*reader
	for i := range readers {
		readers[i] = newReader(t, r, fmt.Sprintf("reader-%d", i))
	}
	put("changed", 2)
	put("added", 2)
	if _, err := r.call(t.Context(), http.MethodDelete, "/v1/rules/route/deleted", "", nil); err != nil {
		t.Fatal(err)
	}
	all := func(what string, want map[string]int) {
		t.Helper()
		eventually(t, what, 30*time.Second, func() error {
			for _, reader := range readers {
				if err := reader.has(want); err != nil {
					return err
				}
			}
			return nil
		})
	}
	all("all have the newer rules", map[string]int{"changed": 2, "added": 2})

	r.restore(t, backup)
	all("all have the rules of the backup", map[string]int{"changed": 1, "deleted": 1})
	_, after, err := list[struct{}](t.Context(), r, "/v1/rules")
	if err != nil || after.Epoch == before.Epoch {
		t.Errorf("the epoch is %x before and %x after: %v", before.Epoch, after.Epoch, err)
	}
	eventually(t, "all instances are there again", 30*time.Second, func() error {
		states, err := r.states(t.Context(), "reader")
		for _, reader := range readers {
			if states[reader.id] != discovery.Up {
				return fmt.Errorf("states are %v: %v", states, err)
			}
		}
		return err
	})
	put("changed", 3)
	all("changes reach all as before", map[string]int{"changed": 3, "deleted": 1})
}

// A backup that was cut short, or changed on its way, is refused and changes nothing.
func TestABadBackupIsRefused(t *testing.T) {
	r := newRegistry(t)
	if _, err := r.call(t.Context(), http.MethodPut, "/v1/rules/route/a", route("a", 1), nil); err != nil {
		t.Fatal(err)
	}
	good := r.backup(t)
	flipped := []byte(good)
	flipped[len(flipped)/2] ^= 1
	for what, bad := range map[string]string{"empty": "", "short": good[:len(good)-1], "flipped": string(flipped), "text": "hello"} {
		_, err := r.call(t.Context(), http.MethodPost, "/v1/restore", bad, nil)
		if no, ok := errors.AsType[*refusal](err); !ok || no.status < 400 || no.status >= 500 {
			t.Errorf("%s: %v, want a refusal", what, err)
		}
	}
	var doc document
	if _, err := r.call(t.Context(), http.MethodGet, "/v1/rules/route/a", "", &doc); err != nil || doc.Name != "a" {
		t.Errorf("the rule is %+v: %v", doc, err)
	}
}

func (r *registry) backup(t *testing.T) string {
	t.Helper()
	resp, err := r.send(t.Context(), http.MethodGet, "/v1/backup", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("backup: %s: %v", resp.Status, err)
	}
	return string(data)
}

// restore restores a backup and waits until the registry is ready again.
func (r *registry) restore(t *testing.T, backup string) {
	t.Helper()
	resp, err := r.send(t.Context(), http.MethodPost, "/v1/restore", backup, map[string]string{"Content-Type": "application/octet-stream"})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusAccepted {
		t.Fatalf("restore: %s: %s", resp.Status, text)
	}
	eventually(t, "the registry is ready again", 20*time.Second, func() error {
		_, err := r.call(t.Context(), http.MethodGet, "/v1/services", "", nil)
		return err
	})
}

// reader is a process with an instance that follows the rules of some services.
type reader struct {
	id string

	mu    sync.Mutex
	rules map[string]int // sequence numbers by name
}

func newReader(t *testing.T, r *registry, id string) *reader {
	t.Helper()
	source, err := sdk.New(sdk.Options{Addrs: []string{r.grpc}, Service: "reader"})
	if err != nil {
		t.Fatal(err)
	}
	w := &reader{id: id}
	if _, err := source.Register(t.Context(), discovery.Instance{ID: id, Address: "127.0.0.1:9", Protocol: discovery.GRPC}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		source.WatchRules(ctx, []string{"changed.default", "deleted.default", "added.default"}, w.apply)
	}()
	t.Cleanup(func() { cancel(); <-ended; source.Close() })
	return w
}

func (w *reader) apply(rules []rule.Rule) []rule.Nack {
	have := map[string]int{}
	for _, r := range rules {
		text, err := json.Marshal(r)
		if err != nil {
			continue
		}
		var d document
		if json.Unmarshal(text, &d) == nil {
			have[d.Name], _ = d.seq()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rules = have
	return nil
}

func (w *reader) has(want map[string]int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return errorUnless(fmt.Sprint(w.rules) == fmt.Sprint(want), "%s has %v, want %v", w.id, w.rules, want)
}
