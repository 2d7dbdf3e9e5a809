// Package access decides who may call the registry server, and holds the key by which callers know the server.
//
//	tokens, err := access.OpenTokens(dataDir)     // admin.token and workload.token, made on the first start
//	identity, err := access.OpenIdentity(dataDir) // server.pem, made on the first start
//	if !tokens.Admin(bearer) { … }                // REST
//	if !tokens.Workload(bearer) { … }             // sessions
//
// The data directory must be private to the server and locked by its store, as the files are made without a lock.
package access

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/weftmesh/weft/internal/credential"
)

// The names of the token files in the data directory.
const (
	AdminTokenFile    = "admin.token"
	WorkloadTokenFile = "workload.token"
)

// minToken is the least length of a token that somebody has written into the file by hand.
const minToken = 16

// Tokens are the bearer tokens of one server. It is safe for concurrent use.
type Tokens struct {
	admin, workload [sha256.Size]byte
	workloadText    string
}

// OpenTokens reads the tokens of a data directory, and makes those that are not there.
func OpenTokens(dir string) (*Tokens, error) {
	admin, err := token(filepath.Join(dir, AdminTokenFile), "weft-admin-")
	if err != nil {
		return nil, err
	}
	workload, err := token(filepath.Join(dir, WorkloadTokenFile), "weft-workload-")
	if err != nil {
		return nil, err
	}
	return &Tokens{admin: sha256.Sum256([]byte(admin)), workload: sha256.Sum256([]byte(workload)), workloadText: workload}, nil
}

func token(path, prefix string) (string, error) {
	data, err := credential.ReadPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		t := prefix + rand.Text()
		return t, credential.WritePrivate(path, []byte(t+"\n"))
	}
	if err != nil {
		return "", err
	}
	t := strings.TrimSpace(string(data))
	if len(t) < minToken || strings.ContainsFunc(t, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%s: want a token of at least %d visible ASCII characters on one line; delete the file to get a new one", path, minToken)
	}
	return t, nil
}

// Admin reports whether the token is the administrator's, who may do everything.
func (t *Tokens) Admin(token string) bool { return equal(token, &t.admin) }

// Workload reports whether the token may open sessions: the workload token, or the administrator's.
func (t *Tokens) Workload(token string) bool { return equal(token, &t.workload) || t.Admin(token) }

// WorkloadToken returns the workload token, for the credential file.
func (t *Tokens) WorkloadToken() string { return t.workloadText }

// equal compares digests, so that its time says nothing about the length or the first differing byte.
func equal(token string, want *[sha256.Size]byte) bool {
	got := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}
