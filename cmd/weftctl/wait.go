package main

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// The time that a server waits.
const (
	defaultWait = 10 * time.Second
	maxWait     = time.Minute
)

// waiting is what --wait and --wait-timeout say.
type waiting struct {
	share   string // "": not at all; true, or 0 to 1
	timeout time.Duration
}

// waitFlags adds --wait and --wait-timeout.
func (o *options) waitFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.wait.share, "wait", "", "wait until live clients have acknowledged the change: all of them, or a share such as --wait=0.9")
	flags.Lookup("wait").NoOptDefVal = "true"
	flags.DurationVar(&o.wait.timeout, "wait-timeout", defaultWait, "how long --wait waits, at most 1m")
}

// add asks the server to wait.
func (w waiting) add(query url.Values) error {
	switch {
	case w.share == "" && w.timeout != 0 && w.timeout != defaultWait:
		return fmt.Errorf("--wait-timeout %s: says how long --wait waits, and --wait is not given", w.timeout)
	case w.share == "":
		return nil
	case query.Get("dryRun") != "":
		return errors.New("--wait: there is nothing to wait for with --dry-run; leave one of them out")
	}
	if share, err := strconv.ParseFloat(w.share, 64); w.share != "true" && (err != nil || !(share >= 0 && share <= 1)) {
		return fmt.Errorf("--wait=%s: want a share from 0 to 1, such as --wait=0.9, or --wait alone for all clients", w.share)
	}
	if w.timeout <= 0 || w.timeout > maxWait {
		return fmt.Errorf("--wait-timeout %s: want more than 0s and at most %s", w.timeout, maxWait)
	}
	query.Set("wait", w.share)
	query.Set("waitTimeout", w.timeout.String())
	return nil
}

// acknowledged is the part of an answer that says what came of waiting; nil if nobody waited.
type acknowledged struct {
	Live, Acked int
	Complete    bool
}

// printAcknowledged says what came of waiting: on the standard error if the standard output has names, and not at all if it
// has the whole answer. It fails if too few came in time.
func (o *options) printAcknowledged(cmd *cobra.Command, a *acknowledged) error {
	if a == nil {
		return nil
	}
	if !a.Complete {
		return failed("the change is made, but only %d of %d clients have acknowledged it within %s; weftctl clients --behind shows which have not", a.Acked, a.Live, o.wait.timeout)
	}
	w := cmd.OutOrStdout()
	switch {
	case o.structured():
		return nil
	case o.output == asName:
		w = cmd.ErrOrStderr()
	}
	_, err := fmt.Fprintf(w, "acknowledged by %d of %d clients\n", a.Acked, a.Live)
	return err
}
