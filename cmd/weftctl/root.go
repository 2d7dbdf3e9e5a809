package main

import (
	"fmt"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/rule"
)

// options are the flags that several commands share.
type options struct {
	server    string
	token     string
	pin       string
	namespace string
	output    string
	dryRun    bool
	wait      waiting
	now       func() time.Time
	silence   time.Duration // after it a watch is opened again
}

// The forms of output.
const (
	asTable = "table"
	asWide  = "wide"
	asJSON  = "json"
	asYAML  = "yaml"
	asName  = "name"
)

var outputs = [...]string{asTable, asWide, asJSON, asYAML, asName}

func newRoot(now func() time.Time) *cobra.Command {
	o := &options{now: now, silence: maxSilence}
	root := &cobra.Command{
		Use:   "weftctl",
		Short: "Show and change what a registry server holds",
		Long: `Show and change what a registry server holds.

On the host of the server, and as its user, the server and the token are found by themselves. Elsewhere WEFT_HTTP
(such as https://registry.example:7080) and WEFT_TOKEN say them; the administrator's token is in admin.token of the
server's data directory, others are made by weftctl tokens create. An address without a scheme means http:// on this
host and https:// elsewhere. WEFT_PIN is the pin of a server whose certificate is its own: the SHA-256 of its public
key, in hex.

Exit codes: 0 done; 1 the server refused, failed or could not be reached, there is no such thing, or what --wait
waits for did not come; 2 called wrongly; 3 diff found differences.`,
		Example: `  weftctl status
  weftctl get services
  weftctl apply -f canary.yaml --wait`,
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if !slices.Contains(outputs[:], o.output) {
				return fmt.Errorf("--output %q: want %s", o.output, strings.Join(outputs[:], ", "))
			}
			return nil
		},
	}
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	flags := root.PersistentFlags()
	flags.StringVar(&o.server, "server", "", "address of REST (default: WEFT_HTTP, else the server of this user on this host)")
	flags.StringVar(&o.token, "token", "", "token; WEFT_TOKEN is safer, as others on this host can read a command line")
	flags.StringVar(&o.pin, "pin", "", "pin of the server's key, for https:// (default: WEFT_PIN, else what the server of this user has written down, else the certificates that the system trusts)")
	flags.StringVarP(&o.namespace, "namespace", "n", "", "namespace (default \"default\"; for documents, the one they state)")
	flags.StringVarP(&o.output, "output", "o", asTable, strings.Join(outputs[:], ", "))
	complete(root, "output", outputs[:]...)
	root.AddCommand(newGet(o), newApply(o), newDiff(o), newDelete(o), newHistory(o), newRollback(o), newWatch(o),
		newDrain(o), newIsolate(o), newResume(o), newWeight(o), newRemove(o), newClients(o), newAudit(o), newTokens(o),
		newAlias(o), newProtection(o), newBackup(o), newRestore(o), newStatus(o))
	return root
}

// version is that of the module; (devel) if it was built in its sources.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}

// complete lets the shell complete the values of a flag.
func complete(cmd *cobra.Command, flag string, values ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // there is no such flag, or it is completed twice: every run would show it
	}
}

// completeKind lets the shell complete the kind of a rule, the first word of a command.
func completeKind(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var kinds []cobra.Completion
	if len(args) == 0 {
		for _, kind := range rule.Kinds() {
			kinds = append(kinds, strings.ToLower(string(kind)))
		}
	}
	return kinds, cobra.ShellCompDirectiveNoFileComp
}

// words wants one argument for each name.
func words(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		return fmt.Errorf("%s: want %s, got %q", strings.TrimPrefix(cmd.CommandPath(), "weftctl "), first(strings.Join(names, " "), "no arguments"), strings.Join(args, " "))
	}
}

// subcommand is Args of a command that does nothing by itself.
func subcommand(cmd *cobra.Command, args []string) error {
	var names []string
	for _, c := range cmd.Commands() {
		names = append(names, c.Name())
	}
	if len(args) == 0 {
		return fmt.Errorf("%s: say what: %s", cmd.Name(), strings.Join(names, ", "))
	}
	return fmt.Errorf("%s %q: want %s", cmd.Name(), args[0], strings.Join(names, ", "))
}

// nothing is Run of such a command: without it, cobra would print help and succeed.
func nothing(*cobra.Command, []string) {}

// query starts a query with the namespace, if one was given.
func (o *options) query() url.Values {
	query := url.Values{}
	if o.namespace != "" {
		query.Set("namespace", o.namespace)
	}
	return query
}

// service reads "product" or "product.shop", and starts a query with the namespace.
func (o *options) service(text string) (string, url.Values, error) {
	query := o.query()
	service, namespace, full := strings.Cut(text, ".")
	switch {
	case !full:
	case !discovery.IsLabel(namespace):
		return "", nil, fmt.Errorf("service %q: want a name such as product, or product.shop with its namespace", text)
	case o.namespace != "" && o.namespace != namespace:
		return "", nil, fmt.Errorf("service %q: its namespace is not %q as --namespace says; leave one of them out", text, o.namespace)
	default:
		query.Set("namespace", namespace)
	}
	if !discovery.IsLabel(service) {
		return "", nil, fmt.Errorf("service %q: want a DNS label (a-z, 0-9 and -, at most 63 characters), and .namespace if you like", text)
	}
	return service, query, nil
}

// unbound is PreRunE of commands about what belongs to no namespace.
func (o *options) unbound(cmd *cobra.Command, _ []string) error {
	if o.namespace != "" {
		return fmt.Errorf("--namespace %q: %s is about the whole server; leave it out", o.namespace, strings.TrimPrefix(cmd.CommandPath(), "weftctl "))
	}
	return nil
}

// dryRunFlag adds --dry-run.
func (o *options) dryRunFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "check, and show what would happen, but change nothing")
}
