//go:build unix

package faults

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/weftmesh/weft/discovery"
)

// ledger is what the writers of a storm know: what they tried and what was acknowledged. Everything written has a
// sequence number in its content, which only grows; each key has one writer, so at most one write of it is
// open at a time.
type ledger struct {
	mu      sync.Mutex
	entries map[string]*entry
	pairs   map[[2]string]bool // keys that are written together
	acked   int                // writes
	epoch   uint64
	highest uint64   // revision seen
	before  uint64   // the highest of the registry's earlier lives
	wrong   []string // seen while writing
}

// entry is what is known of one rule or instance. A deletion is a write of the sequence number gone.
type entry struct{ tried, acked int }

// gone is greater than every other sequence number: nothing is written after a deletion.
const gone = 1 << 40

func newLedger() *ledger { return &ledger{entries: map[string]*entry{}, pairs: map[[2]string]bool{}} }

// try notes that seq is about to be written under each of the keys.
func (l *ledger) try(seq int, keys ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range keys {
		if l.entries[k] == nil {
			l.entries[k] = &entry{}
		}
		l.entries[k].tried = seq
	}
}

// ack notes that the write was acknowledged. revision is that of the write, "" if it is not told.
func (l *ledger) ack(seq int, revision string, keys ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range keys {
		l.entries[k].acked = seq
	}
	l.acked++
	if revision == "" {
		return
	}
	if r := l.parse(revision); r.Number <= l.before {
		l.wrong = append(l.wrong, fmt.Sprintf("reused: a new write of %v got revision %s, and %d was seen before the kill", keys, revision, l.before))
	}
}

// see notes the registry's revision, as a reader saw it.
func (l *ledger) see(revision string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.parse(revision); r.Number < l.before {
		l.wrong = append(l.wrong, fmt.Sprintf("backwards: the registry is at %s, and was at %d before the kill", revision, l.before))
	}
}

func (l *ledger) parse(text string) discovery.Revision {
	r, err := discovery.ParseRevision(text)
	if err != nil {
		l.wrong = append(l.wrong, err.Error())
	}
	if l.epoch == 0 {
		l.epoch = r.Epoch
	}
	if r.Epoch != l.epoch {
		l.wrong = append(l.wrong, fmt.Sprintf("epoch: %s is not of epoch %x", text, l.epoch))
	}
	l.highest = max(l.highest, r.Number)
	return r
}

// killed begins the registry's next life.
func (l *ledger) killed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before = l.highest
}

func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acked
}

// check compares the ledger with what the registry has, key to sequence number, and says everything that is wrong.
func (l *ledger) check(have map[string]int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	wrong := slices.Clone(l.wrong)
	for _, key := range slices.Sorted(maps.Keys(l.entries)) {
		e, seq := l.entries[key], have[key]
		deleted := seq == 0 && e.tried == gone
		switch {
		case seq != 0 && e.acked == gone:
			wrong = append(wrong, fmt.Sprintf("resurrected: %s was deleted and is there, with %d", key, seq))
		case seq < e.acked && !deleted:
			wrong = append(wrong, fmt.Sprintf("lost: %s has %d, and %d was acknowledged", key, seq, e.acked))
		case seq > e.tried:
			wrong = append(wrong, fmt.Sprintf("invented: %s has %d, and %d was the last written", key, seq, e.tried))
		}
	}
	for p := range l.pairs {
		if have[p[0]] != have[p[1]] {
			wrong = append(wrong, fmt.Sprintf("half applied: %s has %d and %s has %d", p[0], have[p[0]], p[1], have[p[1]]))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(have)) {
		if l.entries[key] == nil {
			wrong = append(wrong, "invented: nobody wrote "+key)
		}
	}
	return wrong
}

// document is what is read of a rule: its sequence number is in two places, which must agree.
type document struct {
	Kind, Name, Service string
	Spec                struct {
		Subsets map[string]map[string]string
		Rules   []struct {
			Match []struct{ Headers map[string]any }
		}
	}
}

func (d document) seq() (n int, err error) {
	label := d.Spec.Subsets["s"]["seq"]
	var header any
	if len(d.Spec.Rules) == 1 && len(d.Spec.Rules[0].Match) == 1 {
		header = d.Spec.Rules[0].Match[0].Headers["x-seq"]
	}
	if _, err := fmt.Sscan(label, &n); err != nil || header != label || d.Service != d.Name {
		return 0, fmt.Errorf("torn: rule %s of service %s has the label %q and the header %v", d.Name, d.Service, label, header)
	}
	return n, nil
}

// route is the rule of a service of the same name with the sequence number.
func route(name string, seq int) string {
	return fmt.Sprintf(`{"kind": "Route", "name": %q, "service": %q, "spec": {"subsets": {"s": {"seq": "%d"}},
		"rules": [{"match": [{"headers": {"x-seq": "%d"}}], "split": [{"subset": "s"}]}]}}`, name, name, seq, seq)
}

func ruleKey(name string) string { return "rule " + name }

func instanceKey(service, id string) string { return "instance " + service + "/" + id }

// instanceSeq reads the sequence number of an instance, which is in two places too.
func instanceSeq(in discovery.Instance) (n int, err error) {
	if _, err := fmt.Sscan(in.Labels["seq"], &n); err != nil || in.Weight != weightOf(n) {
		return 0, fmt.Errorf("torn: instance %s/%s has the label %q and the weight %d", in.Service, in.ID, in.Labels["seq"], in.Weight)
	}
	return n, nil
}

func weightOf(seq int) int { return 1 + seq%discovery.MaxWeight }

// read gives what the registry has of rules and instances, by key. Instances with a ttl that nobody renews are
// left out: they may go by themselves.
func read(ctx context.Context, r *registry, l *ledger) (map[string]int, error) {
	services, revision, err := list[struct {
		Name      string
		Instances int
	}](ctx, r, "/v1/services")
	if err != nil {
		return nil, err
	}
	l.see(revision.String())
	have := map[string]int{}
	rules, _, err := list[document](ctx, r, "/v1/rules")
	if err != nil {
		return nil, err
	}
	for _, d := range rules {
		if have[ruleKey(d.Name)], err = d.seq(); err != nil {
			return nil, err
		}
	}
	for _, s := range services {
		if s.Instances == 0 || strings.HasPrefix(s.Name, fleeting) {
			continue
		}
		all, err := r.instances(ctx, s.Name)
		if err != nil {
			return nil, err
		}
		for _, in := range all {
			if have[instanceKey(s.Name, in.ID)], err = instanceSeq(in); err != nil {
				return nil, err
			}
		}
	}
	return have, nil
}
