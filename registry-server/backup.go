package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/store"
)

// transfer are the flags of backup and restore.
type transfer struct{ dataDir, file string }

// parseTransfer reads them; fileFlag is --to or --from.
func parseTransfer(p process, name, fileFlag string, args []string) (t transfer, err error) {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&t.dataDir, "data-dir", cmp.Or(p.env("WEFT_SERVER_DATA_DIR"), "./weft-data"), "")
	flags.StringVar(&t.file, fileFlag, "", "")
	err = flags.Parse(args)
	form := fmt.Sprintf("registry-server %s --data-dir DIR --%s FILE", name, fileFlag)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintln(p.stdout, "Usage:", form)
		return t, errHelp
	case err != nil:
		return t, usage{fmt.Errorf("%w; want %s", err, form)}
	case flags.NArg() > 0:
		return t, usage{fmt.Errorf("argument %q: want %s", flags.Arg(0), form)}
	case t.dataDir == "":
		return t, usage{fmt.Errorf("--data-dir is empty: want %s", form)}
	case t.file == "":
		return t, usage{fmt.Errorf("--%s is missing: want %s", fileFlag, form)}
	}
	return t, nil
}

// backUp writes a backup of a store that no server has open.
func backUp(_ context.Context, p process, args []string) error {
	t, err := parseTransfer(p, "backup", "to", args)
	if err != nil {
		return quietHelp(err)
	}
	if _, err := os.Stat(filepath.Join(t.dataDir, "registry.db")); err != nil { // which Open would make
		return fmt.Errorf("there is nothing to back up in %s: %w; say with --data-dir where the data is", t.dataDir, err)
	}
	st, err := store.Open(t.dataDir)
	if err != nil {
		return whileRunning(err, "weftctl backup")
	}
	if err := errors.Join(writeBackup(st, t.file), st.Close()); err != nil {
		return err
	}
	fmt.Fprintln(p.stdout, t.file)
	return nil
}

// writeBackup makes a new file, and leaves none if it fails.
func writeBackup(st store.Store, path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already; choose another name", path)
	}
	if err != nil {
		return err
	}
	if err := errors.Join(store.Backup(st, f), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// restore puts a backup into the place of a store that no server has open.
func restore(_ context.Context, p process, args []string) error {
	t, err := parseTransfer(p, "restore", "from", args)
	if err != nil {
		return quietHelp(err)
	}
	f, err := os.Open(t.file)
	if err != nil {
		return fmt.Errorf("%w; say with --from where the backup is", err)
	}
	_, before := os.Stat(filepath.Join(t.dataDir, "registry.db"))
	info, err := store.Restore(t.dataDir, f, access.RevokedPrefix)
	if err := errors.Join(err, f.Close()); err != nil {
		return whileRunning(err, "weftctl restore")
	}
	if info.Lost != nil {
		fmt.Fprintf(p.stderr, "registry-server: tokens that were revoked since the backup are valid again, as the replaced store could not be read: %v\n", info.Lost)
	}
	fmt.Fprintf(p.stdout, "%d values at revision %d\n", info.Entries, info.Revision)
	if before == nil {
		fmt.Fprintln(p.stdout, "what was there before is the newest", filepath.Join(t.dataDir, "registry.db.replaced-*"))
	}
	return nil
}

// whileRunning tells what to do where a server has the store open.
func whileRunning(err error, instead string) error {
	if errors.Is(err, store.ErrInUse) {
		return fmt.Errorf("%w; while the server runs use %s", err, instead)
	}
	return err
}

// quietHelp ends well where help was asked for.
func quietHelp(err error) error {
	if errors.Is(err, errHelp) {
		return nil
	}
	return err
}
