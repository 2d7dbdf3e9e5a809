package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/weftmesh/weft/internal/credential"
	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/store"
)

// store reads every value with its checksum, which only the one who has the lock can do.
func (v *visit) store() {
	const thing = "store"
	path := filepath.Join(v.config.DataDir, storeFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		v.say(OK, thing, "there is none yet; the first start makes it", "")
		return
	}
	running, err := credential.Alive(credential.File{DataDir: v.config.DataDir})
	if err == nil && running {
		v.running()
		return
	}
	st, err := store.Open(v.config.DataDir)
	switch {
	case errors.Is(err, store.ErrInUse):
		v.running()
		return
	case err != nil:
		v.say(Bad, thing, err.Error(), "")
		return
	}
	v.read(st)
	if err := st.Close(); err != nil {
		v.say(Bad, thing, err.Error(), "")
	}
}

func (v *visit) running() {
	v.say(Unknown, "store", "a server has it open, so its values were not read; they are when it is stopped, and backups are verified now", "")
	v.say(Unknown, "created tokens", "a server has the store open; weftctl tokens lists them", "")
}

func (v *visit) read(st store.Store) {
	entries := 0
	err := st.Range("", func(store.Entry) error { entries++; return nil })
	if err != nil {
		v.say(Bad, "store", err.Error(), "registry-server restore --from a backup")
		return
	}
	v.say(OK, "store", fmt.Sprintf("%d values, all of them with the right checksum", entries), "")
	v.createdTokens(st)
}

// createdTokens looks for those that nobody will miss until they are misused.
func (v *visit) createdTokens(st store.Store) {
	const thing = "created tokens"
	tokens, err := access.OpenTokens("", st, nil)
	if err != nil {
		v.say(Bad, thing, err.Error(), "registry-server restore --from a backup")
		return
	}
	defer tokens.Close()
	list := tokens.List()
	weak := 0
	for _, t := range list {
		if t.Role == access.Admin && t.ExpiresAt.IsZero() {
			weak++
			v.say(Weak, thing, fmt.Sprintf("the admin token %s %q of %s never expires", t.ID, t.Name, t.CreatedAt.Format(time.DateOnly)),
				"make one that expires in its place, and revoke it with weftctl")
		}
	}
	if weak == 0 {
		v.say(OK, thing, fmt.Sprintf("%d, and no admin among those that never expire", len(list)), "")
	}
}

// backups looks at what a damaged disk would leave. A server makes the first after an interval, so a young one may have
// none; that it is young is seen by its certificate, which it made at its first start.
func (v *visit) backups() {
	const thing = "backups"
	every := v.config.BackupEvery
	if every == 0 {
		v.say(Weak, thing, "the server makes none", "set --backup-every, such as 1h, and copy the backups to another disk")
		return
	}
	path, at := v.newestBackup()
	late := 2*every + time.Hour
	switch {
	case path == "" && v.age() > late:
		v.say(Weak, thing, "there is none in "+store.BackupDir(v.config.DataDir), "see in the server's log why, and that it runs")
	case path == "":
		v.say(OK, thing, fmt.Sprintf("none yet; one is made every %s while something changes", every), "")
	default:
		v.verify(path, at)
	}
}

func (v *visit) age() time.Duration {
	info, err := os.Stat(filepath.Join(v.config.DataDir, access.IdentityFile))
	if err != nil {
		return 0
	}
	return v.now.Sub(info.ModTime())
}

// newestBackup goes by names, which say when.
func (v *visit) newestBackup() (path string, at time.Time) {
	paths, _ := filepath.Glob(filepath.Join(store.BackupDir(v.config.DataDir), "registry-*.weftbackup"))
	if len(paths) == 0 {
		return "", time.Time{}
	}
	path = paths[len(paths)-1] // Glob sorts
	if info, err := os.Stat(path); err == nil {
		at = info.ModTime()
	}
	return path, at
}

// verify reads a backup to its end. Its age is told but is no weakness: a store that does not change needs no new one.
func (v *visit) verify(path string, at time.Time) {
	f, err := os.Open(path)
	if err != nil {
		v.say(Bad, "backups", err.Error(), "run this as the user of the server")
		return
	}
	defer f.Close()
	info, err := store.CheckBackup(f)
	if err != nil {
		v.say(Bad, "backups", path+": "+err.Error(), "remove it; the server makes another")
		return
	}
	v.say(OK, "backups", fmt.Sprintf("%s, %s old, is whole: %d values at revision %d", path, v.now.Sub(at).Round(time.Second), info.Entries, info.Revision), "")
}
