package access

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/audit"
	"github.com/weftmesh/weft/internal/registry/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// keeper does what the catalog does with the tokens' writes.
type keeper struct {
	committer *store.Committer
	fail      error // instead of what is next
}

func (k *keeper) Audit() *audit.Log { return nil }

func (k *keeper) Do(ctx context.Context, op func(*store.Batch) error) (discovery.Revision, error) {
	if k.fail != nil {
		return discovery.Revision{}, k.fail
	}
	return discovery.Revision{}, k.committer.Do(ctx, op)
}

// open opens tokens on a store of their own.
func open(t *testing.T, dir string) *Tokens {
	tokens, _ := openOn(t, dir, store.NewMemory())
	return tokens
}

// openOn opens tokens on a store until the test ends.
func openOn(t *testing.T, dir string, st store.Store) (*Tokens, *keeper) {
	t.Helper()
	k := &keeper{committer: store.NewCommitter(st, nil)}
	tokens, err := OpenTokens(dir, st, k)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tokens.Close()
		k.committer.Close()
	})
	return tokens, k
}

func create(t *testing.T, tokens *Tokens, s Spec) (Token, string) {
	t.Helper()
	token, text, err := tokens.Create(audit.With(t.Context(), audit.Actor{Who: "root"}), s)
	if err != nil {
		t.Fatal(err)
	}
	return token, text
}

func TestACreatedTokenOutlivesARestart(t *testing.T) {
	st := store.NewMemory()
	tokens, _ := openOn(t, "", st)
	token, text := create(t, tokens, Spec{Name: "ci", Role: Operator, Namespaces: []string{"shop", "blog", "shop"}, TTL: time.Hour})
	if !strings.HasPrefix(text, "weft_"+token.ID+"_") || len(text)-len("weft_"+token.ID+"_") < 26 {
		t.Errorf("text %q of id %q: want 26 characters of base32, 130 bits", text, token.ID)
	}
	if token.CreatedBy != "root" || token.ExpiresAt.Sub(token.CreatedAt).Round(time.Second) != time.Hour {
		t.Errorf("%+v", token)
	}
	again, _ := openOn(t, "", st)
	if diff := cmp.Diff([]Token{token}, again.List()); diff != "" {
		t.Error(diff)
	}
	g, err := again.Check(text, "10.0.0.1")
	if diff := cmp.Diff(token.Grant, g); diff != "" || err != nil {
		t.Error(err, diff)
	}
	if !slices.Equal(g.Namespaces, []string{"blog", "shop"}) {
		t.Errorf("namespaces %v", g.Namespaces)
	}
}

func TestTheTextIsNotStored(t *testing.T) {
	st := store.NewMemory()
	tokens, _ := openOn(t, "", st)
	_, text := create(t, tokens, Spec{Name: "ci", Role: Reader})
	secret := text[strings.LastIndex(text, "_")+1:]
	found := 0
	err := st.Range("", func(e store.Entry) error {
		found++
		if strings.Contains(string(e.Value), secret) || strings.Contains(e.Key, secret) {
			t.Errorf("%s: %s has the secret", e.Key, e.Value)
		}
		return nil
	})
	if err != nil || found != 1 {
		t.Error(found, err)
	}
}

func TestCheckRefuses(t *testing.T) {
	tokens := open(t, "")
	token, text := create(t, tokens, Spec{Name: "ci", Role: Reader})
	other, _ := create(t, tokens, Spec{Name: "cd", Role: Reader})
	for name, wrong := range map[string]string{
		"nothing":             "",
		"another's id":        strings.Replace(text, token.ID, other.ID, 1),
		"an id that is none":  strings.Replace(text, token.ID, "aaaaaaaaaaaa", 1),
		"half":                text[:len(text)/2],
		"more":                text + "x",
		"another case":        strings.ToUpper(text),
		"no secret":           "weft_" + token.ID + "_",
		"the id":              token.ID,
		"no id":               "weft__",
		"the digest of no id": "weft_",
	} {
		if g, err := tokens.Check(wrong, ""); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %+v, %v; want ErrUnknown", name, g, err)
		}
		tokens.guesses.from = nil
	}
	if _, err := tokens.Check(text, ""); err != nil {
		t.Errorf("the right one: %v", err)
	}
}

// told collects what OnRevoke says.
type told struct {
	mu  sync.Mutex
	ids []string
}

func listen(tokens *Tokens) *told {
	l := new(told)
	tokens.OnRevoke(func(id string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.ids = append(l.ids, id)
	})
	return l
}

func (l *told) want(t *testing.T, ids ...string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(l.ids, ids) {
		t.Errorf("OnRevoke told of %v, want %v", l.ids, ids)
	}
}

func TestRevoke(t *testing.T) {
	st := store.NewMemory()
	tokens, _ := openOn(t, "", st)
	ended := listen(tokens)
	token, text := create(t, tokens, Spec{Name: "ci", Role: Admin})
	if err := tokens.Revoke(t.Context(), token.ID); err != nil {
		t.Fatal(err)
	}
	ended.want(t, token.ID)
	if _, err := tokens.Check(text, ""); !errors.Is(err, ErrUnknown) || len(tokens.List()) != 0 {
		t.Errorf("%v, and it lists %v", err, tokens.List())
	}
	again, _ := openOn(t, "", st)
	if _, err := again.Check(text, ""); !errors.Is(err, ErrUnknown) {
		t.Errorf("after a restart: %v", err)
	}
	if err := tokens.Revoke(t.Context(), token.ID); !errors.Is(err, ErrUnknown) {
		t.Errorf("twice: %v", err)
	}
	if err := tokens.Revoke(t.Context(), "admin"); !errors.Is(err, discovery.ErrInvalid) || !strings.Contains(err.Error(), "admin.token") {
		t.Errorf("that of the file: %v", err)
	}
}

// A revocation that does not reach the disk holds all the same while the server runs, and can be repeated.
func TestRevokeOnAFullDisk(t *testing.T) {
	tokens, k := openOn(t, "", store.NewMemory())
	ended := listen(tokens)
	token, text := create(t, tokens, Spec{Name: "ci", Role: Admin})
	k.fail = store.ErrFull
	if err := tokens.Revoke(t.Context(), token.ID); !errors.Is(err, store.ErrFull) || !strings.Contains(err.Error(), "revoke it again") {
		t.Fatal(err)
	}
	if _, err := tokens.Check(text, ""); !errors.Is(err, ErrUnknown) {
		t.Errorf("it still lets in: %v", err)
	}
	if len(tokens.List()) != 1 {
		t.Error("it is not listed any more, so that nobody can revoke it again")
	}
	k.fail = nil
	if err := tokens.Revoke(t.Context(), token.ID); err != nil || len(tokens.List()) != 0 {
		t.Error(err, tokens.List())
	}
	ended.want(t, token.ID)
}

func TestATokenThatWasNotWrittenDoesNotExist(t *testing.T) {
	tokens, k := openOn(t, "", store.NewMemory())
	k.fail = store.ErrBroken
	if _, text, err := tokens.Create(t.Context(), Spec{Name: "ci", Role: Admin}); !errors.Is(err, store.ErrBroken) || text != "" || len(tokens.List()) != 0 {
		t.Errorf("%v, %q, %v", err, text, tokens.List())
	}
}

func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := open(t, "")
		ended := listen(tokens)
		long, _ := create(t, tokens, Spec{Name: "b", Role: Reader, TTL: time.Hour})
		short, text := create(t, tokens, Spec{Name: "a", Role: Workload, TTL: time.Minute})
		create(t, tokens, Spec{Name: "never", Role: Reader})
		time.Sleep(time.Minute - time.Millisecond)
		synctest.Wait()
		ended.want(t)
		if _, err := tokens.Check(text, ""); err != nil {
			t.Errorf("a moment before: %v", err)
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		ended.want(t, short.ID)
		if _, err := tokens.Check(text, ""); !errors.Is(err, ErrExpired) {
			t.Errorf("a moment after: %v", err)
		}
		if len(tokens.List()) != 2 {
			t.Errorf("it lists %v", tokens.List())
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		ended.want(t, short.ID, long.ID)
		time.Sleep(remembered)
		create(t, tokens, Spec{Name: "new", Role: Reader})
		if _, err := tokens.Check(text, ""); !errors.Is(err, ErrUnknown) || len(tokens.made) != 2 {
			t.Errorf("%d tokens are kept, and a forgotten one is %v", len(tokens.made), err)
		}
	})
}

func TestTokensAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := open(t, "")
		tokens.mu.Lock()
		for i := range maxTokens - 1 {
			id := fmt.Sprint(i)
			tokens.made[id] = &made{Token: Token{Grant: Grant{ID: id, Role: Reader}}}
		}
		tokens.mu.Unlock()
		create(t, tokens, Spec{Name: "short", Role: Reader, TTL: time.Second})
		if _, _, err := tokens.Create(t.Context(), Spec{Name: "ci", Role: Reader}); !errors.Is(err, ErrTooMany) {
			t.Errorf("token %d: %v", maxTokens+1, err)
		}
		time.Sleep(time.Minute)
		create(t, tokens, Spec{Name: "in its place", Role: Reader})
		if n := len(tokens.made); n != maxTokens {
			t.Errorf("%d tokens", n)
		}
	})
}

func TestSpecIsChecked(t *testing.T) {
	good := Spec{Name: "ci", Role: Workload, Namespaces: []string{"shop"}, Services: []string{"product", "stock.shop"}, TTL: time.Hour}
	many := slices.Repeat([]string{"shop"}, maxScope+1)
	for _, c := range []struct {
		field  string // "" is the control
		change func(*Spec)
	}{
		{"", func(*Spec) {}},
		{"name", func(s *Spec) { s.Name = "" }},
		{"name", func(s *Spec) { s.Name = strings.Repeat("é", 64) }},
		{"", func(s *Spec) { s.Name = strings.Repeat("é", 63) }},
		{"name", func(s *Spec) { s.Name = "a\nb" }},
		{"name", func(s *Spec) { s.Name = "a\xff" }},
		{"name", func(s *Spec) { s.Name = "admin" }},
		{"role", func(s *Spec) { s.Role = "" }},
		{"role", func(s *Spec) { s.Role = "root" }},
		{"ttl", func(s *Spec) { s.TTL = -time.Second }},
		{"ttl", func(s *Spec) { s.TTL = time.Millisecond }},
		{"ttl", func(s *Spec) { s.TTL = maxTTL + 1 }},
		{"", func(s *Spec) { s.TTL = maxTTL }},
		{"namespaces", func(s *Spec) { s.Namespaces = many }},
		{"", func(s *Spec) { s.Namespaces = many[1:] }},
		{"namespaces[0]", func(s *Spec) { s.Namespaces = []string{"Shop"} }},
		{"services", func(s *Spec) { s.Services = slices.Repeat([]string{"a"}, maxScope+1) }},
		{"services", func(s *Spec) { s.Role = Operator }},
		{"services[0]", func(s *Spec) { s.Services = []string{"a.b.c"} }},
		{"services[0]", func(s *Spec) { s.Services = []string{"product.blog"} }},
	} {
		s := good
		c.change(&s)
		_, err := s.grant()
		if c.field == "" && err != nil || c.field != "" && (!errors.Is(err, discovery.ErrInvalid) || !strings.HasPrefix(err.Error(), c.field)) {
			t.Errorf("%.60s: error %v, want %q", fmt.Sprintf("%+v", s), err, c.field)
		}
	}
}

func TestGrants(t *testing.T) {
	roles := []Role{Reader, Operator, Admin, Workload}
	for _, c := range []struct {
		name  string
		grant Grant
		in    map[string]string // by namespace the roles that are reached
	}{
		{"reader", Grant{Role: Reader}, map[string]string{"": "R", "shop": "R"}},
		{"operator", Grant{Role: Operator}, map[string]string{"": "RO", "shop": "RO"}},
		{"operator of shop", Grant{Role: Operator, Namespaces: []string{"shop"}}, map[string]string{"": "", "shop": "RO", "blog": ""}},
		{"admin", Grant{Role: Admin}, map[string]string{"": "ROAW", "shop": "ROAW"}},
		{"admin of shop", Grant{Role: Admin, Namespaces: []string{"shop"}}, map[string]string{"": "", "shop": "ROAW", "blog": ""}},
		{"workload", Grant{Role: Workload}, map[string]string{"": "W", "shop": "W"}},
		{"nobody", Grant{}, map[string]string{"": "", "shop": ""}},
		{"no role", Grant{Role: "root"}, map[string]string{"": "", "shop": ""}},
	} {
		for namespace, want := range c.in {
			var got strings.Builder
			for i, need := range roles {
				if c.grant.Allows(need, namespace) {
					got.WriteByte("ROAW"[i])
				}
			}
			if got.String() != want || c.grant.Allows("", namespace) || c.grant.Allows("root", namespace) {
				t.Errorf("%s in %q: reaches %q, want %q", c.name, namespace, got.String(), want)
			}
		}
	}
}

func TestMayRegister(t *testing.T) {
	product := discovery.Name{Service: "product", Namespace: "shop"}
	for _, c := range []struct {
		grant Grant
		want  bool
	}{
		{Grant{Role: Workload}, true},
		{Grant{Role: Admin}, true},
		{Grant{Role: Operator}, false},
		{Grant{Role: Workload, Namespaces: []string{"shop"}}, true},
		{Grant{Role: Workload, Namespaces: []string{"blog"}}, false},
		{Grant{Role: Workload, Services: []string{"product.shop"}}, true},
		{Grant{Role: Workload, Services: []string{"product.blog", "stock.shop"}}, false},
		{Grant{Role: Workload, Namespaces: []string{"blog"}, Services: []string{"product.shop"}}, false},
	} {
		if got := c.grant.MayRegister(product); got != c.want {
			t.Errorf("%+v: %v", c.grant, got)
		}
	}
}

func TestUnreadableTokensAreRefused(t *testing.T) {
	for _, value := range []string{"", "{", `{"id":"b","role":"reader","digest":""}`, `{"id":"a","role":"reader","digest":"AAAA"}`, `{"id":"a","role":"root"}`} {
		st := store.NewMemory()
		if err := st.Commit([]store.Write{{Key: "t/a", Value: []byte(value)}}); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenTokens("", st, nil); err == nil || !strings.Contains(err.Error(), `"t/a"`) {
			t.Errorf("%s: error %v", value, err)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(`{"id":"a","name":"ci","role":"reader","createdAt":"2026-01-01T00:00:00Z","createdBy":"admin","digest":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, value []byte) {
		st := store.NewMemory()
		if err := st.Commit([]store.Write{{Key: "t/a", Value: append([]byte{}, value...)}}); err != nil {
			t.Skip()
		}
		if tokens, err := load(st, nil); err == nil && (len(tokens) != 1 || tokens["a"].ID != "a" || !tokens["a"].Role.known()) {
			t.Errorf("%v", tokens)
		}
	})
}

func FuzzLoadRevoked(f *testing.F) {
	f.Add([]byte(`{"at":"2026-01-01T00:00:00Z","expiresAt":"2027-01-01T00:00:00Z"}`))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, value []byte) {
		st := store.NewMemory()
		if err := st.Commit([]store.Write{{Key: RevokedPrefix + "a", Value: append([]byte{}, value...)}}); err != nil {
			t.Skip()
		}
		if revoked, err := loadRevoked(st); err == nil && len(revoked) != 1 {
			t.Errorf("%v", revoked)
		}
	})
}

func FuzzCheck(f *testing.F) {
	tokens := &Tokens{made: map[string]*made{"": {}, "a": {}}}
	for _, text := range []string{"", "weft_", "weft__", "weft_a_", "weft_a_b_c", "_", "weft"} {
		f.Add(text, "127.0.0.1")
	}
	f.Fuzz(func(t *testing.T, text, from string) {
		if _, err := tokens.Check(text, from); err == nil {
			t.Errorf("%q was let in", text)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	tokens, err := OpenTokens("", store.NewMemory(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer tokens.Close()
	for b.Loop() {
		tokens.Check(tokens.WorkloadToken(), "10.0.0.1")
	}
}
