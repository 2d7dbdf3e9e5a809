//go:build unix

package faults

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An acknowledged write survives kill -9 of the registry, and nothing is half applied. Each round storms, kills at a
// random moment, starts the registry on the same data and compares it with everything acknowledged in any round.
func TestKillTheRegistryInAStormOfWrites(t *testing.T) {
	rounds := 5
	if full() {
		rounds = 200
	}
	r, l := newRegistry(t), newLedger()
	for round := range rounds {
		s, before := begin(t, r, l, round), l.count()
		eventually(t, "the storm has begun", 10*time.Second, func() error {
			return errorUnless(l.count() > before+20, "%d writes", l.count()-before)
		})
		time.Sleep(rand.N(500 * time.Millisecond))
		r.kill()
		s.end(t)
		l.killed()
		r.start(t)
		have, err := read(t.Context(), r, l)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if wrong := l.check(have); len(wrong) > 0 || t.Failed() {
			t.Fatalf("round %d: %d things are wrong:\n%s", round, len(wrong), strings.Join(wrong[:min(20, len(wrong))], "\n"))
		}
	}
	t.Logf("%d rounds, %d writes acknowledged, %d rules and instances compared", rounds, l.count(), len(l.entries))
}

// Control: data from before the last acknowledged writes must be found wanting, write by write.
func TestALossIsNoticed(t *testing.T) {
	r, l := newRegistry(t), newLedger()
	settle := func(round int) {
		s := begin(t, r, l, round)
		eventually(t, "writes of all kinds", 20*time.Second, func() error { return l.hasAll(round) })
		r.kill()
		s.end(t)
	}
	settle(0)
	early := filepath.Join(t.TempDir(), "early")
	copyPrivate(t, r.dir, early)
	l.killed()
	r.start(t)
	settle(1)
	l.killed()

	r.start(t)
	have, err := read(t.Context(), r, l)
	if err != nil {
		t.Fatal(err)
	}
	if wrong := l.check(have); len(wrong) > 0 {
		t.Fatalf("the real data are wrong: %s", wrong)
	}
	r.kill()
	old := r.on(early)
	old.start(t)
	if have, err = read(t.Context(), old, l); err != nil {
		t.Fatal(err)
	}
	wrong := strings.Join(l.check(have), "\n")
	for _, want := range []string{"backwards: ", "lost: rule fresh-1-", "lost: rule hot-", "lost: rule pair-1-", "lost: instance plain-", "lost: instance session-"} {
		if !strings.Contains(wrong, want) {
			t.Errorf("old data are not found to be %q", want)
		}
	}
}

// hasAll wants acknowledged writes of every kind in a round.
func (l *ledger) hasAll(round int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, key := range []string{ruleKey(fmt.Sprintf("fresh-%d-0-1", round)), ruleKey("hot-0"), ruleKey(fmt.Sprintf("pair-%d-0-1-a", round)),
		instanceKey("plain-0", fmt.Sprintf("r%d-1", round)), instanceKey("session-0", fmt.Sprintf("s%d-1", round))} {
		if e := l.entries[key]; e == nil || e.acked == 0 {
			return errorUnless(false, "%s is not written yet", key)
		}
	}
	return nil
}

// Control: each thing that can be wrong is found in data made up for it.
func TestTheCheckFindsEachFault(t *testing.T) {
	good := map[string]int{"rule a": 3, "rule b": 3, "rule open": 5}
	for want, spoil := range map[string]func(l *ledger, have map[string]int){
		"":                 func(*ledger, map[string]int) {},
		"lost: rule a":     func(_ *ledger, have map[string]int) { have["rule a"], have["rule b"] = 2, 2 },
		"half applied":     func(_ *ledger, have map[string]int) { have["rule b"] = 4 },
		"invented: rule b": func(_ *ledger, have map[string]int) { have["rule b"] = 5 },
		"invented: nobody": func(_ *ledger, have map[string]int) { have["rule z"] = 1 },
		"resurrected":      func(_ *ledger, have map[string]int) { have["rule deleted"] = 1 },
		"reused":           func(l *ledger, _ map[string]int) { l.try(6, "rule open"); l.ack(6, "1-10", "rule open") },
		"backwards":        func(l *ledger, _ map[string]int) { l.see("1-9") },
		"epoch":            func(l *ledger, _ map[string]int) { l.see("2-11") },
	} {
		l := newLedger()
		l.try(3, "rule a", "rule b")
		l.ack(3, "1-10", "rule a", "rule b")
		l.try(4, "rule a", "rule b") // not acknowledged: 3 or 4, but both the same
		l.notePair("rule a", "rule b")
		l.try(5, "rule open")
		l.try(1, "rule deleted")
		l.try(gone, "rule deleted")
		l.ack(gone, "1-10", "rule deleted")
		l.killed()
		have := map[string]int{}
		maps.Copy(have, good)
		spoil(l, have)
		got := strings.Join(l.check(have), "\n")
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("found %q, want %q", got, want)
		}
	}
}

// copyPrivate copies a data directory, whose files only their owner may read.
func copyPrivate(t *testing.T, from, to string) {
	t.Helper()
	files, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(from, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, f.Name()), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
