package access

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/weftmesh/weft/internal/registry/store"
)

// revocations gives the ids that a store says were revoked.
func revocations(t *testing.T, st store.Store) map[string]revocation {
	t.Helper()
	found, err := loadRevoked(st)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A store that a restore has made may have a token and its revocation: the revocation counts.
func TestARevocationOutlivesARestore(t *testing.T) {
	for _, forgotten := range []bool{false, true} { // the control: without the revocation the token lets in
		st := store.NewMemory()
		tokens, _ := openOn(t, "", st)
		token, text := create(t, tokens, Spec{Name: "ci", Role: Reader})
		var old []store.Write // as a backup of now has it
		if err := st.Range(keyPrefix, func(e store.Entry) error {
			old = append(old, store.Write{Key: e.Key, Value: e.Value, Revision: st.Revision()})
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if err := tokens.Revoke(t.Context(), token.ID); err != nil {
			t.Fatal(err)
		}
		if forgotten {
			old = append(old, store.Write{Key: RevokedPrefix + token.ID, Revision: st.Revision()})
		}
		if err := st.Commit(old); err != nil {
			t.Fatal(err)
		}
		again, _ := openOn(t, "", st)
		if _, err := again.Check(text, "10.0.0.1"); errors.Is(err, ErrUnknown) == forgotten {
			t.Errorf("forgotten %v: %v", forgotten, err)
		}
		if n := len(again.List()); (n == 0) == forgotten {
			t.Errorf("forgotten %v: %d tokens in the list", forgotten, n)
		}
	}
}

// Revocations have a bound: those of tokens that have expired go, then the oldest.
func TestRevocationsAreBounded(t *testing.T) {
	st := store.NewMemory()
	tokens, _ := openOn(t, "", st)
	now := time.Now()
	for i := range maxTokens {
		tokens.gone[fmt.Sprint("r", i)] = revocation{At: now.Add(time.Duration(i-maxTokens) * time.Second)}
	}
	tokens.gone["expired"] = revocation{At: now, ExpiresAt: now.Add(-time.Second)}
	token, _ := create(t, tokens, Spec{Name: "ci", Role: Reader, TTL: time.Hour})
	if err := tokens.Revoke(t.Context(), token.ID); err != nil {
		t.Fatal(err)
	}
	_, expired := tokens.gone["expired"]
	_, oldest := tokens.gone["r0"]
	_, second := tokens.gone["r1"]
	if n := len(tokens.gone); n != maxTokens || expired || oldest || !second {
		t.Errorf("%d revocations, want %d; of an expired token: %v, the oldest: %v, the one after: %v", n, maxTokens, expired, oldest, second)
	}
	if found := revocations(t, st); len(found) != 1 || !found[token.ID].ExpiresAt.Equal(token.ExpiresAt) {
		t.Errorf("on disk: %v", found)
	}
}
