package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weftmesh/weft/rule"
)

func newApply(o *options) *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Write rules: create what is not there, replace what differs",
		Long:  "Write rules: create what is not there, replace what differs. All documents of a file are written, or none.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(files) == 0 {
				return errors.New("apply: -f FILE is missing; - reads the standard input")
			}
			return o.each(cmd, files, func(c *client, data []byte) error {
				return o.write(cmd, c, http.MethodPost, "/v1/rules", o.query(), data)
			})
		},
	}
	cmd.Flags().StringArrayVarP(&files, "file", "f", nil, "file of YAML or JSON documents; - reads the standard input; may be given several times")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "check, and show what would happen, but write nothing")
	return cmd
}

func newDelete(o *options) *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:   "delete KIND NAME | delete -f FILE",
		Short: "Delete a rule, or those that a file names",
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(files) == 0 && len(args) == 2:
				return o.each(cmd, nil, func(c *client, _ []byte) error {
					return o.write(cmd, c, http.MethodDelete, rulePath(args[0], args[1]), o.query(), nil)
				})
			case len(files) > 0 && len(args) == 0:
				return o.each(cmd, files, func(c *client, data []byte) error { return o.deleteAll(cmd, c, data) })
			}
			return errors.New("delete: want KIND NAME, or -f FILE")
		},
	}
	cmd.Flags().StringArrayVarP(&files, "file", "f", nil, "delete the rules that the file's documents name; - reads the standard input")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "check, and show what would happen, but delete nothing")
	return cmd
}

// each reads the files, connects, and runs do for each file, or once without a file. It goes on after one that failed.
func (o *options) each(cmd *cobra.Command, files []string, do func(*client, []byte) error) error {
	documents := make([][]byte, len(files))
	for i, file := range files {
		var err error
		if documents[i], err = readFile(cmd, file); err != nil {
			return err
		}
	}
	c, err := o.connect()
	if err != nil {
		return err
	}
	defer c.close()
	if files == nil {
		return do(c, nil)
	}
	var errs []error
	for i, file := range files {
		if err := do(c, documents[i]); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", sourceName(file), err))
		}
	}
	return errors.Join(errs...)
}

func sourceName(file string) string {
	if file == "-" {
		return "standard input"
	}
	return file
}

// readFile reads a file or the standard input. That it cannot is an error of usage.
func readFile(cmd *cobra.Command, file string) ([]byte, error) {
	in := cmd.InOrStdin()
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	return io.ReadAll(io.LimitReader(in, rule.MaxInput+1)) // the server refuses what is larger
}

// write changes rules and prints what became of each.
func (o *options) write(cmd *cobra.Command, c *client, method, path string, query url.Values, data []byte) error {
	if o.dryRun {
		query.Set("dryRun", "true")
	}
	var answer struct {
		DryRun bool
		Items  []struct {
			Kind, Name, Outcome string
			Rule                json.RawMessage
		}
	}
	if err := c.call(cmd.Context(), method, path, query, data, &answer); err != nil {
		return err
	}
	if o.output != "table" {
		items := make([]json.RawMessage, len(answer.Items))
		for i, item := range answer.Items {
			items[i] = item.Rule
		}
		return o.print(cmd.OutOrStdout(), rules, items)
	}
	for _, item := range answer.Items {
		suffix := ""
		if answer.DryRun {
			suffix = " (dry run)"
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s/%s %s%s\n", strings.ToLower(item.Kind), item.Name, item.Outcome, suffix)
	}
	return nil
}

// deleteAll deletes the rules that documents name, and goes on after one that is not there.
func (o *options) deleteAll(cmd *cobra.Command, c *client, data []byte) error {
	documents, err := rule.Parse(data)
	if err != nil {
		return refused("%w", err)
	}
	if len(documents) == 0 {
		return refused("there is no document in it")
	}
	var errs []error
	for _, r := range documents {
		query := o.query()
		switch {
		case r.Namespace == "":
		case o.namespace != "" && o.namespace != r.Namespace:
			return refused("%s/%s: its namespace is %q, not %q as --namespace says; leave one of them out", strings.ToLower(string(r.Kind)), r.Name, r.Namespace, o.namespace)
		default:
			query.Set("namespace", r.Namespace)
		}
		err := o.write(cmd, c, http.MethodDelete, rulePath(string(r.Kind), r.Name), query, nil)
		if errors.Is(err, context.Canceled) {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
