//go:build unix

package faults

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/weftmesh/weft/discovery"
	sdk "github.com/weftmesh/weft/discovery/registry"
)

// fleeting begins the names of services whose instances have a ttl that nobody renews. They are there because their
// changes of health use up revisions that never come to the disk.
const fleeting = "fleeting"

// storm is one round of writes. Each writer goes on until it is told to stop, or its first error, which is the kill.
type storm struct {
	*ledger
	r     *registry
	round int
	ctx   context.Context // ends at the kill
	stop  func()
	wg    sync.WaitGroup

	mu     sync.Mutex
	failed []error // what a writer met that is not explained by a kill
}

// maxNew bounds the new names of one writer in one round, so that 200 rounds stay within the registry's bounds.
const maxNew = 20

func begin(t *testing.T, r *registry, l *ledger, round int) *storm {
	ctx, stop := context.WithCancel(t.Context())
	s := &storm{ledger: l, r: r, round: round, ctx: ctx, stop: stop}
	for w := range 2 {
		s.writer(w, s.freshRules)
		s.writer(w, s.hotRule)
		s.writer(w, s.pairsOfRules)
		s.writer(w, s.restInstances)
		s.wg.Go(func() { s.fail(s.sessionInstances(w)) })
	}
	s.writer(0, s.deletedRules)
	s.writer(0, s.fleetingInstances)
	s.wg.Go(s.watchRevision)
	return s
}

// end waits for the writers after the kill.
func (s *storm) end(t *testing.T) {
	t.Helper()
	s.stop()
	s.wg.Wait()
	for _, err := range s.failed {
		t.Error(err)
	}
}

// writer repeats a write until it fails. A refusal is never right: only no answer at all is.
func (s *storm) writer(w int, write func(w, i int) error) {
	s.wg.Go(func() {
		for i := 1; s.ctx.Err() == nil; i++ {
			if err := write(w, i); err != nil {
				s.fail(err)
				return
			}
		}
	})
}

func (s *storm) fail(err error) {
	var no *refusal
	if errors.As(err, &no) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.failed = append(s.failed, fmt.Errorf("round %d: %w", s.round, err))
	}
}

// write makes one write and keeps the ledger.
func (s *storm) write(method, path, body string, seq int, keys ...string) error {
	s.try(seq, keys...)
	var answer struct{ Revision discovery.Revision }
	etag, err := s.r.call(s.ctx, method, path, body, &answer)
	if err != nil {
		return err
	}
	if etag == "" && !answer.Revision.IsZero() {
		etag = answer.Revision.String()
	}
	s.ack(seq, etag, keys...)
	return nil
}

func (s *storm) putRule(name string, seq int) error {
	return s.write(http.MethodPut, "/v1/rules/route/"+name, route(name, seq), seq, ruleKey(name))
}

// freshRules puts rules with new names, each three times.
func (s *storm) freshRules(w, i int) error {
	return s.putRule(fmt.Sprintf("fresh-%d-%d-%d", s.round, w, i/3%maxNew), i)
}

// hotRule puts the same rule again and again.
func (s *storm) hotRule(w, i int) error {
	return s.putRule(fmt.Sprintf("hot-%d", w), s.round<<20+i)
}

// pairsOfRules puts two rules in one transaction, each pair twice.
func (s *storm) pairsOfRules(w, i int) error {
	a := fmt.Sprintf("pair-%d-%d-%d-a", s.round, w, i/2%maxNew)
	b := a[:len(a)-1] + "b"
	s.notePair(ruleKey(a), ruleKey(b))
	return s.write(http.MethodPost, "/v1/rules", "["+route(a, i)+","+route(b, i)+"]", i, ruleKey(a), ruleKey(b))
}

func (l *ledger) notePair(a, b string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pairs[[2]string{a, b}] = true
}

// deletedRules puts a rule and deletes it again.
func (s *storm) deletedRules(_, i int) error {
	name := fmt.Sprintf("brief-%d-%d", s.round, i)
	if err := s.putRule(name, i); err != nil {
		return err
	}
	return s.write(http.MethodDelete, "/v1/rules/route/"+name, "", gone, ruleKey(name))
}

// restInstances registers instances by REST, each twice.
func (s *storm) restInstances(w, i int) error {
	service, id := fmt.Sprintf("plain-%d", w), fmt.Sprintf("r%d-%d", s.round, i/2%maxNew)
	body := fmt.Sprintf(`{"address": "127.0.0.1:9", "protocol": "http", "labels": {"seq": "%d"}, "weight": %d}`, i, weightOf(i))
	return s.write(http.MethodPut, "/v1/services/"+service+"/instances/"+id, body, i, instanceKey(service, id))
}

// fleetingInstances registers instances that will be suspect, unhealthy and removed.
func (s *storm) fleetingInstances(_, i int) error {
	path := fmt.Sprintf("/v1/services/%s-%d/instances/r%d", fleeting, i%20, i%50)
	_, err := s.r.call(s.ctx, http.MethodPut, path, `{"address": "127.0.0.1:9", "protocol": "http", "ttl": "1s"}`, nil)
	time.Sleep(5 * time.Millisecond)
	return err
}

// sessionInstances registers instances on a session, as Mesh.Register does, and changes each once. They must not be
// withdrawn, nor announced again by the session when the registry comes back: the session is closed when its registry is
// dead.
func (s *storm) sessionInstances(w int) error {
	service := fmt.Sprintf("session-%d", w)
	source, err := sdk.New(sdk.Options{Addrs: []string{s.r.grpc}, Service: service})
	if err != nil {
		return &refusal{body: err.Error()}
	}
	defer s.leave(source)
	for i := range maxNew {
		in := discovery.Instance{ID: fmt.Sprintf("s%d-%d", s.round, i), Address: "127.0.0.1:9", Protocol: discovery.GRPC}
		if err := s.announce(source, service, in); err != nil {
			return err
		}
	}
	return nil
}

// leave closes the session after the kill, once it has noticed: before, Close would wait for an answer.
func (s *storm) leave(source *sdk.Source) {
	<-s.ctx.Done()
	for end := time.Now().Add(time.Second); source.State() == "connected" && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	source.Close()
}

func (s *storm) announce(source *sdk.Source, service string, in discovery.Instance) error {
	key := instanceKey(service, in.ID)
	in.Labels, in.Weight = map[string]string{"seq": "1"}, weightOf(1)
	s.try(1, key)
	reg, err := source.Register(s.ctx, in)
	if err != nil {
		return err
	}
	select {
	case <-reg.Acked():
	default:
		return context.Canceled // pending: the registry is dead
	}
	s.ack(1, "", key)
	in.Labels, in.Weight = map[string]string{"seq": "2"}, weightOf(2)
	s.try(2, key)
	if err := reg.Update(s.ctx, in); err != nil {
		return err
	}
	s.ack(2, "", key)
	return nil
}

// watchRevision reads the registry's revision all the time.
func (s *storm) watchRevision() {
	for s.ctx.Err() == nil {
		_, revision, err := list[struct{}](s.ctx, s.r, "/v1/services")
		if err != nil {
			s.fail(err)
			return
		}
		s.see(revision.String())
		time.Sleep(10 * time.Millisecond)
	}
}
