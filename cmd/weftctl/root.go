package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"
)

// options are the flags that several commands share.
type options struct {
	server    string
	namespace string
	output    string
	dryRun    bool
}

func newRoot() *cobra.Command {
	o := new(options)
	root := &cobra.Command{
		Use:   "weftctl",
		Short: "Show and change what a registry server holds",
		Long: `Show and change what a registry server holds.

On the host of the server, and as its user, the server and the token are found by themselves. Elsewhere WEFT_HTTP
(such as 127.0.0.1:7080) and WEFT_TOKEN say them; the token is in admin.token of the server's data directory.

Exit codes: 0 done; 1 the server refused, or there is no such thing; 2 called wrongly; 3 the server could not be
reached, or did not take the token.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if !slices.Contains([]string{"table", "json", "yaml"}, o.output) {
				return fmt.Errorf("--output %q: want table, json or yaml", o.output)
			}
			return nil
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	flags := root.PersistentFlags()
	flags.StringVar(&o.server, "server", "", "address of REST (default: WEFT_HTTP, else the server of this user on this host)")
	flags.StringVarP(&o.namespace, "namespace", "n", "", "namespace (default \"default\"; for documents, the one they state)")
	flags.StringVarP(&o.output, "output", "o", "table", "table, json or yaml")
	root.AddCommand(newGet(o), newApply(o), newDelete(o))
	return root
}
