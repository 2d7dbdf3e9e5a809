package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/audit"
	"github.com/weftmesh/weft/internal/registry/rest"
	"github.com/weftmesh/weft/internal/registry/store"
)

// uploadName is the file in the data directory that holds a backup between its upload and the restore.
const uploadName = "restore.weftbackup"

var (
	errInMemory  = errors.New("this server keeps its data in memory, where nothing can be restored")
	errRestoring = rest.ErrRestoring
)

// Restore takes a backup that is to replace the store. When it returns nil the backup is whole and on disk, and once the
// requests under way are answered the server goes on with it: the sessions end, and their processes come back to find
// another epoch, so that they take everything anew. A backup that is none is store.ErrBackup.
//
// The actor of the context is in the audit log afterwards. Tokens are those of the backup, but for those that were revoked
// since.
func (s *Server) Restore(ctx context.Context, backup io.Reader) error {
	if s.config.DataDir == "" {
		return errInMemory
	}
	if !s.restoring.CompareAndSwap(false, true) {
		return errRestoring
	}
	path := filepath.Join(s.config.DataDir, uploadName)
	if err := receive(path, backup); err != nil {
		s.restoring.Store(false)
		return errors.Join(err, os.Remove(path))
	}
	actor, _ := audit.Of(ctx)
	s.restores <- upload{path, actor}
	return nil
}

// upload is a backup in a file, and who sent it; the zero value is none.
type upload struct {
	path string
	by   audit.Actor
}

// receive writes a backup to a file and checks it there, as it may be larger than memory.
func receive(path string, backup io.Reader) (err error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600) // follows no link that somebody has put there
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.Copy(f, backup); err != nil {
		return fmt.Errorf("the backup cannot be received: %w", err)
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = store.CheckBackup(f)
	return err
}

// replace puts a backup into the place of the store, which is closed, and opens the rooms again. If that fails, the
// rooms are those of before.
func (s *Server) replace(u upload) error {
	info, err := s.restoreFile(u.path)
	switch {
	case err != nil:
		s.log.Error("the backup was not restored; the server goes on with what it had", "error", err)
	case info.Lost != nil:
		s.log.Error("the backup was restored; tokens that were revoked since are valid again, as the replaced store could not be read: look at the list of tokens", "error", info.Lost)
	default:
		s.log.Warn("the backup was restored; tokens are those of its time, but for those revoked since")
	}
	s.restoring.Store(false)
	if open := s.open(); open != nil || err != nil {
		return open
	}
	s.noteRestore(u.by, info)
	return nil
}

// noteRestore writes the restore into the audit log, which is that of the backup. A restore that nobody is named for is
// that of a test.
func (s *Server) noteRestore(by audit.Actor, info store.Info) {
	if by == (audit.Actor{}) {
		return
	}
	r := s.rooms.Load()
	_, err := r.catalog.Do(context.Background(), func(b *store.Batch) error {
		r.catalog.Audit().Append(b, audit.Entry{Actor: by, Action: "restore", Kind: "backup", Target: "*",
			Detail: fmt.Sprintf("%d values at revision %x-%d", info.Entries, info.Epoch, info.Revision)})
		return nil
	})
	if err != nil {
		s.log.Error("the restore is not in the audit log", "by", by.Who, "from", by.From, "error", err)
	}
}

func (s *Server) restoreFile(path string) (store.Info, error) {
	f, err := os.Open(path)
	if err != nil {
		return store.Info{}, err
	}
	info, err := store.Restore(s.config.DataDir, f, access.RevokedPrefix)
	return info, errors.Join(err, f.Close(), os.Remove(path))
}
