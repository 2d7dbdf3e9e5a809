package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weftmesh/weft/rule"
)

func newGet(o *options) *cobra.Command {
	get := &cobra.Command{
		Use:   "get services | instances SERVICE | rules [KIND [NAME]]",
		Short: "Show services, instances or rules",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf("get: say what: services, instances SERVICE, or rules [KIND [NAME]]")
			}
			return fmt.Errorf("get %q: want services, instances or rules", args[0])
		},
		Run: func(*cobra.Command, []string) {}, // Args refuses whatever is not a subcommand
	}
	get.AddCommand(
		&cobra.Command{
			Use: "services", Aliases: []string{"service"}, Short: "Show the services of a namespace", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return o.show(cmd, "/v1/services", nil, services)
			},
		},
		&cobra.Command{
			Use: "instances SERVICE", Aliases: []string{"instance"}, Short: "Show the instances of a service",
			Args: func(_ *cobra.Command, args []string) error {
				if len(args) != 1 {
					return fmt.Errorf("get instances: want the name of one SERVICE, got %d words", len(args))
				}
				return nil
			},
			RunE: func(cmd *cobra.Command, args []string) error {
				return o.show(cmd, "/v1/services/"+url.PathEscape(args[0])+"/instances", nil, instances)
			},
		},
		newGetRules(o))
	return get
}

func newGetRules(o *options) *cobra.Command {
	service := ""
	cmd := &cobra.Command{
		Use: "rules [KIND [NAME]]", Aliases: []string{"rule"}, Short: "Show rules", Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				return o.showRule(cmd, args[0], args[1])
			}
			query := url.Values{}
			if len(args) == 1 {
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

// query starts a query with the namespace, if one was given.
func (o *options) query() url.Values {
	query := url.Values{}
	if o.namespace != "" {
		query.Set("namespace", o.namespace)
	}
	return query
}

// show lists what is at a path.
func (o *options) show(cmd *cobra.Command, path string, query url.Values, t table) error {
	c, err := o.connect()
	if err != nil {
		return err
	}
	defer c.close()
	all := o.query()
	maps.Copy(all, query)
	items, err := c.list(cmd.Context(), path, all)
	if err != nil {
		return err
	}
	return o.print(cmd.OutOrStdout(), t, items)
}

func (o *options) showRule(cmd *cobra.Command, kind, name string) error {
	c, err := o.connect()
	if err != nil {
		return err
	}
	defer c.close()
	var item json.RawMessage
	if err := c.call(cmd.Context(), http.MethodGet, rulePath(kind, name), o.query(), nil, &item); err != nil {
		return err
	}
	return o.print(cmd.OutOrStdout(), rules, []json.RawMessage{item})
}

func rulePath(kind, name string) string {
	return "/v1/rules/" + url.PathEscape(kind) + "/" + url.PathEscape(name)
}

// table says how items become rows.
type table struct {
	header string
	row    func(json.RawMessage) (string, error) // with tabs
}

var (
	services = table{"NAME\tINSTANCES\tSTATES\tRULES", func(item json.RawMessage) (string, error) {
		var s struct {
			Name             string
			Instances, Rules int
			States           map[string]int
		}
		err := json.Unmarshal(item, &s)
		return fmt.Sprintf("%s\t%d\t%s\t%d", s.Name, s.Instances, counts(s.States), s.Rules), err
	}}
	instances = table{"ID\tADDRESS\tPROTOCOL\tSTATE\tWEIGHT\tZONE\tLABELS", func(item json.RawMessage) (string, error) {
		var in struct {
			ID, Address, Protocol, State string
			Weight                       int
			Locality                     struct{ Region, Zone string }
			Labels                       map[string]string
		}
		err := json.Unmarshal(item, &in)
		return fmt.Sprintf("%s\t%s\t%s\t%s\t%d\t%s\t%s", in.ID, in.Address, in.Protocol, in.State, in.Weight, dash(in.Locality.Zone), labels(in.Labels)), err
	}}
	rules = table{"KIND\tNAME\tSERVICE\tMODE\tREVISION\tUPDATED", func(item json.RawMessage) (string, error) {
		// Not rule.Rule: a newer server may have kinds that this command does not know.
		var r struct{ Kind, Name, Service, Mode, Revision, UpdatedAt string }
		err := json.Unmarshal(item, &r)
		if r.Mode == "" {
			r.Mode = string(rule.Enforce)
		}
		return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s", r.Kind, r.Name, r.Service, r.Mode, r.Revision, r.UpdatedAt), err
	}}
)

// counts writes {"up": 2, "draining": 1} as "draining 1, up 2".
func counts(states map[string]int) string {
	var parts []string
	for _, state := range slices.Sorted(maps.Keys(states)) {
		parts = append(parts, fmt.Sprintf("%s %d", state, states[state]))
	}
	return dash(strings.Join(parts, ", "))
}

func labels(l map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(l)) {
		parts = append(parts, name+"="+l[name])
	}
	return dash(strings.Join(parts, ","))
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
