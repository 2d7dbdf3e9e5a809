// Package access decides who may call the registry server, and holds the key by which callers know the server.
//
//	tokens, err := access.OpenTokens(dataDir, st, catalog) // admin.token and workload.token are made on the first start
//	identity, err := access.OpenIdentity(dataDir)          // server.pem, likewise
//	grant, err := tokens.Check(bearer, "10.0.0.7")         // who is it, and has this address guessed too often?
//	if err == nil && grant.Allows(access.Operator, "shop") { … }
//	…
//	token, text, err := tokens.Create(ctx, access.Spec{Name: "ci", Role: access.Operator, TTL: 24 * time.Hour})
//	err = tokens.Revoke(ctx, token.ID)
//
// The two tokens in the data directory, with the ids "admin" and "workload", may do what their roles may everywhere and
// never expire; whoever edits or deletes such a file and restarts the server has replaced it. All others are made by
// [Tokens.Create]. Of those the store holds a SHA-256 digest and never the text. A slow hash, as for passwords, would
// protect nothing: a secret of 130 random bits cannot be guessed from its digest, and a check costs 1 µs instead of
// 100 ms that any stranger could make the server spend.
//
// The data directory must be private to the server and locked by its store, as the files are made without a lock.
package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/credential"
	"github.com/weftmesh/weft/internal/registry/audit"
	"github.com/weftmesh/weft/internal/registry/store"
)

// The names of the token files in the data directory.
const (
	AdminTokenFile    = "admin.token"
	WorkloadTokenFile = "workload.token"
)

// The ids, and the names, of the tokens in these files.
const (
	adminID    = "admin"
	workloadID = "workload"
)

// MinToken is the least length of a token that somebody has written into the file by hand.
const MinToken = 16

// Keeper is where tokens are stored: the catalog.
type Keeper interface {
	Do(ctx context.Context, op func(*store.Batch) error) (discovery.Revision, error)
	Audit() *audit.Log // nil: none is kept
}

// The errors of a token that does not let in.
var (
	ErrUnknown = errors.New("the token is not known to this server")
	ErrExpired = errors.New("the token has expired")
)

// ErrTooMany says that no more tokens are kept.
var ErrTooMany = fmt.Errorf("there are %d tokens, the most that are kept; revoke some", maxTokens)

// digest is what is known of a token's text.
type digest [sha256.Size]byte

// fixed is a token of a file.
type fixed struct {
	grant  Grant
	digest digest
	text   string
}

// Tokens are the bearer tokens of one server. They are made by [OpenTokens] and safe for concurrent use.
type Tokens struct {
	admin, workload fixed
	keeper          Keeper
	guesses         guesses
	wake            chan struct{} // there is a new time at which a token expires
	stop            chan struct{}
	stopped         chan struct{}
	once            sync.Once

	// changing is held while tokens are written. It comes before mu.
	changing sync.Mutex
	gone     map[string]revocation // by id; under changing
	mu       sync.RWMutex
	made     map[string]*made
	revoked  []func(id string)
}

// OpenTokens reads the tokens of a data directory, and makes those that are not there; with the directory "" both are
// made anew and kept in memory only. Tokens that were created come from the store, and are written through the keeper.
// Close it.
func OpenTokens(dir string, st store.Store, keeper Keeper) (*Tokens, error) {
	t := &Tokens{keeper: keeper, wake: make(chan struct{}, 1), stop: make(chan struct{}), stopped: make(chan struct{})}
	var err error
	if t.admin, err = openFixed(dir, AdminTokenFile, Grant{ID: adminID, Name: adminID, Role: Admin}); err != nil {
		return nil, err
	}
	if t.workload, err = openFixed(dir, WorkloadTokenFile, Grant{ID: workloadID, Name: workloadID, Role: Workload}); err != nil {
		return nil, err
	}
	if t.gone, err = loadRevoked(st); err != nil {
		return nil, err
	}
	if t.made, err = load(st, t.gone); err != nil {
		return nil, err
	}
	go t.expire()
	return t, nil
}

// Close stops telling of tokens that expire. It is idempotent.
func (t *Tokens) Close() {
	t.once.Do(func() { close(t.stop) })
	<-t.stopped
}

func openFixed(dir, file string, g Grant) (fixed, error) {
	text := "weft-" + g.ID + "-" + rand.Text()
	if dir != "" {
		var err error
		if text, err = readOrWrite(filepath.Join(dir, file), text); err != nil {
			return fixed{}, err
		}
	}
	return fixed{g, sha256.Sum256([]byte(text)), text}, nil
}

// readOrWrite gives the token of a file, in which it writes the fresh one if there is none.
func readOrWrite(path, fresh string) (string, error) {
	data, err := credential.ReadPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fresh, credential.WritePrivate(path, []byte(fresh+"\n"))
	}
	if err != nil {
		return "", err
	}
	t := strings.TrimSpace(string(data))
	if len(t) < MinToken || strings.ContainsFunc(t, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%s: want a token of at least %d visible ASCII characters on one line; delete the file to get a new one", path, MinToken)
	}
	return t, nil
}

// Check says what the holder of a token may do. from is the address of the client, without the port. Its errors are
// ErrUnknown, ErrExpired and [*Locked]. A token that is right but expired is no guess; neither is none at all.
//
// From an address that is locked nothing is let in but two things. A token that was created, as nobody guesses 130
// bits: a lock must not let one stale process behind a shared address cut all its neighbours off. And any right token
// from loopback, as otherwise a local script with an old token locks the administrator out of the very host.
func (t *Tokens) Check(token, from string) (Grant, error) {
	now := time.Now()
	where := addressOf(from)
	grant, random, err := t.find(token, now)
	if wait := t.guesses.locked(where, now); wait > 0 && (err != nil || !random && !where.loopback) {
		return Grant{}, &Locked{wait}
	}
	if errors.Is(err, ErrUnknown) && token != "" {
		t.guesses.wrong(where, now)
	}
	return grant, err
}

// find compares the token with both of the files and with the one whose id it says, or with none that can match, so
// that the time tells nothing about what exists.
func (t *Tokens) find(token string, now time.Time) (g Grant, random bool, err error) {
	got := digest(sha256.Sum256([]byte(token)))
	admin, workload := equal(&got, &t.admin.digest), equal(&got, &t.workload.digest)
	m, there := t.lookup(idOf(token))
	right := equal(&got, &m.digest) && there
	switch {
	case admin:
		return t.admin.grant, false, nil
	case workload:
		return t.workload.grant, false, nil
	case !right:
		return Grant{}, false, ErrUnknown
	case m.expired(now):
		return Grant{}, false, ErrExpired
	}
	return m.clone(), true, nil
}

// equal takes the same time wherever the digests differ.
func equal(a, b *digest) bool { return subtle.ConstantTimeCompare(a[:], b[:]) == 1 }

func (g Grant) clone() Grant {
	g.Namespaces, g.Services = slices.Clone(g.Namespaces), slices.Clone(g.Services)
	return g
}

// AdminToken returns the text of the administrator's token.
func (t *Tokens) AdminToken() string { return t.admin.text }

// WorkloadToken returns the text of the workload token, for the credential file.
func (t *Tokens) WorkloadToken() string { return t.workload.text }
