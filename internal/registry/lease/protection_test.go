package lease

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/store"
)

// crowd is many instances, each with its own session; it runs in a bubble.
type crowd struct {
	*fixture
	log     *bytes.Buffer
	holders map[catalog.InstanceKey]*Holder
	cut     map[catalog.InstanceKey]bool
	renewed time.Time
}

func (c *crowd) add(service string, n int) (keys []catalog.InstanceKey) {
	c.t.Helper()
	ins := make([]discovery.Instance, n)
	for i := range n {
		ins[i] = discovery.Instance{ID: fmt.Sprintf("%s-%03d", service, i), Service: service, Address: "10.0.0.1:80", Protocol: discovery.HTTP}
		key := catalog.KeyOf(ins[i])
		keys = append(keys, key)
		c.holders[key] = c.Hold(SessionTTL)
		c.holders[key].Add(key)
	}
	if _, err := c.cat.PutOwned(c.t.Context(), ins, SessionTTL); err != nil {
		c.t.Fatal(err)
	}
	return keys
}

// live lets time pass in which everybody who is not cut off renews.
func (c *crowd) live(d time.Duration) {
	for end := time.Now().Add(d); ; c.renewed = time.Now() {
		next := c.renewed.Add(RenewEvery(SessionTTL))
		if next.After(end) {
			time.Sleep(time.Until(end))
			synctest.Wait()
			return
		}
		time.Sleep(time.Until(next))
		for key, h := range c.holders {
			if !c.cut[key] {
				h.Renew()
			}
		}
	}
}

func (c *crowd) silence(keys []catalog.InstanceKey, closed bool) {
	for _, key := range keys {
		c.cut[key] = true
		if closed {
			c.holders[key].Lost()
		}
	}
}

// reconnect is what an SDK does: a new session that registers the same instances.
func (c *crowd) reconnect(keys []catalog.InstanceKey) {
	for _, key := range keys {
		delete(c.cut, key)
		c.holders[key] = c.Hold(SessionTTL)
		c.holders[key].Add(key)
	}
}

func (c *crowd) states(service string) map[discovery.State]int {
	synctest.Wait()
	info, _ := c.cat.Service(discovery.Name{Service: service, Namespace: "default"})
	if info.States == nil {
		return map[discovery.State]int{}
	}
	return info.States
}

func (c *crowd) expect(service string, up, suspect, unhealthy int) {
	c.t.Helper()
	s := c.states(service)
	if s[discovery.Up] != up || s[discovery.Suspect] != suspect || s[discovery.Unhealthy] != unhealthy {
		c.t.Errorf("%s: %v, want %d up, %d suspect, %d unhealthy", service, s, up, suspect, unhealthy)
	}
}

func gathering(t *testing.T, test func(*crowd)) {
	synctest.Test(t, func(t *testing.T) {
		st := &flaky{Memory: store.NewMemory()}
		cat, err := catalog.Open(st, nil)
		if err != nil {
			t.Fatal(err)
		}
		log := &bytes.Buffer{}
		f := &fixture{t: t, st: st, cat: cat, Leases: New(cat, slog.New(slog.NewTextHandler(log, nil)))}
		defer f.stop()
		test(&crowd{f, log, make(map[catalog.InstanceKey]*Holder), make(map[catalog.InstanceKey]bool), time.Now()})
	})
}

// off switches something off for the control of a test.
func (c *crowd) off(seam func(*Leases)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	seam(c.Leases)
}

// TestHowManyMaySilentlyGo is the table of who is gone and who is protected.
func TestHowManyMaySilentlyGo(t *testing.T) {
	for _, tt := range []struct {
		silent, of int
		protected  bool
	}{
		{1, 3, false},
		{9, 9, false}, // too small a set to tell
		{3, 10, false},
		{4, 10, true},
		{1, 100, false},
		{10, 100, false},
		{15, 100, false},
		{16, 100, true},
		{60, 100, true},
		{100, 100, true},
	} {
		for _, closed := range []bool{true, false} {
			for _, off := range []bool{false, true} { // true: the control
				t.Run(fmt.Sprintf("%d of %d,closed=%v,off=%v", tt.silent, tt.of, closed, off), func(t *testing.T) {
					gathering(t, func(c *crowd) {
						c.off(func(l *Leases) { l.unprotected = off })
						keys := c.add("product", tt.of)
						c.live(10 * time.Second)
						c.silence(keys[:tt.silent], closed)
						c.live(2 * time.Second)
						if closed {
							c.expect("product", tt.of-tt.silent, tt.silent, 0)
						}
						c.live(7 * time.Second)
						c.expect("product", tt.of-tt.silent, tt.silent, 0)
						c.live(6500 * time.Millisecond)
						if tt.protected && !off {
							c.live(time.Hour)
							c.expect("product", tt.of-tt.silent, tt.silent, 0)
							return
						}
						c.expect("product", tt.of-tt.silent, 0, tt.silent)
						c.live(15 * time.Second)
						c.expect("product", tt.of-tt.silent, 0, 0)
					})
				})
			}
		}
	}
}

// TestCutOff: 30 % of the clients, then all, are cut off for longer than any lease, and come back. Nobody is removed.
func TestCutOff(t *testing.T) {
	for _, off := range []bool{false, true} {
		gathering(t, func(c *crowd) {
			c.off(func(l *Leases) { l.unprotected = off })
			var keys []catalog.InstanceKey
			for i := range 10 {
				keys = append(keys, c.add(fmt.Sprintf("s%d", i), 5)...) // none of them could protect itself
			}
			c.live(10 * time.Second)
			c.silence(keys[:15], true)
			c.live(time.Minute)
			c.silence(keys, false)
			c.live(5 * time.Minute)
			left := len(c.cat.Leased())
			if off {
				if left != 0 {
					t.Errorf("control: without protection %d of 50 are left", left)
				}
				return
			}
			if left != 50 {
				t.Fatalf("%d of 50 instances are left", left)
			}
			c.reconnect(keys)
			c.live(time.Minute)
			for i := range 10 {
				c.expect(fmt.Sprintf("s%d", i), 5, 0, 0)
			}
			if p := c.Protection(); len(p) != 0 {
				t.Errorf("%+v, want no protection", p)
			}
		})
	}
}

// TestServiceAlone: a service that is cut off is protected although it is a small part of all.
func TestServiceAlone(t *testing.T) {
	gathering(t, func(c *crowd) {
		keys := c.add("small", 10)
		others := c.add("large", 200)
		c.live(5 * time.Second)
		began := time.Now()
		c.silence(keys[:5], true)
		c.silence(others[:1], true)
		c.live(time.Minute)
		c.expect("small", 5, 5, 0)
		c.expect("large", 199, 0, 0)
		p := c.Protection()
		if len(p) != 1 || p[0].Service.Service != "small" || p[0].Leases != 10 || p[0].Missing != 5 || !p[0].Overridden.IsZero() {
			t.Fatalf("%+v", p)
		}
		if after := p[0].Since.Sub(began); after < 0 || after > 2*time.Second {
			t.Errorf("since %v after they were lost", after)
		}
		if got := c.log.String(); strings.Count(got, "protection began") != 1 || !strings.Contains(got, "set=small.default leases=10 missing=5") {
			t.Errorf("log %s", got)
		}
		c.reconnect(keys[:3])
		c.live(3 * time.Second)
		if got := c.log.String(); strings.Count(got, "protection ended") != 1 || len(c.Protection()) != 0 {
			t.Errorf("log %s", got)
		}
	})
}

// TestFullChance: when a protection ends, those that are still silent have a full lease from that moment.
func TestFullChance(t *testing.T) {
	gathering(t, func(c *crowd) {
		keys := c.add("product", 100)
		c.live(5 * time.Second)
		c.silence(keys[:60], true)
		c.live(time.Hour)
		c.expect("product", 40, 60, 0)
		c.reconnect(keys[10:60])
		c.live(2 * time.Second)
		c.expect("product", 90, 10, 0)
		c.live(10 * time.Second)
		c.expect("product", 90, 10, 0)
		c.reconnect(keys[9:10]) // it used its chance
		c.live(5 * time.Second)
		c.expect("product", 91, 0, 9)
		c.live(10 * time.Second)
		c.expect("product", 91, 0, 9)
		c.live(6 * time.Second)
		c.expect("product", 91, 0, 0)
	})
}

// TestUnhealthyBefore: what was unhealthy before the protection began stays so, and is not removed.
func TestUnhealthyBefore(t *testing.T) {
	gathering(t, func(c *crowd) {
		keys := c.add("product", 100)
		c.silence(keys[:10], true)
		c.live(20 * time.Second)
		c.expect("product", 90, 0, 10)
		c.silence(keys[:40], true)
		c.live(time.Hour)
		c.expect("product", 60, 30, 10)
		c.reconnect(keys[10:40])
		c.live(20 * time.Second)
		c.expect("product", 90, 0, 10)
		c.live(20 * time.Second)
		c.expect("product", 90, 0, 0)
	})
}

// TestGoneOnPurpose: deregistrations, deletions and removals count on neither side.
func TestGoneOnPurpose(t *testing.T) {
	gathering(t, func(c *crowd) {
		keys := c.add("product", 100)
		c.live(5 * time.Second)
		if _, err := c.cat.DeleteInstances(c.t.Context(), keys[:60], discovery.Deregistered); err != nil {
			t.Fatal(err)
		}
		for _, key := range keys[:30] { // some sessions say so, as all should
			c.holders[key].Remove(key)
		}
		synctest.Wait()
		c.silence(keys[:60], true)
		c.live(10 * time.Second)
		if p := c.Protection(); len(p) != 0 {
			t.Errorf("%+v, want no protection", p)
		}
		c.mu.Lock()
		if n := len(c.services[keys[0].Service].leases); n != 40 {
			t.Errorf("%d leases, want 40", n)
		}
		c.mu.Unlock()
		for i := range 2 { // 5 of 40, then 5 of 35: each time few enough, though 10 of 40 are not
			c.silence(keys[60+5*i:65+5*i], true)
			c.live(40 * time.Second)
		}
		c.expect("product", 30, 0, 0)
	})
}

func TestOverride(t *testing.T) {
	all, product, other := discovery.Name{}, discovery.Name{Service: "product", Namespace: "default"}, discovery.Name{Service: "other", Namespace: "default"}
	for _, tt := range []struct {
		name string
		set  discovery.Name
		gone map[string]bool
	}{
		{"one service", product, map[string]bool{"product": true}},
		{"another", other, map[string]bool{"other": true}},
		{"all", all, map[string]bool{"product": true, "other": true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			gathering(t, func(c *crowd) {
				for _, s := range []string{"product", "other"} {
					c.silence(c.add(s, 20)[:10], true)
				}
				c.live(time.Hour)
				if err := c.Override(tt.set, 10*time.Second); err != nil {
					t.Fatal(err)
				}
				shown := false
				for _, p := range c.Protection() {
					shown = shown || p.Service == tt.set && time.Until(p.Overridden) == 10*time.Second && !p.Since.IsZero()
				}
				if !shown {
					t.Errorf("%+v does not show the override", c.Protection())
				}
				c.live(4 * time.Second)
				for _, s := range []string{"product", "other"} {
					if tt.gone[s] {
						c.expect(s, 10, 0, 0)
					} else {
						c.expect(s, 10, 10, 0)
					}
				}
			})
		})
	}
}

func TestOverrideEnds(t *testing.T) {
	for name, end := range map[string]func(*crowd){
		"by itself": func(c *crowd) { c.live(20 * time.Second) },
		"by 0": func(c *crowd) {
			if err := c.Override(discovery.Name{}, 0); err != nil {
				c.t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			gathering(t, func(c *crowd) {
				keys := c.add("product", 20)
				c.live(5 * time.Second)
				if err := c.Override(discovery.Name{}, 10*time.Second); err != nil {
					t.Fatal(err)
				}
				if p := c.Protection(); len(p) != 1 || !p[0].Since.IsZero() || p[0].Overridden.IsZero() {
					t.Errorf("%+v, want an override of what is not protected", p)
				}
				end(c)
				c.silence(keys[:10], true)
				c.live(time.Minute)
				c.expect("product", 10, 10, 0)
			})
		})
	}
}

func TestOverrideRefused(t *testing.T) {
	gathering(t, func(c *crowd) {
		c.add("product", 1)
		for _, d := range []time.Duration{-1, MaxOverride + 1} {
			if err := c.Override(product, d); !errors.Is(err, discovery.ErrInvalid) || !strings.Contains(err.Error(), d.String()) {
				t.Errorf("%v: %v", d, err)
			}
		}
		if err := c.Override(discovery.Name{Service: "none", Namespace: "default"}, time.Second); !errors.Is(err, catalog.ErrNotFound) {
			t.Errorf("a service without leases: %v", err)
		}
		if err := c.Override(product, MaxOverride); err != nil {
			t.Error(err)
		}
	})
}
