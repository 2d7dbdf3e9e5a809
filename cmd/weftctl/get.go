package main

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weftmesh/weft/rule"
)

func newGet(o *options) *cobra.Command {
	get := &cobra.Command{
		Use:   "get services | instances SERVICE | rules [KIND [NAME]] | aliases | clients | tokens | protection",
		Short: "Show what there is",
		Example: `  weftctl get services
  weftctl get instances product -o wide
  weftctl get rules -o yaml`,
		Args: subcommand, Run: nothing,
	}
	get.AddCommand(newGetServices(o), newGetInstances(o), newGetRules(o))
	for _, c := range []*cobra.Command{listAliases(o), listClients(o), listTokens(o), listProtection(o)} {
		name := c.Name()
		c.Example = "  weftctl get " + name + "\n  weftctl get " + name + " -o json"
		get.AddCommand(c)
	}
	return get
}

func newGetServices(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "services", Aliases: []string{"service"}, Short: "Show the services of a namespace", Args: words(),
		Example: "  weftctl get services\n  weftctl get services -n shop -o wide",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.show(cmd, "/v1/services", o.query(), services)
		},
	}
}

func newGetInstances(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "instances SERVICE", Aliases: []string{"instance"}, Short: "Show the instances of a service", Args: words("SERVICE"),
		Example: "  weftctl get instances product\n  weftctl get instances product.shop -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			service, query, err := o.service(args[0])
			if err != nil {
				return err
			}
			return o.show(cmd, instancesPath(service), query, instances)
		},
	}
}

func newGetRules(o *options) *cobra.Command {
	service := ""
	cmd := &cobra.Command{
		Use: "rules [KIND [NAME]]", Aliases: []string{"rule"}, Short: "Show rules", Args: cobra.MaximumNArgs(2),
		Example: `  weftctl get rules
  weftctl get rules retry --service product
  weftctl get rules route canary -o yaml`,
		ValidArgsFunction: completeKind,
		RunE: func(cmd *cobra.Command, args []string) error {
			query := o.query()
			switch {
			case len(args) == 2 && service != "":
				return fmt.Errorf("get rules: --service chooses among several; leave it out with KIND NAME")
			case len(args) == 2:
				return o.showOne(cmd, rulePath(args[0], args[1]), query, rules)
			case len(args) == 1:
				query.Set("kind", args[0])
			}
			if service != "" {
				query.Set("service", service)
			}
			return o.show(cmd, "/v1/rules", query, rules)
		},
	}
	cmd.Flags().StringVar(&service, "service", "", "only rules that name this service")
	return cmd
}

// show lists what is at a path.
func (o *options) show(cmd *cobra.Command, path string, query url.Values, t table) error {
	return o.with(func(c *client) error {
		items, err := c.list(cmd, path, query)
		if err != nil {
			return err
		}
		return o.print(cmd.OutOrStdout(), t, items)
	})
}

// showOne shows the one thing at a path.
func (o *options) showOne(cmd *cobra.Command, path string, query url.Values, t table) error {
	return o.with(func(c *client) error {
		item, err := c.get(cmd, path, query)
		if err != nil {
			return err
		}
		return o.printOne(cmd.OutOrStdout(), t, item)
	})
}

func instancesPath(service string) string {
	return "/v1/services/" + url.PathEscape(service) + "/instances"
}

// service is a service as it is shown.
type service struct {
	Name, Namespace, Revision string
	Instances, Rules          int
	States                    map[string]int
}

var services = tableOf("NAME INSTANCES STATES RULES | NAMESPACE REVISION", func(s service, _ time.Time) []string {
	return []string{s.Name, fmt.Sprint(s.Instances), counts(s.States), fmt.Sprint(s.Rules), s.Namespace, s.Revision}
}, func(s service) string { return "service/" + s.Name })

// instance is an instance as it is shown.
type instance struct {
	ID, Service, Namespace, Process, Address, Protocol, State string
	HTTP2, TLS                                                bool
	Weight                                                    int
	Locality                                                  struct{ Region, Zone string }
	Labels                                                    map[string]string
}

var instances = tableOf("ID ADDRESS PROTOCOL STATE WEIGHT ZONE LABELS | REGION HTTP2 TLS PROCESS", func(in instance, _ time.Time) []string {
	return []string{
		in.ID, in.Address, in.Protocol, in.State, fmt.Sprint(in.Weight), in.Locality.Zone, labels(in.Labels),
		in.Locality.Region, yes(in.HTTP2), yes(in.TLS), in.Process,
	}
}, func(in instance) string { return "instance/" + in.ID })

func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

// document is a rule as it is shown. It is not a [rule.Rule]: a newer server may have kinds that this command does not know.
type document struct {
	Kind, Namespace, Name, Service, Mode, Revision, UpdatedBy string
	UpdatedAt                                                 time.Time
}

var rules = tableOf("KIND NAME SERVICE MODE REVISION AGE | NAMESPACE BY", func(r document, now time.Time) []string {
	if r.Mode == "" {
		r.Mode = string(rule.Enforce)
	}
	return []string{r.Kind, r.Name, r.Service, r.Mode, r.Revision, age(r.UpdatedAt, now), r.Namespace, r.UpdatedBy}
}, func(r document) string { return strings.ToLower(r.Kind) + "/" + r.Name })
