package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

// alias is another name of a service.
type alias struct{ Name, Namespace, Service, Revision string }

var aliases = tableOf("NAME SERVICE | NAMESPACE REVISION", func(a alias, _ time.Time) []string {
	return []string{a.Name, a.Service, a.Namespace, a.Revision}
}, func(a alias) string { return "alias/" + a.Name })

func newAlias(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "alias set | delete | list",
		Short:   "Give a service another name, also one of a legacy system such as 64001:17",
		Example: "  weftctl alias set 64001:17 product\n  weftctl alias list",
		Args:    subcommand, Run: nothing,
	}
	all := listAliases(o)
	all.Use, all.Example = "list", "  weftctl alias list\n  weftctl alias list -n shop -o wide"
	cmd.AddCommand(newAliasSet(o), newAliasDelete(o), all)
	return cmd
}

func listAliases(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "aliases", Short: "Show the aliases of a namespace", Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error { return o.show(cmd, "/v1/aliases", o.query(), aliases) },
	}
}

func aliasPath(name string) string { return "/v1/aliases/" + url.PathEscape(name) }

func newAliasSet(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "set NAME SERVICE",
		Short:   "Write an alias: calls to NAME go to SERVICE",
		Example: "  weftctl alias set 64001:17 product\n  weftctl alias set items product.shop --wait",
		Args:    words("NAME", "SERVICE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			body, err := json.Marshal(map[string]string{"service": args[1]})
			if err != nil {
				return err
			}
			r := request{method: http.MethodPut, path: aliasPath(args[0]), query: o.query(), body: body}
			return o.change(cmd, r, "alias/"+args[0], says("alias/"+args[0]+" stands for "+args[1]))
		},
	}
	o.waitFlags(cmd)
	return cmd
}

func newAliasDelete(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "delete NAME",
		Short:   "Delete an alias",
		Example: "  weftctl alias delete 64001:17",
		Args:    words("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r := request{method: http.MethodDelete, path: aliasPath(args[0]), query: o.query()}
			return o.change(cmd, r, "alias/"+args[0], says("alias/"+args[0]+" deleted"))
		},
	}
	o.waitFlags(cmd)
	return cmd
}
