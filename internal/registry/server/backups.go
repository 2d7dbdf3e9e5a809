package server

import (
	"time"

	"github.com/weftmesh/weft/internal/registry/store"
)

// addBackups makes backups while the rooms are open, if that is wanted: the first after one interval, as a server that
// cannot stay up would otherwise fill the disk.
func (r *rooms) addBackups() {
	if r.config.BackupEvery == 0 || r.config.DataDir == "" {
		return
	}
	if at := store.LastBackup(r.config.DataDir); !at.IsZero() {
		r.lastBackup.Store(&at)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(r.config.BackupEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				r.backup()
			case <-stop:
				return
			}
		}
	}()
	r.onClose(func() error {
		close(stop)
		<-done
		return nil
	})
}

func (r *rooms) backup() {
	now := time.Now()
	path, err := store.SaveBackup(r.store, r.config.DataDir, now, r.config.BackupKeep)
	if err != nil {
		r.log.Error("no backup could be made", "error", err)
		return
	}
	r.lastBackup.Store(&now)
	r.log.Info("backup", "file", path)
}
