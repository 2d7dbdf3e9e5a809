package server

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

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
func (s *Server) Restore(backup io.Reader) error {
	if s.config.DataDir == "" {
		return errInMemory
	}
	if !s.restoring.CompareAndSwap(false, true) {
		return errRestoring
	}
	path := filepath.Join(s.config.DataDir, uploadName)
	if err := s.upload(path, backup); err != nil {
		s.restoring.Store(false)
		return errors.Join(err, os.Remove(path))
	}
	s.restores <- path
	return nil
}

// upload writes a backup to a file and checks it there, as it may be larger than memory.
func (s *Server) upload(path string, backup io.Reader) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
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

// replace puts a backup into the place of the store, which is closed, and opens the rooms again. If that fails, also as
// what is in the backup cannot be read, the rooms are those of before.
func (s *Server) replace(path string) error {
	defer s.restoring.Store(false)
	err := s.restoreFile(path)
	if err == nil {
		if err = s.open(); err == nil {
			s.log.Warn("the backup was restored; tokens are those of its time too")
			return nil
		}
		if undo := store.Unrestore(s.config.DataDir); undo != nil {
			return errors.Join(err, undo)
		}
	}
	s.log.Error("the backup was not restored; the server goes on with what it had", "error", err)
	return s.open()
}

func (s *Server) restoreFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = store.Restore(s.config.DataDir, f)
	return errors.Join(err, f.Close(), os.Remove(path))
}
