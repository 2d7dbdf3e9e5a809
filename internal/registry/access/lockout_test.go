package access

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftmesh/weft/internal/registry/store"
)

// guess sends wrong tokens and gives the last error.
func guess(tokens *Tokens, from string, n int) (err error) {
	for i := range n {
		_, err = tokens.Check(fmt.Sprint("guess ", i), from)
	}
	return err
}

// wantLocked wants the address to be refused for as long.
func wantLocked(t *testing.T, tokens *Tokens, from string, want time.Duration) {
	t.Helper()
	_, err := tokens.Check("wrong", from)
	locked, ok := errors.AsType[*Locked](err)
	if !ok || locked.RetryAfter != want {
		t.Errorf("%s: %v, want to be locked for %s", from, err, want)
	}
}

func TestLockout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := open(t, "")
		const from = "10.0.0.1"
		if err := guess(tokens, from, maxWrong); !errors.Is(err, ErrUnknown) {
			t.Fatalf("guess %d: %v", maxWrong, err)
		}
		wantLocked(t, tokens, from, 30*time.Second)
		if _, err := tokens.Check(tokens.AdminToken(), from); err == nil {
			t.Error("the right token of a file passes, so that guessing goes on")
		}
		if _, err := tokens.Check(tokens.AdminToken(), "10.0.0.2"); err != nil {
			t.Errorf("its neighbour: %v", err)
		}
		time.Sleep(30 * time.Second)
		if _, err := tokens.Check(tokens.AdminToken(), from); err != nil {
			t.Errorf("after the lock: %v", err)
		}
		for _, want := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 10 * time.Minute, 10 * time.Minute} {
			guess(tokens, from, maxWrong)
			wantLocked(t, tokens, from, want)
			time.Sleep(want)
		}
		time.Sleep(forgiven + time.Minute)
		guess(tokens, from, maxWrong)
		wantLocked(t, tokens, from, 30*time.Second)
	})
}

// A wrong token every few seconds is a script, not a guesser.
func TestSlowGuessesAreNotLocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := open(t, "")
		for range 100 {
			if err := guess(tokens, "10.0.0.1", 1); !errors.Is(err, ErrUnknown) {
				t.Fatal(err)
			}
			time.Sleep(wrongWindow/(maxWrong-1) + time.Second)
		}
	})
}

func TestNoGuesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := open(t, "")
		_, expired := create(t, tokens, Spec{Name: "ci", Role: Reader, TTL: time.Second})
		time.Sleep(2 * time.Second)
		for range 3 * maxWrong {
			tokens.Check("", "10.0.0.1")
			tokens.Check(expired, "10.0.0.1")
		}
		if len(tokens.guesses.from) != 0 {
			t.Error("no token, or one that expired, counts as a guess")
		}
	})
}

// What still passes from a locked address: a created token from everywhere, and each right one from loopback.
func TestALockDoesNotShutOut(t *testing.T) {
	tokens := open(t, "")
	_, text := create(t, tokens, Spec{Name: "ci", Role: Reader})
	for _, c := range []struct {
		from, token string
		passes      bool
	}{
		{"10.0.0.1", text, true},
		{"10.0.0.1", tokens.AdminToken(), false},
		{"10.0.0.1", tokens.WorkloadToken(), false},
		{"127.0.0.1", tokens.AdminToken(), true},
		{"127.0.0.1", tokens.WorkloadToken(), true},
		{"127.0.0.1", "wrong", false},
		{"::ffff:127.0.0.1", tokens.AdminToken(), true},
		{"::1", tokens.AdminToken(), true},
		{"no address", tokens.AdminToken(), false},
	} {
		guess(tokens, c.from, maxWrong)
		_, err := tokens.Check(c.token, c.from)
		if _, locked := errors.AsType[*Locked](err); locked == c.passes {
			t.Errorf("%s from %s: %v", c.token[:5], c.from, err)
		}
	}
}

func TestAddresses(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"10.0.0.1", "10.0.0.1", true},
		{"10.0.0.1", "10.0.0.2", false},
		{"10.0.0.1", "::ffff:10.0.0.1", true},
		{"2001:db8::1", "2001:db8::ffff:1", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"fe80::1%eth0", "fe80::1%eth1", true},
		{"", "bufconn", true},
	} {
		if got := addressOf(c.a) == addressOf(c.b); got != c.same {
			t.Errorf("%q and %q alike: %v", c.a, c.b, got)
		}
	}
}

func TestAddressesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens, _ := openOn(t, "", store.NewMemory())
		guess(tokens, "192.0.2.1", maxWrong)
		ip := netip.MustParseAddr("10.0.0.0")
		for range 3 * maxAddresses {
			tokens.Check("wrong", ip.String())
			ip = ip.Next()
		}
		if n := len(tokens.guesses.from); n != maxAddresses {
			t.Errorf("%d addresses are remembered, want %d", n, maxAddresses)
		}
		wantLocked(t, tokens, "192.0.2.1", 30*time.Second) // others went first
	})
}
