package registry

import (
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/rule"
)

// maxText bounds each text of a nack, in bytes.
const maxText = 1 << 10

// ruleSet is the rules of one update that could be read. It is immutable.
type ruleSet struct {
	rules  map[rule.Key]document
	unread []rule.Nack // those that could not
}

type document struct {
	rule rule.Rule
	text json.RawMessage
}

// readRules reads each document for itself: one that cannot be read, or is of a kind unknown to this SDK, is refused,
// and the version that old has of it stays.
func readRules[T ~[]byte](old ruleSet, texts []T) ruleSet {
	next := ruleSet{rules: make(map[rule.Key]document, len(texts))}
	for _, text := range texts {
		r, err := rule.ParseOne(text)
		if err == nil {
			err = r.Validate()
		}
		if err == nil {
			next.rules[r.Key()] = document{r, json.RawMessage(text)}
			continue
		}
		next.unread = append(next.unread, nackOf(r, err))
		if last, ok := old.rules[r.Key()]; ok {
			next.rules[r.Key()] = last
		}
	}
	return next
}

func nackOf(r rule.Rule, err error) rule.Nack {
	reason := err.Error()
	if errors.Is(err, rule.ErrUnknownKind) {
		reason = "unsupported: " + reason
	}
	key := r.Key()
	return rule.Nack{Kind: key.Kind, Namespace: key.Namespace, Name: key.Name, Revision: r.Revision, Reason: reason}
}

// list returns the rules in a fixed order.
func (s ruleSet) list() []rule.Rule {
	out := make([]rule.Rule, 0, len(s.rules))
	for _, key := range sortedKeys(s.rules) {
		out = append(out, s.rules[key].rule)
	}
	return out
}

func (s ruleSet) texts() []json.RawMessage {
	var out []json.RawMessage
	for _, key := range sortedKeys(s.rules) {
		out = append(out, s.rules[key].text)
	}
	return out
}

func sortedKeys[V any](m map[rule.Key]V) []rule.Key {
	return slices.SortedFunc(maps.Keys(m), func(a, b rule.Key) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
}

// ruleWatcher is one WatchRules: it joins the rules of its services.
type ruleWatcher struct {
	apply func([]rule.Rule) []rule.Nack

	mu    sync.Mutex // also makes the calls of apply one at a time; taken with an entry's held
	wants int
	parts map[string][]rule.Rule // by service
	epoch uint64                 // of the rules that came last
}

// set takes the rules of one service and returns the refused ones among them. Nothing is applied before the rules
// of all services are known.
func (w *ruleWatcher) set(service string, epoch uint64, set ruleSet) (refused []rule.Nack) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.parts[service] = set.list()
	w.epoch = epoch
	if len(w.parts) < w.wants {
		return nil
	}
	for _, n := range w.apply(w.union()) {
		if _, ours := set.rules[rule.Rule{Kind: n.Kind, Namespace: n.Namespace, Name: n.Name}.Key()]; ours {
			refused = append(refused, n)
		}
	}
	return refused
}

// union has each rule once: a rule for all services comes with each of them, and of its versions the newest counts. After a
// restore of the registry that is the one of its present epoch, though its number be smaller.
func (w *ruleWatcher) union() []rule.Rule {
	newest := map[rule.Key]rule.Rule{}
	for _, part := range w.parts {
		for _, r := range part {
			if have, ok := newest[r.Key()]; !ok || w.older(have, r) {
				newest[r.Key()] = r
			}
		}
	}
	out := make([]rule.Rule, 0, len(newest))
	for _, key := range sortedKeys(newest) {
		out = append(out, newest[key])
	}
	return out
}

// older reports whether rule a is to give way to b.
func (w *ruleWatcher) older(a, b rule.Rule) bool {
	at, _ := discovery.ParseRevision(a.Revision)
	bt, _ := discovery.ParseRevision(b.Revision)
	if at.Epoch != bt.Epoch && (at.Epoch == w.epoch || bt.Epoch == w.epoch) {
		return bt.Epoch == w.epoch
	}
	return at.Number < bt.Number
}

func wireNacks(nacks []rule.Nack) (out []*weftv1.Nack) {
	for _, n := range nacks {
		out = append(out, &weftv1.Nack{
			Kind: clip(string(n.Kind)), Namespace: clip(n.Namespace), Name: clip(n.Name), Revision: clip(n.Revision), Reason: clip(n.Reason),
		})
	}
	return out
}

func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxText)], "") }
