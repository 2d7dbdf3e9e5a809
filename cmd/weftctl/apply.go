package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weftmesh/weft/rule"
)

const yamlMime = "application/yaml"

func newApply(o *options) *cobra.Command {
	var files, deletes []string
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Write rules: create what is not there, replace what differs",
		Long: `Write rules: create what is not there, replace what differs.

The documents of all files, and the rules to --delete, are one transaction: all is done, or nothing.`,
		Example: `  weftctl apply -f canary.yaml
  weftctl apply -f canary.yaml -f limits.yaml --wait=0.9
  weftctl apply -f rules/ --dry-run
  weftctl apply -f renamed.yaml --delete route/old-name
  weftctl get rules -o yaml | weftctl apply -f - --server https://other.example:7080`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := o.query()
			for _, key := range deletes {
				if kind, name, ok := strings.Cut(key, "/"); !ok || kind == "" || name == "" {
					return fmt.Errorf("--delete %q: want KIND/NAME, such as route/canary", key)
				}
				query.Add("delete", key)
			}
			return o.apply(cmd, files, query)
		},
	}
	fileFlag(cmd, &files)
	cmd.Flags().StringArrayVar(&deletes, "delete", nil, "KIND/NAME of a rule to delete in the same transaction; may be given several times")
	o.dryRunFlag(cmd)
	o.waitFlags(cmd)
	return cmd
}

func (o *options) apply(cmd *cobra.Command, files []string, query url.Values) error {
	b, err := needBundle(cmd, files)
	if err != nil {
		return err
	}
	return o.write(cmd, request{method: http.MethodPost, path: "/v1/rules", query: query, body: b.body, mime: yamlMime}, b.blame)
}

// needBundle reads what -f says, which must be something.
func needBundle(cmd *cobra.Command, files []string) (*bundle, error) {
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: -f FILE is missing; - reads the standard input", cmd.Name())
	}
	b, err := readBundle(cmd, files)
	if err != nil {
		return nil, err
	}
	if b.documents() == 0 {
		return nil, failed("there is no document in %s", sourceName(strings.Join(files, ", ")))
	}
	return b, nil
}

// written is the answer of a write of rules.
type written struct {
	DryRun       bool
	Items        []outcome
	Acknowledged *acknowledged
}

// outcome is what became, or would become, of one rule.
type outcome struct {
	Kind, Name, Outcome, Diff string
	Rule                      json.RawMessage
}

func (i outcome) key() string { return strings.ToLower(i.Kind) + "/" + i.Name }

// write changes rules and prints what became of each. explain may word an error better.
func (o *options) write(cmd *cobra.Command, r request, explain func(error) error) error {
	if o.dryRun {
		r.query.Set("dryRun", "true")
	}
	if err := o.wait.add(r.query); err != nil {
		return err
	}
	return o.with(func(c *client) error {
		data, err := c.call(cmd, r)
		if err != nil {
			return explain(err)
		}
		w, err := read[written](data)
		if err != nil {
			return err
		}
		if err := o.printWritten(cmd.OutOrStdout(), data, w); err != nil {
			return err
		}
		return o.printAcknowledged(cmd, w.Acknowledged)
	})
}

func asIs(err error) error { return err }

func (o *options) printWritten(w io.Writer, data json.RawMessage, done written) error {
	if o.structured() {
		return o.printAnswer(w, data)
	}
	if o.output != asName {
		printOutcomes(w, done)
		return nil
	}
	for _, item := range done.Items {
		fmt.Fprintln(w, oneLine(item.key()))
	}
	return nil
}

func printOutcomes(w io.Writer, done written) {
	suffix := ""
	if done.DryRun {
		suffix = " (dry run)"
	}
	for _, item := range done.Items {
		fmt.Fprintf(w, "%s %s%s\n", oneLine(item.key()), oneLine(item.Outcome), suffix)
		printDiff(w, item.Diff)
	}
}

func printDiff(w io.Writer, diff string) {
	if diff != "" {
		fmt.Fprintln(w, clean(strings.TrimSuffix(diff, "\n")))
	}
}

func newDelete(o *options) *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:   "delete KIND NAME | delete -f FILE",
		Short: "Delete a rule, or those that a file names",
		Example: `  weftctl delete route canary --dry-run
  weftctl delete route canary --wait
  weftctl delete -f canary.yaml`,
		ValidArgsFunction: completeKind,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(files) == 0 && len(args) == 2:
				return o.deleteRule(cmd, args[0], args[1], o.query())
			case len(files) > 0 && len(args) == 0:
				return o.deleteAll(cmd, files)
			}
			return errors.New("delete: want KIND NAME, or -f FILE")
		},
	}
	fileFlag(cmd, &files)
	o.dryRunFlag(cmd)
	o.waitFlags(cmd)
	return cmd
}

func (o *options) deleteRule(cmd *cobra.Command, kind, name string, query url.Values) error {
	return o.write(cmd, request{method: http.MethodDelete, path: rulePath(kind, name), query: query}, asIs)
}

// deleteAll deletes the rules that documents name, and goes on after one that is not there.
func (o *options) deleteAll(cmd *cobra.Command, files []string) error {
	b, err := needBundle(cmd, files)
	if err != nil {
		return err
	}
	documents, err := rule.Parse(b.body)
	if err != nil {
		return failed("%w", err)
	}
	var errs []error
	for _, r := range documents {
		query := o.query()
		switch {
		case r.Namespace == "":
		case o.namespace != "" && o.namespace != r.Namespace:
			return failed("%s/%s: its namespace is %q, not %q as --namespace says; leave one of them out", strings.ToLower(string(r.Kind)), r.Name, r.Namespace, o.namespace)
		default:
			query.Set("namespace", r.Namespace)
		}
		err := o.deleteRule(cmd, string(r.Kind), r.Name, query)
		if cmd.Context().Err() != nil {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func rulePath(kind, name string) string {
	return "/v1/rules/" + url.PathEscape(kind) + "/" + url.PathEscape(name)
}
