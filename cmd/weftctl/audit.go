package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/weftmesh/weft/rule"
)

// entry is one line of the audit log.
type entry struct {
	Number                                                       uint64
	At                                                           time.Time
	Who, From, Action, Kind, Namespace, Target, Revision, Detail string
}

var entries = tableOf("AGE WHO ACTION KIND TARGET DETAIL | AT FROM NAMESPACE REVISION NUMBER", func(e entry, now time.Time) []string {
	return []string{
		age(e.At, now), e.Who, e.Action, e.Kind, e.Target, e.Detail,
		e.At.UTC().Format(time.RFC3339), e.From, e.Namespace, e.Revision, fmt.Sprint(e.Number),
	}
}, func(e entry) string { return fmt.Sprint(e.Number) })

// auditPage is how many entries are asked for at once.
const auditPage = 1000

func newAudit(o *options) *cobra.Command {
	var who, kind, target, since string
	limit := 0
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show who changed what, when and from where, the newest first",
		Example: `  weftctl audit
  weftctl audit --who alice --since 24h
  weftctl audit --kind route --target canary --limit 10 -o wide`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 0 {
				return fmt.Errorf("--limit %d: want 1 or more, or 0 for all", limit)
			}
			from, err := o.since(since)
			if err != nil {
				return err
			}
			if known, ok := rule.KindOf(kind); ok {
				kind = string(known) // the log has kinds of rules as documents write them
			}
			query := o.query()
			for name, value := range map[string]string{"who": who, "kind": kind, "target": target} {
				if value != "" {
					query.Set(name, value)
				}
			}
			return o.showAudit(cmd, query, from, limit)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&who, "who", "", "only changes by the holder of the token of this name")
	flags.StringVar(&kind, "kind", "", "only changes of instances, aliases, tokens or a kind of rules")
	flags.StringVar(&target, "target", "", "only changes of this: the name of a rule, or SERVICE/ID of an instance")
	flags.StringVar(&since, "since", "", "only changes since then: a duration such as 24h, or a time such as 2026-01-31T12:00:00Z")
	flags.IntVar(&limit, "limit", 100, "how many at most; 0 is all")
	return cmd
}

// since reads a duration before now, or a time; "" is the beginning.
func (o *options) since(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return o.now().Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("--since %q: want a duration such as 24h, or a time such as 2026-01-31T12:00:00Z", text)
	}
	return t, nil
}

func (o *options) showAudit(cmd *cobra.Command, query url.Values, from time.Time, limit int) error {
	return o.with(func(c *client) error {
		var all []json.RawMessage
		for {
			query.Set("limit", strconv.Itoa(pageOf(limit, len(all))))
			items, next, err := c.page(cmd, "/v1/audit", query)
			if err != nil {
				return err
			}
			recent, err := after(items, from)
			if err != nil {
				return err
			}
			all = append(all, recent...)
			if next == "" || len(recent) < len(items) || limit > 0 && len(all) >= limit {
				return o.print(cmd.OutOrStdout(), entries, all)
			}
			query.Set("before", next)
		}
	})
}

// pageOf says how many entries to ask for.
func pageOf(limit, have int) int {
	if limit == 0 {
		return auditPage
	}
	return min(limit-have, auditPage)
}

// after cuts entries, the newest first, where they become older than from.
func after(items []json.RawMessage, from time.Time) ([]json.RawMessage, error) {
	for i, item := range items {
		e, err := read[entry](item)
		if err != nil {
			return nil, err
		}
		if e.At.Before(from) {
			return items[:i], nil
		}
	}
	return items, nil
}
