package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// status is how a server is.
type status struct {
	Version, Epoch                       string
	Revision                             word
	StartedAt, LastBackup                time.Time
	Services, Instances, Rules, Sessions int
	Protected                            json.RawMessage
	Store                                struct {
		Path, State string
		Bytes       int64
	}
}

func newStatus(o *options) *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Show how the server is",
		Example: "  weftctl status\n  weftctl status -o json",
		Args:    words(),
		PreRunE: o.unbound,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.with(func(c *client) error {
				data, s, err := c.status(cmd)
				switch {
				case err != nil:
					return err
				case o.structured():
					return o.printAnswer(cmd.OutOrStdout(), data)
				case o.output == asName:
					_, err = fmt.Fprintln(cmd.OutOrStdout(), c.base)
					return err
				}
				return aligned(cmd.OutOrStdout(), s.rows(c, o))
			})
		},
	}
}

func (c *client) status(cmd *cobra.Command) (json.RawMessage, status, error) {
	data, err := c.get(cmd, "/v1/status", nil)
	if err != nil {
		return nil, status{}, err
	}
	s, err := read[status](data)
	return data, s, err
}

func (s status) rows(c *client, o *options) [][]string {
	rows := [][]string{
		{"server", c.base},
		{"version", s.Version},
		{"up", age(s.StartedAt, o.now())},
		{"epoch", s.Epoch},
		{"revision", string(s.Revision)},
		{"services", fmt.Sprint(s.Services)},
		{"instances", fmt.Sprint(s.Instances)},
		{"rules", fmt.Sprint(s.Rules)},
		{"sessions", fmt.Sprint(s.Sessions)},
		{"protected", string(s.Protected)},
		{"store", s.Store.State},
		{"last backup", first(age(s.LastBackup, o.now()), "never")},
	}
	if o.output == asWide {
		rows = append(rows, []string{"server from", c.from}, []string{"started", s.StartedAt.UTC().Format(time.RFC3339)},
			[]string{"store file", s.Store.Path}, []string{"store bytes", fmt.Sprint(s.Store.Bytes)})
	}
	return rows
}
