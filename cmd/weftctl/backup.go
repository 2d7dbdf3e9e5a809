package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
)

// maxBackup is the largest backup that a server takes, in bytes.
const maxBackup = 1 << 30

func newBackup(o *options) *cobra.Command {
	force := false
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy everything the server holds into a file, while it runs",
		Long: `Copy everything the server holds into a file, while it runs. The file is there whole or not at all, and only its owner
may read it: it holds the hashes of the tokens. A file that is there already is kept, without --force.`,
		Example:           "  weftctl backup weft.backup\n  weftctl backup /var/backups/weft.backup --force",
		Args:              words("FILE"),
		ValidArgsFunction: completeFile,
		PreRunE:           o.unbound,
		RunE:              func(cmd *cobra.Command, args []string) error { return o.backup(cmd, args[0], force) },
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace a file that is there already")
	return cmd
}

func completeFile(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

func (o *options) backup(cmd *cobra.Command, file string, force bool) error {
	if _, err := os.Lstat(file); err == nil && !force {
		return failed("%s is there already; choose another name, or replace it with --force", file)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed("%w", err)
	}
	return o.with(func(c *client) error {
		answer, err := c.send(cmd.Context(), request{method: http.MethodGet, path: "/v1/backup"})
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.Header.Get("Content-Type") != octets {
			return c.stranger(answer.StatusCode)
		}
		size, err := replace(file, answer.Body)
		if err != nil {
			return failed("no backup is written: %w", err)
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d bytes\n", file, size)
		return err
	})
}

const octets = "application/octet-stream"

// replace writes a file of mode 0600 whole or not at all, and on the disk.
func replace(file string, from io.Reader) (size int64, err error) {
	dir := filepath.Dir(file)
	f, err := os.CreateTemp(dir, "."+filepath.Base(file)+".*") // CreateTemp's mode is 0600
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	size, err = io.Copy(f, from)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return 0, err
	}
	if err = os.Rename(f.Name(), file); err != nil {
		return 0, err
	}
	return size, syncDir(dir)
}

// syncDir makes a new name last. Where directories cannot be synced, it does by itself.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrInvalid) {
		return err
	}
	return nil
}

func newRestore(o *options) *cobra.Command {
	yes := false
	cmd := &cobra.Command{
		Use:   "restore FILE --yes",
		Short: "Replace everything the server holds by a backup",
		Long: `Replace everything the server holds by a backup, and wait until it serves that. Rules, aliases, tokens and instances
that came after the backup are gone; every client synchronizes anew, and registers its own instances again. Calls
between services go on meanwhile.`,
		Example:           "  weftctl restore weft.backup --yes",
		Args:              words("FILE"),
		ValidArgsFunction: completeFile,
		PreRunE:           o.unbound,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !yes {
				return fmt.Errorf("restore: it replaces everything the server holds by %s; say --yes if you want that", args[0])
			}
			return o.with(func(c *client) error { return o.restore(cmd, c, args[0]) })
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "yes, replace everything")
	return cmd
}

func (o *options) restore(cmd *cobra.Command, c *client, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 || info.Size() > maxBackup {
		return errors.Join(err, fmt.Errorf("%s: want a file of 1 to %d bytes that weftctl backup has written", file, maxBackup))
	}
	_, before, err := c.status(cmd)
	if err != nil {
		return err
	}
	answer, err := c.send(cmd.Context(), request{method: http.MethodPost, path: "/v1/restore", stream: f, length: info.Size(), mime: octets})
	if err != nil {
		return err
	}
	answer.Body.Close()
	fmt.Fprintln(cmd.ErrOrStderr(), "the server has the backup, and starts anew from it")
	return o.awaitEpoch(cmd, c, before.Epoch)
}

// awaitEpoch waits until the server serves another epoch than before.
func (o *options) awaitEpoch(cmd *cobra.Command, c *client, before string) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), patience)
	defer cancel()
	for {
		data, now, err := c.status(cmd)
		if err == nil && now.Epoch != before {
			return o.printRestored(cmd.OutOrStdout(), data, now)
		}
		if p, ok := errors.AsType[*problem](err); ok && (p.status == http.StatusUnauthorized || p.status == http.StatusForbidden) {
			return failed("the backup is in force, and does not know this token: %w", err)
		}
		select {
		case <-ctx.Done():
			return failed("whether the backup is in force is not known: the server has had no new epoch for %s (%w); its log says more", patience, errors.Join(ctx.Err(), err))
		case <-time.After(retryEvery):
		}
	}
}

// retryEvery is how often a server that starts anew is asked.
const retryEvery = 100 * time.Millisecond

func (o *options) printRestored(w io.Writer, data json.RawMessage, now status) error {
	if o.structured() {
		return o.printAnswer(w, data)
	}
	_, err := fmt.Fprintf(w, "restored: epoch %s, revision %s, %d rules\n", oneLine(now.Epoch), oneLine(string(now.Revision)), now.Rules)
	return err
}
