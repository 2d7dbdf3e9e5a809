package session

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/access"
	sdk "github.com/weftmesh/weft/internal/session"
)

// with opens a session with a token.
func (f *fixture) with(token, process string) *client {
	f.t.Helper()
	c := f.dial(metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+token))
	c.proc = process
	c.hello(&weftv1.Hello{Process: process, Service: "product", Namespace: "shop", SdkVersion: "test"})
	return c
}

func (c *client) welcomed() *client {
	c.t.Helper()
	if c.recv().GetWelcome() == nil {
		c.t.Fatal("no Welcome")
	}
	return c
}

func TestRevoke(t *testing.T) {
	bubble(t, Options{Authorize: grants}, func(f *fixture) {
		one, two := f.with("one", "p1").welcomed(), f.with("two", "p2").welcomed()
		defer one.close()
		defer two.close()
		f.srv.Revoke("one")
		one.wantFailure(codes.Unauthenticated, "revoked")
		synctest.Wait()
		if got := f.srv.Clients(); len(got) != 1 || got[0].Token != "name of two" {
			t.Errorf("clients %+v", got)
		}
	})
}

// A token that is revoked while a session is being opened with it does not open it.
func TestRevokedMeanwhile(t *testing.T) {
	asked, goOn := 0, make(chan struct{})
	authorize := func(_ context.Context, token, from string) (access.Grant, error) {
		if asked++; asked == 1 {
			<-goOn
			return access.Grant{ID: token, Role: access.Workload}, nil
		}
		return access.Grant{}, access.ErrUnknown
	}
	bubble(t, Options{Authorize: authorize}, func(f *fixture) {
		goOn = make(chan struct{})
		c := f.with("one", "p1")
		defer c.close()
		synctest.Wait()
		f.srv.Revoke("one")
		close(goOn)
		c.wantFailure(codes.Unauthenticated, "not known")
	})
}

func TestLocked(t *testing.T) {
	authorize := func(context.Context, string, string) (access.Grant, error) {
		return access.Grant{}, &access.Locked{RetryAfter: 30 * time.Second}
	}
	bubble(t, Options{Authorize: authorize}, func(f *fixture) {
		c := f.with("one", "p1")
		defer c.close()
		c.wantFailure(codes.ResourceExhausted, "too many wrong tokens")
		if got := c.stream.Trailer().Get(RetryHeader); len(got) != 1 || got[0] != "30000" {
			t.Errorf("hint %q", got)
		}
	})
}

// A session registers what its token may, and only as what the token may be.
func TestMayRegister(t *testing.T) {
	for name, test := range map[string]struct {
		may     string
		refused bool
	}{"its service": {"product", false}, "another": {"stock", true}} {
		bubble(t, Options{Authorize: grants}, func(f *fixture) {
			f.srv.may = func(_ access.Grant, n discovery.Name) bool { return n.Service == test.may }
			c := f.with("one", "p1").welcomed()
			defer c.close()
			stock := c.instance("s1")
			stock.Service = "stock"
			got := c.register(c.instance("p1"))
			if refused := len(got) == 1 && got[0].Code == codeForbidden && strings.Contains(got[0].Message, `"name of one"`) &&
				strings.Contains(got[0].Message, "product.shop"); refused != test.refused {
				t.Errorf("%s: %v", name, got)
			}
			if got := c.register(stock); len(got) != 1 || got[0].Code != codeForbidden { // it says that it is product
				t.Errorf("%s: stock: %v", name, got)
			}
		})
	}
}

// The grant's own word counts.
func TestMayRegisterByGrant(t *testing.T) {
	bound := func(context.Context, string, string) (access.Grant, error) {
		return access.Grant{ID: "ci", Name: "ci", Role: access.Workload, Namespaces: []string{"shop"}, Services: []string{"stock.shop"}}, nil
	}
	bubble(t, Options{Authorize: bound}, func(f *fixture) {
		c := f.with("one", "p1").welcomed() // of product
		defer c.close()
		if got := c.register(c.instance("p1")); len(got) != 1 || got[0].Code != codeForbidden {
			t.Errorf("product: %v", got)
		}
	})
}

// Nobody takes over the process of another token.
func TestForeignProcess(t *testing.T) {
	bubble(t, Options{Authorize: grants}, func(f *fixture) {
		one := f.with("one", "p1").welcomed()
		defer one.close()
		thief := f.with("two", "p1")
		defer thief.close()
		thief.wantFailure(codes.PermissionDenied, "another token")
		again := f.with("one", "p1").welcomed()
		defer again.close()
		one.wantFailure(codes.Aborted, "took over") // the control
	})
}

func TestLimits(t *testing.T) {
	for name, test := range map[string]struct {
		opt  Options
		says string
	}{
		"sessions":            {Options{MaxSessions: 2}, "2 sessions"},
		"sessions an address": {Options{MaxPerAddress: 2}, "this address has 2"},
		"control":             {Options{MaxSessions: 3, MaxPerAddress: 3}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, test.opt, func(f *fixture) {
				one, two := f.connect("p1"), f.connect("p2")
				defer one.close()
				defer two.close()
				three := f.with("", "p3")
				defer three.close()
				if test.says == "" {
					three.welcomed()
					return
				}
				three.wantFailure(codes.ResourceExhausted, test.says)
				ms, err := strconv.Atoi(strings.Join(three.stream.Trailer().Get(RetryHeader), ","))
				if wait := time.Duration(ms) * time.Millisecond; err != nil || wait < fullDelay || wait > 2*fullDelay {
					t.Errorf("hint %d ms, %v", ms, err)
				}
				one.close()
				synctest.Wait()
				f.with("", "p4").welcomed().close()
			})
		})
	}
}

// The server asks a session of a certain age to connect again. The SDK does so at once: no caller notices, no instance is
// suspect, and what is known is not sent again.
func TestAge(t *testing.T) {
	bubble(t, Options{MaxAge: time.Minute}, func(f *fixture) {
		f.fill(100)
		a := f.process("proc-a")
		defer a.Close()
		b := f.process("proc-b")
		defer b.Close()
		if _, err := b.Register(f.t.Context(), (&client{proc: "proc-b"}).instance("own")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		first, before, at := f.srv.owner("proc-b"), a.updates, f.cat.Revision()
		for begin := time.Now(); time.Since(begin) < 5*time.Minute; {
			time.Sleep(10 * time.Millisecond)
			if got := f.state("own"); got != discovery.Up {
				t.Fatalf("after %v: %q", time.Since(begin), got)
			}
			if b.LastError() != nil && b.State() == sdk.Waiting {
				t.Fatalf("after %v it waits to connect: %v", time.Since(begin), b.LastError())
			}
		}
		if f.srv.owner("proc-b") == first {
			t.Error("the session is still the first one")
		}
		if a.updates != before || f.cat.Revision() != at {
			t.Errorf("%d updates, revision %v: want none after %v", a.updates-before, f.cat.Revision(), at)
		}
	})
}

// TestAgeIsSpread: the sessions that came at one moment do not leave at one moment.
func TestAgeIsSpread(t *testing.T) {
	bubble(t, Options{MaxAge: time.Hour}, func(f *fixture) {
		ends := make(map[time.Duration]int)
		begin := time.Now()
		ended := make(chan time.Duration)
		for i := range 40 {
			c := f.connect("p" + strconv.Itoa(i))
			go func() {
				defer c.close()
				for {
					if _, err := c.stream.Recv(); err != nil {
						if status.Code(err) != codes.Unknown { // io.EOF
							t.Errorf("ended with %v", err)
						}
						ended <- time.Since(begin).Truncate(time.Minute)
						return
					}
				}
			}()
		}
		for range 40 {
			after := <-ended
			ends[after]++
			if after < 54*time.Minute || after > 66*time.Minute {
				t.Errorf("ended after %v, want 1h ± 10%%", after)
			}
		}
		if len(ends) < 6 {
			t.Errorf("they ended in %d different minutes: %v", len(ends), ends)
		}
	})
}

// A control for TestAge: a session that breaks makes its instances suspect.
func TestAgeControl(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		c := f.connect("proc-1")
		c.register(c.instance("p1"))
		f.srv.owner("proc-1").end(errSlow)
		if got := f.state("p1"); got != discovery.Suspect {
			t.Errorf("state %q, want suspect", got)
		}
		c.close()
	})
}
