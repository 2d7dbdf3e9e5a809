package catalog

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/store"
	"github.com/weftmesh/weft/rule"
)

// The bounds of the history.
const (
	maxVersions     = 100      // of a rule
	maxHistoryBytes = 64 << 20 // of all versions, as they are stored
	historyOverhead = 128      // bytes that a version counts beside its value
)

// RuleDeleted is the outcome of a version that removed the rule.
const RuleDeleted Outcome = "deleted"

// Version is one revision of a rule.
type Version struct {
	Revision discovery.Revision
	At       time.Time
	By       string
	Outcome  Outcome   // Created, Configured or RuleDeleted
	Rule     rule.Rule // as it was written; zero if it was deleted
}

// storedVersion is the value of a version. Its revision is in the key.
type storedVersion struct {
	At      time.Time       `json:"at"`
	By      string          `json:"by,omitempty"`
	Outcome Outcome         `json:"outcome"`
	Rule    json.RawMessage `json:"rule,omitempty"`
}

// History gives the versions of a rule, the newest first, at most 100; nil if there never was one. It outlasts the rule.
// Of all rules together 64 MiB are kept: then the oldest go. It reads the store.
func (c *Catalog) History(key rule.Key) ([]Version, error) {
	prefix := versionPrefix(key)
	var out []Version
	err := c.st.Range(prefix, func(e store.Entry) error {
		if len(e.Key) != len(prefix)+16 { // of another rule, whose name goes on after a slash
			return nil
		}
		v, err := c.decodeVersion(e)
		if err != nil {
			return fmt.Errorf("the stored value of %q cannot be read: %w (%w)", e.Key, store.ErrCorrupt, err)
		}
		out = append(out, v)
		return nil
	})
	slices.Reverse(out)
	return out, err
}

func (c *Catalog) decodeVersion(e store.Entry) (Version, error) {
	_, number, err := splitVersionKey(e.Key)
	if err != nil {
		return Version{}, err
	}
	var s storedVersion
	if err := json.Unmarshal(e.Value, &s); err != nil {
		return Version{}, err
	}
	v := Version{Revision: c.at(number), At: s.At, By: s.By, Outcome: s.Outcome}
	if s.Outcome != RuleDeleted {
		v.Rule, err = rule.ParseOne(s.Rule)
		v.Rule.Revision = v.Revision.String() // what was written before a restore says the epoch of then
	}
	return v, err
}

func versionPrefix(k rule.Key) string {
	return historyPrefix + k.Namespace + "/" + string(k.Kind) + "/" + k.Name + "/"
}

func versionKey(k rule.Key, revision uint64) string {
	return versionPrefix(k) + fmt.Sprintf("%016x", revision)
}

// splitVersionKey reads what versionKey wrote. The name of a rule may hold a slash.
func splitVersionKey(key string) (rule.Key, uint64, error) {
	parts := strings.SplitN(strings.TrimPrefix(key, historyPrefix), "/", 3)
	if len(parts) != 3 {
		return rule.Key{}, 0, errors.New("want h/namespace/kind/name/revision")
	}
	slash := strings.LastIndexByte(parts[2], '/')
	number, err := strconv.ParseUint(parts[2][slash+1:], 16, 64)
	if slash < 1 || err != nil || len(parts[2]) != slash+17 {
		return rule.Key{}, 0, errors.New("want a name and a revision of 16 hexadecimal digits at the end of the key")
	}
	return rule.Key{Namespace: parts[0], Kind: rule.Kind(parts[1]), Name: parts[2][:slash]}, number, nil
}

// version is what memory knows of a stored version.
type version struct {
	revision uint64
	bytes    int
}

// history knows which versions are stored, oldest first, so that the oldest can be dropped without reading.
type history struct {
	versions map[rule.Key][]version
	bytes    int
	most     int // bytes
}

func newHistory() history {
	return history{versions: make(map[rule.Key][]version), most: maxHistoryBytes}
}

func (h *history) load(e store.Entry) error {
	key, revision, err := splitVersionKey(e.Key)
	if err == nil {
		v := version{revision, historyOverhead + len(e.Value)}
		h.versions[key] = append(h.versions[key], v)
		h.bytes += v.bytes
	}
	return err
}

// recordVersion adds a stored version to the history of a rule.
func (d *draft) recordVersion(b *store.Batch, key rule.Key, value []byte, revision uint64) {
	b.Put(versionKey(key, revision), value)
	v := version{revision, historyOverhead + len(value)}
	d.setVersions(key, append(slices.Clip(d.versions(key)), v))
	if vs := d.versions(key); len(vs) > maxVersions {
		d.dropVersions(b, key, len(vs)-maxVersions)
	}
}

func (d *draft) versions(key rule.Key) []version {
	if vs, ok := d.history.versions[key]; ok {
		return vs
	}
	return d.c.history.versions[key]
}

func (d *draft) setVersions(key rule.Key, vs []version) {
	d.history.bytes += sumBytes(vs) - sumBytes(d.versions(key))
	d.history.versions[key] = vs
}

func sumBytes(vs []version) (n int) {
	for _, v := range vs {
		n += v.bytes
	}
	return n
}

// dropVersions removes the oldest n of a rule.
func (d *draft) dropVersions(b *store.Batch, key rule.Key, n int) {
	vs := d.versions(key)
	for _, v := range vs[:n] {
		b.Delete(versionKey(key, v.revision))
	}
	d.setVersions(key, vs[n:])
}

// pruneHistory keeps all versions together within their bound: a sixteenth of it goes at once, so that looking for the
// oldest is rare.
func (d *draft) pruneHistory(b *store.Batch) {
	if d.history.bytes <= d.history.most {
		return
	}
	type candidate struct {
		key rule.Key
		version
	}
	var all []candidate
	for _, key := range d.historyKeys() {
		for _, v := range d.versions(key) {
			all = append(all, candidate{key, v})
		}
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.revision, b.revision), compareKeys(a.key, b.key))
	})
	for _, v := range all {
		if d.history.bytes <= d.history.most-d.history.most/16 {
			return
		}
		d.dropVersions(b, v.key, 1)
	}
}

func (d *draft) historyKeys() (keys []rule.Key) {
	for key := range d.c.history.versions {
		keys = append(keys, key)
	}
	for key := range d.history.versions {
		if _, ok := d.c.history.versions[key]; !ok {
			keys = append(keys, key)
		}
	}
	return keys
}

// publish takes over what a draft recorded.
func (h *history) publish(d *history) {
	for key, vs := range d.versions {
		if len(vs) == 0 {
			delete(h.versions, key)
		} else {
			h.versions[key] = vs
		}
	}
	h.bytes = d.bytes
}
