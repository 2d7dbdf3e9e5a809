package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// subscriber is a process with a session, and what it has of each service that it uses.
type subscriber struct {
	Process, Service, Namespace, Address, SDKVersion, Token string
	Since                                                   time.Time
	Instances                                               []json.RawMessage
	Services                                                []use
}

// use is how far a client is with a service.
type use struct {
	Service, Sent, Acked, Latest string
	Behind                       bool
	Nacks                        []struct{ Kind, Name, Namespace, Revision, Reason string }
}

// nacks says what a client has refused.
func (u use) nacks() string {
	var parts []string
	for _, n := range u.Nacks {
		parts = append(parts, fmt.Sprintf("%s/%s at %s: %s", strings.ToLower(n.Kind), n.Name, n.Revision, n.Reason))
	}
	return strings.Join(parts, "; ")
}

// behind lists what a client is behind with, or has refused.
func (s subscriber) behind() []use {
	return slices.DeleteFunc(slices.Clone(s.Services), func(u use) bool { return !u.Behind && len(u.Nacks) == 0 })
}

func (s subscriber) name() string { return "client/" + s.Process }

var clients = tableOf("PROCESS SERVICE ADDRESS SDK SINCE USES BEHIND NACKS | NAMESPACE TOKEN INSTANCES", func(s subscriber, now time.Time) []string {
	late, nacks := 0, 0
	for _, u := range s.Services {
		nacks += len(u.Nacks)
		if u.Behind {
			late++
		}
	}
	return []string{
		s.Process, s.Service, s.Address, s.SDKVersion, age(s.Since, now), fmt.Sprint(len(s.Services)), fmt.Sprint(late), fmt.Sprint(nacks),
		s.Namespace, s.Token, fmt.Sprint(len(s.Instances)),
	}
}, subscriber.name)

func newClients(o *options) *cobra.Command {
	behind := false
	cmd := listClients(o)
	cmd.Example = `  weftctl clients
  weftctl clients --service product
  weftctl clients --behind`
	list := cmd.RunE
	cmd.Flags().BoolVar(&behind, "behind", false, "only clients that have not acknowledged the latest revision of a service, or have refused a rule, and what that is")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !behind {
			return list(cmd, args)
		}
		service, err := cmd.Flags().GetString("service")
		if err != nil {
			return err
		}
		return o.showBehind(cmd, service)
	}
	return cmd
}

func listClients(o *options) *cobra.Command {
	service := ""
	cmd := &cobra.Command{
		Use: "clients", Short: "Show which processes have a session, and how far they are", Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := o.query()
			if service != "" {
				query.Set("service", service)
			}
			return o.show(cmd, "/v1/clients", query, clients)
		},
	}
	cmd.Flags().StringVar(&service, "service", "", "only clients that use this service, such as product or product.shop")
	return cmd
}

// showBehind shows the clients that are behind: whole, or a row for each service that they are behind with.
func (o *options) showBehind(cmd *cobra.Command, service string) error {
	query := o.query()
	if service != "" {
		query.Set("service", service)
	}
	return o.with(func(c *client) error {
		items, err := c.list(cmd, "/v1/clients", query)
		if err != nil {
			return err
		}
		var late []json.RawMessage
		rows := [][]string{{"PROCESS", "CLIENT", "SERVICE", "SENT", "ACKED", "LATEST", "REFUSED"}}
		for _, item := range items {
			s, err := read[subscriber](item)
			if err != nil {
				return err
			}
			for _, u := range s.behind() {
				rows = append(rows, []string{s.Process, s.Service, u.Service, u.Sent, u.Acked, u.Latest, u.nacks()})
			}
			if len(s.behind()) > 0 {
				late = append(late, item)
			}
		}
		if o.structured() || o.output == asName {
			return o.print(cmd.OutOrStdout(), clients, late)
		}
		return aligned(cmd.OutOrStdout(), rows)
	})
}
