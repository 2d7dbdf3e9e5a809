package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// order is what an operator says about an instance.
type order struct {
	Weight int    `json:"weight,omitempty"`
	State  string `json:"state,omitempty"`
	Reset  bool   `json:"reset,omitempty"`
}

func newDrain(o *options) *cobra.Command {
	return o.orderCommand(&cobra.Command{
		Use:     "drain SERVICE ID",
		Short:   "Send an instance no new calls; those under way end",
		Long:    "Send an instance no new calls; those under way end. With --wait, it is safe to stop it once this command ends.",
		Example: "  weftctl drain product p1 --wait\n  weftctl drain product.shop p1 --wait --wait-timeout 30s",
	}, order{State: "draining"})
}

func newIsolate(o *options) *cobra.Command {
	return o.orderCommand(&cobra.Command{
		Use:     "isolate SERVICE ID",
		Short:   "Take an instance out of traffic but keep it, to look into it",
		Example: "  weftctl isolate product p1\n  weftctl isolate product p1 --wait",
	}, order{State: "isolated"})
}

func newResume(o *options) *cobra.Command {
	return o.orderCommand(&cobra.Command{
		Use:     "resume SERVICE ID",
		Short:   "Send an instance calls again: undo drain and isolate",
		Example: "  weftctl resume product p1",
	}, order{State: "up"})
}

// orderCommand completes a command that gives an order.
func (o *options) orderCommand(cmd *cobra.Command, what order) *cobra.Command {
	cmd.Args = words("SERVICE", "ID")
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return o.order(cmd, args[0], args[1], what) }
	o.waitFlags(cmd)
	return cmd
}

func newWeight(o *options) *cobra.Command {
	reset := false
	cmd := &cobra.Command{
		Use:   "weight SERVICE ID N | weight SERVICE ID --reset",
		Short: "Change the weight of an instance, its share of the calls beside the others'",
		Long: `Change the weight of an instance, its share of the calls beside the others': 1 to 10000, 100 if nothing is said.
--reset forgets every order about the instance, also drain and isolate: what its process says holds again.`,
		Example: "  weftctl weight product p1 10\n  weftctl weight product p1 --reset",
		RunE: func(cmd *cobra.Command, args []string) error {
			what, err := weightOf(args, reset)
			if err != nil {
				return err
			}
			return o.order(cmd, args[0], args[1], what)
		},
	}
	cmd.Flags().BoolVar(&reset, "reset", false, "forget every order about the instance")
	o.waitFlags(cmd)
	return cmd
}

func weightOf(args []string, reset bool) (order, error) {
	switch {
	case reset && len(args) == 2:
		return order{Reset: true}, nil
	case reset || len(args) != 3:
		return order{}, fmt.Errorf("weight: want SERVICE ID N, or SERVICE ID --reset, got %q", strings.Join(args, " "))
	}
	n, err := strconv.Atoi(args[2])
	if err != nil || n < 1 || n > 10000 {
		return order{}, fmt.Errorf("weight %q: want 1 to 10000; to send no calls there, isolate it", args[2])
	}
	return order{Weight: n}, nil
}

func (o *options) order(cmd *cobra.Command, name, id string, what order) error {
	body, err := json.Marshal(what)
	if err != nil {
		return err
	}
	return o.changeInstance(cmd, name, id, request{method: http.MethodPatch, body: body}, func(in instance) string {
		return fmt.Sprintf("instance/%s %s, weight %d", id, in.State, in.Weight)
	})
}

func newRemove(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "remove SERVICE ID",
		Short:   "Remove an instance; it stays away until a new process registers it",
		Example: "  weftctl remove product p1 --wait",
		Args:    words("SERVICE", "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.changeInstance(cmd, args[0], args[1], request{method: http.MethodDelete}, func(instance) string {
				return "instance/" + args[1] + " removed"
			})
		},
	}
	o.waitFlags(cmd)
	return cmd
}

// changeInstance sends a request about an instance, and prints what came of it.
func (o *options) changeInstance(cmd *cobra.Command, name, id string, r request, say func(instance) string) error {
	service, query, err := o.service(name)
	if err != nil {
		return err
	}
	r.path, r.query = instancesPath(service)+"/"+url.PathEscape(id), query
	return o.change(cmd, r, "instance/"+id, func(data json.RawMessage) (string, error) {
		in, err := readAny[instance](data)
		return say(in), err
	})
}

// change sends a request that changes one thing, and prints the answer as -o wants it: whole, the name of the thing, or
// what say says about it.
func (o *options) change(cmd *cobra.Command, r request, name string, say func(json.RawMessage) (string, error)) error {
	if err := o.wait.add(r.query); err != nil {
		return err
	}
	return o.with(func(c *client) error {
		data, err := c.call(cmd, r)
		if err != nil {
			return err
		}
		text, err := say(data)
		if err != nil {
			return err
		}
		return o.printChange(cmd, data, name, text)
	})
}

func (o *options) printChange(cmd *cobra.Command, data json.RawMessage, name, text string) error {
	answer, err := readAny[struct{ Acknowledged *acknowledged }](data)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	switch {
	case o.structured():
		err = o.printAnswer(out, data)
	case o.output == asName:
		_, err = fmt.Fprintln(out, name)
	default:
		_, err = fmt.Fprintln(out, clean(text))
	}
	if err != nil {
		return err
	}
	return o.printAcknowledged(cmd, answer.Acknowledged)
}

// readAny reads an answer that may be empty.
func readAny[T any](data json.RawMessage) (T, error) {
	if len(data) == 0 {
		var zero T
		return zero, nil
	}
	return read[T](data)
}
