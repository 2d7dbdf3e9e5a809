package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// grant is a token as it is shown.
type grant struct {
	ID, Name, Role, CreatedBy string
	Namespaces, Services      []string
	CreatedAt, ExpiresAt      time.Time
	Token                     string // its text, at its creation only
}

var grants = tableOf("ID NAME ROLE NAMESPACES SERVICES EXPIRES | CREATED BY", func(g grant, now time.Time) []string {
	return []string{g.ID, g.Name, g.Role, list(g.Namespaces, "all"), list(g.Services, ""), first(age(g.ExpiresAt, now), "never"), age(g.CreatedAt, now), g.CreatedBy}
}, func(g grant) string { return "token/" + g.ID })

func list(names []string, none string) string { return first(strings.Join(names, ","), none) }

func newTokens(o *options) *cobra.Command {
	tokens := &cobra.Command{
		Use:     "tokens create | list | revoke",
		Short:   "Make, show and revoke tokens",
		Example: "  weftctl tokens create --name ci --role operator --namespaces shop --ttl 24h\n  weftctl tokens list",
		Args:    subcommand, Run: nothing,
	}
	all := listTokens(o)
	all.Use, all.Example = "list", "  weftctl tokens list\n  weftctl tokens list -o wide"
	tokens.AddCommand(newTokensCreate(o), all, newTokensRevoke(o))
	return tokens
}

func listTokens(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "tokens", Short: "Show the tokens that were made, not their texts", Args: words(), PreRunE: o.unbound,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.show(cmd, "/v1/tokens", url.Values{}, grants) },
	}
}

// spec is the body that makes a token.
type spec struct {
	Name       string   `json:"name"`
	Role       string   `json:"role"`
	Namespaces []string `json:"namespaces,omitempty"`
	Services   []string `json:"services,omitempty"`
	TTL        string   `json:"ttl,omitempty"`
}

var roles = [...]string{"reader", "operator", "admin", "workload"}

func newTokensCreate(o *options) *cobra.Command {
	s, ttl := spec{}, time.Duration(0)
	cmd := &cobra.Command{
		Use:   "create --name NAME --role ROLE",
		Short: "Make a token and print it, this once",
		Long: `Make a token and print it, this once: the server keeps a hash. The text alone goes to the standard output.

A reader sees everything but tokens, the audit log and backups. An operator also changes rules, aliases and instances,
and reads the audit log. An admin may do everything. A workload opens sessions: it is what a service has.`,
		Example: `  weftctl tokens create --name ci --role operator --namespaces shop --ttl 24h
  weftctl tokens create --name product --role workload --services product.shop`,
		Args:    words(),
		PreRunE: o.unbound,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if s.Name == "" {
				return errors.New("tokens create: --name is missing; the audit log will show it")
			}
			if !slices.Contains(roles[:], s.Role) {
				return fmt.Errorf("--role %q: want %s", s.Role, strings.Join(roles[:], ", "))
			}
			if ttl < 0 {
				return fmt.Errorf("--ttl %s: want a duration such as 24h, or 0 for a token that does not expire", ttl)
			}
			if ttl > 0 {
				s.TTL = ttl.String()
			}
			return o.createToken(cmd, s)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&s.Name, "name", "", "what the audit log calls its holder")
	flags.StringVar(&s.Role, "role", "", strings.Join(roles[:], ", "))
	flags.StringSliceVar(&s.Namespaces, "namespaces", nil, "only these namespaces, separated by commas (default: all)")
	flags.StringSliceVar(&s.Services, "services", nil, "the services that a workload may register, such as product.shop (default: all of its namespaces)")
	flags.DurationVar(&ttl, "ttl", 0, "how long it is valid (default: until it is revoked)")
	complete(cmd, "role", roles[:]...)
	return cmd
}

func (o *options) createToken(cmd *cobra.Command, s spec) error {
	body, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return o.with(func(c *client) error {
		data, err := c.call(cmd, request{method: http.MethodPost, path: "/v1/tokens", body: body})
		if err != nil {
			return err
		}
		g, err := read[grant](data)
		switch {
		case err != nil:
			return err
		case o.structured():
			return o.printAnswer(cmd.OutOrStdout(), data)
		case o.output == asName:
			fmt.Fprintln(cmd.ErrOrStderr(), "the text of the token is shown without -o name only; revoke it if it is lost")
			fmt.Fprintln(cmd.OutOrStdout(), "token/"+oneLine(g.ID))
			return nil
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "token %s (%s, %s) expires: %s; it is shown this once\n", oneLine(g.ID), oneLine(g.Name), oneLine(g.Role), first(age(g.ExpiresAt, o.now()), "never"))
		_, err = fmt.Fprintln(cmd.OutOrStdout(), oneLine(g.Token))
		return err
	})
}

func newTokensRevoke(o *options) *cobra.Command {
	return &cobra.Command{
		Use:     "revoke ID...",
		Short:   "Take tokens back; their sessions end within 5 s",
		Example: "  weftctl tokens revoke 3f9a\n  weftctl tokens revoke 3f9a 77d0",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("tokens revoke: want the ID of a token, as tokens list shows it")
			}
			return nil
		},
		PreRunE: o.unbound,
		RunE: func(cmd *cobra.Command, args []string) error {
			var errs []error
			for _, id := range args {
				r := request{method: http.MethodDelete, path: "/v1/tokens/" + url.PathEscape(id)}
				errs = append(errs, o.change(cmd, r, "token/"+id, says("token/"+id+" revoked")))
			}
			return errors.Join(errs...)
		},
	}
}

// says is what to print about a change when the answer does not matter.
func says(text string) func(json.RawMessage) (string, error) {
	return func(json.RawMessage) (string, error) { return text, nil }
}
