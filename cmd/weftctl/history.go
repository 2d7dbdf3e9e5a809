package main

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

// revision is one version of a rule.
type revision struct {
	Revision, By, Outcome string
	At                    time.Time
	Rule                  struct{ Service, Mode string }
}

var versions = tableOf("REVISION AGE BY OUTCOME | SERVICE MODE AT", func(v revision, now time.Time) []string {
	return []string{v.Revision, age(v.At, now), v.By, v.Outcome, v.Rule.Service, v.Rule.Mode, v.At.UTC().Format(time.RFC3339)}
}, func(v revision) string { return v.Revision })

func newHistory(o *options) *cobra.Command {
	return &cobra.Command{
		Use:               "history KIND NAME",
		Short:             "Show the versions of a rule, the newest first",
		Example:           "  weftctl history route canary\n  weftctl history route canary -o yaml",
		Args:              words("KIND", "NAME"),
		ValidArgsFunction: completeKind,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.show(cmd, rulePath(args[0], args[1])+"/history", o.query(), versions)
		},
	}
}

func newRollback(o *options) *cobra.Command {
	to := ""
	cmd := &cobra.Command{
		Use:   "rollback KIND NAME",
		Short: "Go back to an earlier version of a rule",
		Long: `Go back to an earlier version of a rule, by default the one before the newest. What it brings back becomes a new
version. A deleted rule comes back too. Without --to, a change that somebody else makes meanwhile is not overwritten.`,
		Example:           "  weftctl rollback route canary --dry-run\n  weftctl rollback route canary --to 1f-12 --wait",
		Args:              words("KIND", "NAME"),
		ValidArgsFunction: completeKind,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.rollback(cmd, rulePath(args[0], args[1]), to)
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "revision to go back to, as history shows it")
	o.dryRunFlag(cmd)
	o.waitFlags(cmd)
	return cmd
}

func (o *options) rollback(cmd *cobra.Command, path, to string) error {
	r := request{method: http.MethodPost, path: path + "/rollback", query: o.query()}
	if to == "" {
		var err error
		if to, r.header, err = o.before(cmd, path); err != nil {
			return err
		}
	}
	body, err := json.Marshal(map[string]string{"revision": to})
	if err != nil {
		return err
	}
	r.body = body
	return o.write(cmd, r, asIs)
}

const outcomeDeleted = "deleted"

// before finds the version before the newest, and the guard that the newest still is the newest.
func (o *options) before(cmd *cobra.Command, path string) (revision string, guard http.Header, err error) {
	err = o.with(func(c *client) error {
		query := o.query()
		query.Set("limit", "2")
		items, _, err := c.page(cmd, path+"/history", query)
		if err != nil {
			return err
		}
		if len(items) < 2 {
			return failed("there is no earlier version: this is the first")
		}
		revision, guard, err = goBack(items[0], items[1])
		return err
	})
	return revision, guard, err
}

func goBack(newest, earlier json.RawMessage) (string, http.Header, error) {
	now, err := read[revision](newest)
	if err != nil {
		return "", nil, err
	}
	then, err := read[revision](earlier)
	if err != nil {
		return "", nil, err
	}
	if then.Outcome == outcomeDeleted {
		return "", nil, failed("before its newest version the rule was deleted (%s); weftctl delete deletes it, --to names an earlier version", then.Revision)
	}
	if now.Outcome == outcomeDeleted {
		return then.Revision, nil, nil
	}
	return then.Revision, http.Header{"If-Match": {`"` + now.Revision + `"`}}, nil
}
