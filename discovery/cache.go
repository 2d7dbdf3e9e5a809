package discovery

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// MaxCacheFile is the largest cache file that is written or read, in bytes.
const MaxCacheFile = 16 << 20

// cacheHeader starts each cache file and names its format; the SHA-256 of the rest follows it on the same line.
const cacheHeader = "weft-cache 1 "

// Cached is the last good state of one service: its instances and its rules at one revision.
type Cached struct {
	Service   string            `json:"service"` // full name, "product.shop"
	Revision  Revision          `json:"revision,omitzero"`
	Instances []Instance        `json:"instances"`
	Alias     string            `json:"alias,omitempty"` // of a service that is another name of this one
	Rules     []json.RawMessage `json:"rules,omitempty"`
	SavedAt   time.Time         `json:"savedAt"`
}

// Cache keeps the last good state of services on disk, one file a service, so that a process which starts
// while its source is away can make calls. Files are replaced atomically and carry a checksum: a crash costs at
// most the newest state. Processes may share a directory as long as they share the source. Safe for
// concurrent use; every method touches the disk, so none belongs on the path of a call.
type Cache struct {
	dir string
}

// OpenCache returns the cache in the directory, which is made with mode 0700 if it is not there.
func OpenCache(dir string) (*Cache, error) {
	if dir == "" {
		return nil, errors.New("cache directory: want a path, have none")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cache directory: %w", err)
	}
	sweep(dir)
	return &Cache{dir: dir}, nil
}

// sweep removes what writers that were killed left behind; an hour is longer than any write takes.
func sweep(dir string) {
	entries, _ := os.ReadDir(dir) // a directory that cannot be listed shows when it is used
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && filepath.Ext(e.Name()) == ".tmp" && time.Since(info.ModTime()) > time.Hour {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// Save replaces the file of the service. A state that needs more than [MaxCacheFile] bytes is refused and the
// older file stays.
func (c *Cache) Save(state Cached) error {
	body, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("cache of %s: %w", state.Service, err)
	}
	sum := sha256.Sum256(body)
	data := fmt.Appendf(nil, "%s%x\n%s", cacheHeader, sum, body)
	if len(data) > MaxCacheFile {
		return fmt.Errorf("cache of %s: %d bytes: want at most %d", state.Service, len(data), MaxCacheFile)
	}
	if err := replaceFile(c.path(state.Service), data); err != nil {
		return fmt.Errorf("cache of %s: %w", state.Service, err)
	}
	return nil
}

// Load returns the state of the service as it was saved last. The error wraps [io/fs.ErrNotExist] when there is
// none; any other says why the file cannot be used, and it is safe to go on without it.
func (c *Cache) Load(service string) (Cached, error) {
	path := c.path(service)
	data, err := readBounded(path)
	if err != nil {
		return Cached{}, err
	}
	state, err := decodeCached(data)
	if err == nil && state.Service != service {
		err = fmt.Errorf("is of service %q, not %q", state.Service, service)
	}
	if err != nil {
		return Cached{}, fmt.Errorf("cache file %s: %w", path, err)
	}
	return state, nil
}

// path gives a service's file. A name that might not be a file name everywhere is replaced by its hash.
func (c *Cache) path(service string) string {
	for part := range strings.SplitSeq(service, ".") {
		if !IsLabel(part) {
			sum := sha256.Sum256([]byte(service))
			return filepath.Join(c.dir, "_"+hex.EncodeToString(sum[:16])+".cache")
		}
	}
	return filepath.Join(c.dir, service+".cache")
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxCacheFile+1))
	if err == nil && len(data) > MaxCacheFile {
		err = fmt.Errorf("cache file %s: more than %d bytes", path, MaxCacheFile)
	}
	return data, err
}

// decodeCached reads the content of a cache file.
func decodeCached(data []byte) (Cached, error) {
	head, body, _ := bytes.Cut(data, []byte("\n"))
	sum, ok := bytes.CutPrefix(head, []byte(cacheHeader))
	if !ok {
		return Cached{}, fmt.Errorf("its first line does not start with %q: another version or no cache file", cacheHeader)
	}
	if want := sha256.Sum256(body); string(sum) != hex.EncodeToString(want[:]) {
		return Cached{}, errors.New("its checksum does not match: damaged")
	}
	var state Cached
	if err := json.Unmarshal(body, &state); err != nil {
		return Cached{}, err
	}
	state.Instances = sorted(state.Instances)
	for i := range state.Instances {
		if state.Instances[i].ID == "" || i > 0 && state.Instances[i].ID == state.Instances[i-1].ID {
			return Cached{}, fmt.Errorf("instance %d: id %q: want one, and each once", i, state.Instances[i].ID)
		}
	}
	return state, nil
}

// replaceFile makes or replaces a file of mode 0600: readers see the old content or the new, never a part, also
// after a power cut, which is when caches are needed most.
func replaceFile(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "*.tmp") // its mode is 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
