package main

import (
	"errors"
	"io"
	"net/http"

	"github.com/spf13/cobra"
)

func newDiff(o *options) *cobra.Command {
	var files []string
	var from, to string
	cmd := &cobra.Command{
		Use:   "diff -f FILE | diff KIND NAME [--from REV] [--to REV]",
		Short: "Show what apply would change, or how two versions of a rule differ",
		Long: `Show what apply would change, or how two versions of a rule differ: without --from and --to, the newest and the
one before. The exit code is 0 if there is no difference, 3 if there is one, and 1 or 2 if it could not be found out.`,
		Example: `  weftctl diff -f canary.yaml
  weftctl diff route canary
  weftctl diff route canary --from 1f-12 --to 1f-42`,
		ValidArgsFunction: completeKind,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(files) > 0 && len(args) == 0 && from == "" && to == "":
				return o.diffFiles(cmd, files)
			case len(files) == 0 && len(args) == 2:
				return o.diffVersions(cmd, args[0], args[1], from, to)
			}
			return errors.New("diff: want -f FILE, or KIND NAME")
		},
	}
	fileFlag(cmd, &files)
	cmd.Flags().StringVar(&from, "from", "", "revision of the old version, as history shows it")
	cmd.Flags().StringVar(&to, "to", "", "revision of the new version")
	return cmd
}

func (o *options) diffFiles(cmd *cobra.Command, files []string) error {
	b, err := needBundle(cmd, files)
	if err != nil {
		return err
	}
	query := o.query()
	query.Set("dryRun", "true")
	return o.with(func(c *client) error {
		data, err := c.call(cmd, request{method: http.MethodPost, path: "/v1/rules", query: query, body: b.body, mime: yamlMime})
		if err != nil {
			return b.blame(err)
		}
		w, err := read[written](data)
		if err != nil {
			return err
		}
		changed := w.changed()
		if err := o.printDiffs(cmd.OutOrStdout(), data, written{DryRun: true, Items: changed}); err != nil {
			return err
		}
		return differs(len(changed) > 0)
	})
}

// changed leaves out what is unchanged.
func (w written) changed() []outcome {
	var changed []outcome
	for _, item := range w.Items {
		if item.Outcome != "unchanged" {
			changed = append(changed, item)
		}
	}
	return changed
}

func (o *options) printDiffs(w io.Writer, data []byte, changed written) error {
	if o.structured() || o.output == asName {
		return o.printWritten(w, data, changed)
	}
	for _, item := range changed.Items {
		printDiff(w, item.Diff)
	}
	return nil
}

func (o *options) diffVersions(cmd *cobra.Command, kind, name, from, to string) error {
	query := o.query()
	if from != "" {
		query.Set("from", from)
	}
	if to != "" {
		query.Set("to", to)
	}
	return o.with(func(c *client) error {
		data, err := c.get(cmd, rulePath(kind, name)+"/diff", query)
		if err != nil {
			return err
		}
		answer, err := read[struct{ Diff string }](data)
		switch {
		case err != nil:
			return err
		case o.structured():
			err = o.printAnswer(cmd.OutOrStdout(), data)
		default:
			printDiff(cmd.OutOrStdout(), answer.Diff)
		}
		if err != nil {
			return err
		}
		return differs(answer.Diff != "")
	})
}

func differs(yes bool) error {
	if yes {
		return errDiffers
	}
	return nil
}
