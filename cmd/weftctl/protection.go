package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

// protected is a service of which too many instances fell silent at once to remove them.
type protected struct {
	Service, Namespace     string
	Leases, Missing        int
	Since, OverriddenUntil time.Time
}

// allServices is how the protection of all services together is shown.
const allServices = "(all)"

var protections = tableOf("SERVICE NAMESPACE INSTANCES MISSING SINCE OVERRIDE-ENDS | SINCE-TIME", func(p protected, now time.Time) []string {
	return []string{
		first(p.Service, allServices), p.Namespace, fmt.Sprint(p.Leases), fmt.Sprint(p.Missing), age(p.Since, now), age(p.OverriddenUntil, now),
		p.Since.UTC().Format(time.RFC3339),
	}
}, func(p protected) string { return "service/" + first(p.Service, allServices) })

func newProtection(o *options) *cobra.Command {
	cmd := listProtection(o)
	cmd.Use = "protection [override | end]"
	cmd.Example = "  weftctl protection\n  weftctl protection override product --for 10m"
	cmd.AddCommand(newOverride(o), newEndOverride(o))
	return cmd
}

func listProtection(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "protection",
		Short: "Show which services are protected: too many instances fell silent at once to remove them",
		Args:  words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.show(cmd, "/v1/protection", o.query(), protections)
		},
	}
}

func newOverride(o *options) *cobra.Command {
	all, length := false, time.Duration(0)
	cmd := &cobra.Command{
		Use:     "override SERVICE --for DURATION | override --all --for DURATION",
		Short:   "Let silent instances expire all the same, for a time",
		Example: "  weftctl protection override product --for 10m\n  weftctl protection override --all --for 1h",
		Args:    oneOrAll(&all),
		RunE: func(cmd *cobra.Command, args []string) error {
			if length <= 0 || length > 24*time.Hour {
				return fmt.Errorf("protection override: --for %s: want a duration up to 24h, such as --for 10m", length)
			}
			return o.protect(cmd, args, length, "overridden for "+span(length))
		},
	}
	cmd.Flags().DurationVar(&length, "for", 0, "how long, at most 24h")
	cmd.Flags().BoolVar(&all, "all", false, "the protection of all services together, in place of one service's")
	return cmd
}

func newEndOverride(o *options) *cobra.Command {
	all := false
	cmd := &cobra.Command{
		Use:     "end SERVICE | end --all",
		Short:   "End an override: protect again",
		Example: "  weftctl protection end product\n  weftctl protection end --all",
		Args:    oneOrAll(&all),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.protect(cmd, args, 0, "no longer overridden") },
	}
	cmd.Flags().BoolVar(&all, "all", false, "the protection of all services together, in place of one service's")
	return cmd
}

// oneOrAll wants a service, or --all.
func oneOrAll(all *bool) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 && !*all || len(args) == 0 && *all {
			return nil
		}
		return fmt.Errorf("protection %s: want one SERVICE, or --all", cmd.Name())
	}
}

func (o *options) protect(cmd *cobra.Command, args []string, length time.Duration, what string) error {
	body := map[string]string{"for": length.String()}
	query, name := url.Values{}, allServices
	if len(args) == 1 {
		service, q, err := o.service(args[0])
		if err != nil {
			return err
		}
		query, name, body["service"] = q, args[0], service
	}
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	r := request{method: http.MethodPut, path: "/v1/protection", query: query, body: data}
	return o.change(cmd, r, "service/"+name, says("protection of "+name+" "+what))
}
