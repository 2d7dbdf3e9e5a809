package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Backups that a server makes by itself.
const (
	backupFolder = "backups"
	backupPrefix = "registry-"
	backupSuffix = ".weftbackup"
	savingPrefix = ".saving-"
)

// BackupDir is where [SaveBackup] puts the backups of a data directory.
func BackupDir(dir string) string { return filepath.Join(dir, backupFolder) }

// SaveBackup writes a backup into [BackupDir] of a data directory as registry-<time in UTC>.weftbackup, mode 0600, and
// removes all but the newest, at least 1, that are to be kept. It gives the path of the new file, or that of the newest one if nothing has changed
// since. What it wrote is read once more before anything is removed, so that there is always a good one. Names only
// grow, also when the clock is set back.
func SaveBackup(st Store, dir string, now time.Time, keep int) (path string, err error) {
	folder := BackupDir(dir)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", fmt.Errorf("the folder of backups cannot be made: %w", err)
	}
	temp := filepath.Join(folder, savingPrefix+now.UTC().Format(stamp))
	if err := writeFile(temp, func(w io.Writer) error { return Backup(st, w) }); err != nil {
		if isFull(err) {
			err = fmt.Errorf("%w (%w)", ErrFull, err)
		}
		return "", fmt.Errorf("%s: %w", temp, err)
	}
	path, err = settle(folder, temp, now)
	if err != nil {
		return "", errors.Join(fmt.Errorf("%s: %w", temp, err), os.Remove(temp))
	}
	return path, errors.Join(syncDir(folder), prune(folder, backupPrefix, max(1, keep)), sweep(folder, now))
}

// LastBackup says when the newest backup of [BackupDir] was made; the zero time if there is none.
func LastBackup(dir string) time.Time {
	for _, name := range newestFirst(BackupDir(dir), backupPrefix) {
		if at, err := time.Parse(stamp, strings.TrimPrefix(name, backupPrefix)[:len(stamp)]); err == nil {
			return at
		}
	}
	return time.Time{}
}

// settle gives a backup its name, or removes it if there is one that is equal.
func settle(folder, temp string, now time.Time) (string, error) {
	info, err := checkBackupFile(temp)
	if err != nil {
		return "", err
	}
	if names := newestFirst(folder, backupPrefix); len(names) > 0 {
		newest := filepath.Join(folder, names[0])
		if last, err := checkBackupFile(newest); err == nil && last == info {
			return newest, os.Remove(temp)
		}
	}
	path := filepath.Join(folder, backupPrefix+nextStamp(folder, backupPrefix, now)+backupSuffix)
	return path, os.Rename(temp, path)
}

// sweep removes what a server left that died while it saved.
func sweep(folder string, now time.Time) error {
	var errs []error
	for _, name := range newestFirst(folder, savingPrefix) {
		path := filepath.Join(folder, name)
		if info, err := os.Stat(path); err == nil && now.Sub(info.ModTime()).Abs() > time.Hour {
			errs = append(errs, os.Remove(path))
		}
	}
	return errors.Join(errs...)
}

// checkBackupFile checks the backup in a file.
func checkBackupFile(path string) (Info, error) {
	f, err := os.Open(path)
	if err != nil {
		return Info{}, err
	}
	defer f.Close()
	return CheckBackup(f)
}

// newestGood gives the newest whole backup of a data directory; "" if there is none.
func newestGood(dir string) string {
	for _, name := range newestFirst(BackupDir(dir), backupPrefix) {
		path := filepath.Join(BackupDir(dir), name)
		if _, err := checkBackupFile(path); err == nil {
			return path
		}
	}
	return ""
}
