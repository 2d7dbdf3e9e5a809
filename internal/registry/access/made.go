package access

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weftmesh/weft/internal/registry/audit"
	"github.com/weftmesh/weft/internal/registry/store"
)

// keyPrefix is that of tokens in the store.
const keyPrefix = "t/"

// RevokedPrefix is that of revocations in the store: the id of a token that was taken back. They outlive a restore, as the
// backup may still have the token.
const RevokedPrefix = "revoked/"

// maxTokens bounds the tokens that are kept, and the revocations; remembered is for how long a token that expired is, so
// that its holder is told.
const (
	maxTokens  = 10_000
	remembered = 24 * time.Hour
)

// made is a token that was created.
type made struct {
	Token
	digest  digest
	revoked bool // and not yet known to be gone from the disk
	told    bool // OnRevoke was called
}

// record is a token in the store.
type record struct {
	Token
	Digest []byte `json:"digest"`
}

// revocation is the end of a token before its time.
type revocation struct {
	At        time.Time `json:"at"`
	ExpiresAt time.Time `json:"expiresAt,omitzero"` // of the token: then the revocation is not needed any more; zero: never
}

// loadRevoked reads the revocations of a store.
func loadRevoked(st store.Store) (map[string]revocation, error) {
	revoked := make(map[string]revocation)
	err := st.Range(RevokedPrefix, func(e store.Entry) error {
		var r revocation
		if err := json.Unmarshal(e.Value, &r); err != nil {
			return fmt.Errorf("revocation %q in the store cannot be read: %w", e.Key, err)
		}
		revoked[strings.TrimPrefix(e.Key, RevokedPrefix)] = r
		return nil
	})
	return revoked, err
}

// load reads the tokens of a store but for those that are revoked, which only a store that was restored has.
func load(st store.Store, revoked map[string]revocation) (map[string]*made, error) {
	tokens := make(map[string]*made)
	err := st.Range(keyPrefix, func(e store.Entry) error {
		var r record
		if err := json.Unmarshal(e.Value, &r); err != nil {
			return fmt.Errorf("token %q in the store cannot be read: %w", e.Key, err)
		}
		if e.Key != keyPrefix+r.ID || len(r.Digest) != len(digest{}) || !r.Role.known() {
			return fmt.Errorf("token %q in the store cannot be read: id %q, role %q, digest of %d bytes", e.Key, r.ID, r.Role, len(r.Digest))
		}
		if _, over := revoked[r.ID]; !over {
			tokens[r.ID] = &made{Token: r.Token, digest: digest(r.Digest)}
		}
		return nil
	})
	return tokens, err
}

// newText makes the text of a token, weft_<id>_<secret>. The id is no secret: it is shown in lists and logs.
func newText() (id, text string) {
	id = strings.ToLower(rand.Text()[:12])
	return id, "weft_" + id + "_" + rand.Text()
}

// idOf gives the id that a token's text says, "" if it says none.
func idOf(text string) string {
	rest, _ := strings.CutPrefix(text, "weft_")
	id, _, _ := strings.Cut(rest, "_")
	return id
}

// lookup gives a copy of the token with the id. A token that was revoked is not there, and the digest of what is not
// there is that of no text.
func (t *Tokens) lookup(id string) (made, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if m := t.made[id]; m != nil && !m.revoked {
		return *m, true
	}
	return made{}, false
}

// Create makes a token and returns it with its text, which is not stored, once it is on disk. The errors of a bad
// description wrap [discovery.ErrInvalid]; ErrTooMany says that 10,000 are kept already.
func (t *Tokens) Create(ctx context.Context, s Spec) (Token, string, error) {
	g, err := s.grant()
	if err != nil {
		return Token{}, "", err
	}
	id, text := newText()
	g.ID = id
	m := &made{Token: Token{Grant: g, CreatedAt: stamp(0)}, digest: sha256.Sum256([]byte(text))}
	if s.TTL > 0 {
		m.ExpiresAt = stamp(s.TTL)
	}
	if actor, ok := audit.Of(ctx); ok {
		m.CreatedBy = actor.Who
	}
	if err := t.keep(ctx, m); err != nil {
		return Token{}, "", err
	}
	return m.Token, text, nil
}

// stamp is a time of the wall clock, as it comes back from the store.
func stamp(in time.Duration) time.Time { return time.Now().Add(in).UTC().Truncate(time.Microsecond) }

// keep writes a new token, and with it forgets what expired long ago, or all that expired if there is no room.
func (t *Tokens) keep(ctx context.Context, m *made) error {
	value, err := json.Marshal(record{m.Token, m.digest[:]})
	if err != nil {
		return err
	}
	t.changing.Lock()
	defer t.changing.Unlock()
	old, err := t.toForget(time.Now())
	if err != nil {
		return err
	}
	err = t.write(ctx, "create", &m.Token, func(b *store.Batch) {
		for _, id := range old {
			b.Delete(keyPrefix + id)
		}
		b.Put(keyPrefix+m.ID, value)
	})
	if err != nil {
		return err
	}
	t.mu.Lock()
	for _, id := range old {
		delete(t.made, id)
	}
	t.made[m.ID] = m
	t.mu.Unlock()
	t.poke()
	return nil
}

// toForget lists the tokens that make room for a new one.
func (t *Tokens) toForget(now time.Time) (ids []string, err error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	after := remembered
	if len(t.made) >= maxTokens {
		after = 0
	}
	for id, m := range t.made {
		if m.told && m.expired(now.Add(-after)) {
			ids = append(ids, id)
		}
	}
	if len(t.made)-len(ids) >= maxTokens {
		return nil, ErrTooMany
	}
	return ids, nil
}

// write commits a change of a token with its line in the audit log.
func (t *Tokens) write(ctx context.Context, action string, token *Token, op func(*store.Batch)) error {
	_, err := t.keeper.Do(ctx, func(b *store.Batch) error {
		op(b)
		log := t.keeper.Audit()
		if actor, ok := audit.Of(ctx); ok && log != nil {
			log.Append(b, audit.Entry{At: time.Now(), Actor: actor, Action: action, Kind: "token", Target: token.ID, Detail: token.summary()})
		}
		return nil
	})
	return err
}

// summary is what the audit log says of a token; it fits into its 1 KiB.
func (t *Token) summary() string {
	s := fmt.Sprintf("%s %q", t.Role, t.Name)
	if len(t.Namespaces) > 0 {
		s += " in " + strings.Join(t.Namespaces, ", ")
	}
	if !t.ExpiresAt.IsZero() {
		s += " until " + t.ExpiresAt.Format(time.RFC3339)
	}
	return s[:min(len(s), 1024)]
}

// List gives all tokens that were made and have not expired, sorted by name and id.
func (t *Tokens) List() []Token {
	now := time.Now()
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := []Token{}
	for _, m := range t.made {
		if !m.expired(now) {
			token := m.Token
			token.Grant = m.clone()
			out = append(out, token)
		}
	}
	slices.SortFunc(out, func(a, b Token) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
	})
	return out
}

// Revoke takes a token back. It lets nobody in from now on, and its sessions end within 5 s, even if there is an
// error: that says that the token may be valid again after a restart, and Revoke can be tried again. A token that is not
// there is ErrUnknown.
func (t *Tokens) Revoke(ctx context.Context, id string) error {
	if id == adminID || id == workloadID {
		return invalid("id", id, "the id of a token that was created; to replace this one edit or delete "+id+".token in the data directory and restart the server")
	}
	t.changing.Lock()
	defer t.changing.Unlock()
	m := t.shut(id)
	if m == nil {
		return fmt.Errorf("token %.63q: %w", id, ErrUnknown)
	}
	r := revocation{At: stamp(0), ExpiresAt: m.ExpiresAt}
	value, err := json.Marshal(r)
	if err != nil {
		return err
	}
	past := t.pastRevocations(r.At)
	err = t.write(ctx, "revoke", &m.Token, func(b *store.Batch) {
		for _, old := range past {
			b.Delete(RevokedPrefix + old)
		}
		b.Delete(keyPrefix + id)
		b.Put(RevokedPrefix+id, value)
	})
	if err != nil {
		return fmt.Errorf("token %s lets nobody in until the server is restarted, but its end is not on disk; revoke it again: %w", id, err)
	}
	for _, old := range past {
		delete(t.gone, old)
	}
	t.gone[id] = r
	t.mu.Lock()
	delete(t.made, id)
	t.mu.Unlock()
	return nil
}

// pastRevocations lists those that make room for a new one: of tokens that have expired meanwhile, and the oldest if
// there are too many.
func (t *Tokens) pastRevocations(now time.Time) (past []string) {
	oldest := ""
	for id, r := range t.gone {
		if !r.ExpiresAt.IsZero() && now.After(r.ExpiresAt) {
			past = append(past, id)
		} else if oldest == "" || r.At.Before(t.gone[oldest].At) {
			oldest = id
		}
	}
	if len(t.gone)-len(past) >= maxTokens {
		past = append(past, oldest)
	}
	return past
}

// shut makes a token let nobody in, and gives it; nil if there is none.
func (t *Tokens) shut(id string) *made {
	t.mu.Lock()
	m := t.made[id]
	if m == nil {
		t.mu.Unlock()
		return nil
	}
	m.revoked = true
	tell := !m.told
	m.told = true
	t.mu.Unlock()
	if tell {
		t.tell(id)
	}
	return m
}
