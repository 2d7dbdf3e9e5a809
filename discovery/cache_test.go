package discovery

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func state() Cached {
	return Cached{
		Service: "product.shop", Revision: Revision{31, 42},
		Instances: []Instance{{ID: "a", Address: "10.0.0.1:80", Protocol: GRPC, Labels: map[string]string{"version": "v1"}, Locality: Locality{Zone: "z"}, State: Suspect}},
		Rules:     []json.RawMessage{json.RawMessage(`{"kind":"Retry"}`)},
		SavedAt:   time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC),
	}
}

func open(t *testing.T, dir string) *Cache {
	c, err := OpenCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCacheGivesBackWhatWasSaved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "weft", "cache")
	c := open(t, dir)
	if _, err := c.Load("product.shop"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing saved: error %v, want fs.ErrNotExist", err)
	}
	for _, service := range []string{"product.shop", "../../etc", "legacy:1", "A.b", strings.Repeat("x", 300)} {
		want := state()
		want.Service = service
		if err := c.Save(want); err != nil {
			t.Fatal(err)
		}
		got, err := open(t, dir).Load(service)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%q: %s", service, d)
		}
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 5 {
		t.Errorf("%d files, want one a service", len(entries))
	}
}

func TestCacheFilesAreTheUsersOwn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	c := open(t, dir)
	if err := c.Save(state()); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{dir: 0o700, c.path("product.shop"): 0o600} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v; want %v", path, info.Mode().Perm(), err, want)
		}
	}
}

func TestCacheIgnoresWhatItCannotTrust(t *testing.T) {
	c := open(t, t.TempDir())
	if err := c.Save(state()); err != nil {
		t.Fatal(err)
	}
	path := c.path("product.shop")
	good, _ := os.ReadFile(path)
	signed := func(body string) []byte {
		return fmt.Appendf(nil, "%s%x\n%s", cacheHeader, sha256.Sum256([]byte(body)), body)
	}
	for name, data := range map[string][]byte{
		"empty":           nil,
		"cut":             good[:len(good)-1],
		"flipped":         append(good[:len(good)-9:len(good)-9], append([]byte{'!'}, good[len(good)-8:]...)...),
		"another version": []byte(strings.Replace(string(good), "weft-cache 1", "weft-cache 2", 1)),
		"no JSON":         signed("{"),
		"another service": signed(`{"service":"stock.shop"}`),
		"bad revision":    signed(`{"service":"product.shop","revision":"x"}`),
		"no id":           signed(`{"service":"product.shop","instances":[{}]}`),
		"an id twice":     signed(`{"service":"product.shop","instances":[{"id":"a"},{"id":"b"},{"id":"a"}]}`),
		"too large":       make([]byte, MaxCacheFile+1),
	} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := c.Load("product.shop")
		if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v, want one that names the file", name, err)
		}
		if d := cmp.Diff(Cached{}, got); d != "" {
			t.Errorf("%s: gave something: %s", name, d)
		}
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Load("product.shop"); err != nil {
		t.Errorf("control: %v", err)
	}
}

func TestCacheRefusesWhatIsTooLarge(t *testing.T) {
	c := open(t, t.TempDir())
	if err := c.Save(state()); err != nil {
		t.Fatal(err)
	}
	large := state()
	large.Rules = append(large.Rules, json.RawMessage(`"`+strings.Repeat("x", MaxCacheFile)+`"`))
	if err := c.Save(large); err == nil {
		t.Error("a state beyond the bound was saved")
	}
	got, err := c.Load("product.shop")
	if err != nil || len(got.Rules) != 1 {
		t.Errorf("the older state is gone: %v", err)
	}
}

func TestOpenCacheSweepsAndRefuses(t *testing.T) {
	dir := t.TempDir()
	old, young := filepath.Join(dir, "1.tmp"), filepath.Join(dir, "2.tmp")
	for _, path := range []string{old, young} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(old, long, long); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old leftover: %v, want it gone", err)
	}
	if _, err := os.Stat(young); err != nil {
		t.Errorf("somebody's write in progress: %v", err)
	}
	if _, err := OpenCache(""); err == nil {
		t.Error("no directory: no error")
	}
	if _, err := OpenCache(filepath.Join(young, "x")); err == nil {
		t.Error("a directory below a file: no error")
	}
}

func FuzzCache(f *testing.F) {
	body, _ := json.Marshal(state())
	f.Add(body, true)
	f.Add([]byte(cacheHeader), false)
	f.Add([]byte(`{"instances":[{"id":"a"},{"id":""}],"rules":[1]}`), true)
	f.Fuzz(func(t *testing.T, data []byte, sign bool) {
		if sign {
			data = fmt.Appendf(nil, "%s%x\n%s", cacheHeader, sha256.Sum256(data), data)
		}
		got, err := decodeCached(data)
		if err != nil {
			return
		}
		for i, in := range got.Instances {
			if in.ID == "" || i > 0 && got.Instances[i-1].ID >= in.ID {
				t.Errorf("instances not sorted, or one without an id: %q", ids(got.Instances))
			}
		}
		if _, err := json.Marshal(got); err != nil {
			t.Errorf("what was read cannot be written: %v", err)
		}
	})
}
