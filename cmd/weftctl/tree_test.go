package main

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

// walk calls do with every command of ours.
func walk(c *cobra.Command, do func(*cobra.Command)) {
	do(c)
	for _, sub := range c.Commands() {
		walk(sub, do)
	}
}

// TestEveryCommandIsExplained wants each command to have a line about it and examples, and the examples to be right.
func TestEveryCommandIsExplained(t *testing.T) {
	count := 0
	walk(newRoot(time.Now), func(c *cobra.Command) {
		count++
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: Short is %q", c.CommandPath(), c.Short)
		}
		if c.Args == nil && c.Name() != "weftctl" && c.Name() != "diff" && c.Name() != "delete" && c.Name() != "weight" {
			t.Errorf("%s takes any arguments", c.CommandPath())
		}
		if c.Example == "" {
			t.Errorf("%s has no example", c.CommandPath())
		}
		for line := range strings.Lines(c.Example) {
			exampleWorks(t, c, strings.TrimSpace(line))
		}
	})
	if count < 35 {
		t.Errorf("only %d commands", count)
	}
	// The control: the check does fail.
	for _, wrong := range []string{"weftctl drain product", "weftctl fetch", "weftctl get services --wide", "kubectl get pods"} {
		if err := parses(wrong); err == nil {
			t.Errorf("%s passes for right", wrong)
		}
	}
}

// exampleWorks parses each command of a pipe with the real tree; one of them must be the command it is the example of,
// or below it.
func exampleWorks(t *testing.T, of *cobra.Command, line string) {
	t.Helper()
	for command := range strings.SplitSeq(line, " | ") {
		if err := parses(command); err != nil {
			t.Errorf("%s: example %q: %v", of.CommandPath(), line, err)
		}
	}
	if !strings.Contains(line, of.CommandPath()) {
		t.Errorf("%s: example %q is of another command", of.CommandPath(), line)
	}
}

// parses reads a command line without running it.
func parses(line string) error {
	root := newRoot(time.Now)
	words := strings.Fields(line)
	if words[0] != root.Name() {
		return io.ErrUnexpectedEOF
	}
	c, args, err := root.Find(words[1:])
	if err != nil {
		return err
	}
	if err := c.ParseFlags(args); err != nil {
		return err
	}
	return c.ValidateArgs(c.Flags().Args())
}

// TestHelpNamesTheWay wants an error of use to say where help is, of the very command.
func TestHelpNamesTheWay(t *testing.T) {
	serve(t)
	for args, want := range map[string]string{
		"apply": "weftctl help apply", "tokens create": "weftctl help tokens create", "get services --wide": "weftctl help get services",
		"nothing": "weftctl --help", "get pods": "weftctl help get", "drain product": "weftctl help drain", "watch a": "weftctl help watch",
	} {
		code, stdout, stderr := ctl(t, "", strings.Fields(args)...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, want+" shows how it is called") {
			t.Errorf("%s: %d %q %q; want %q", args, code, stdout, stderr, want)
		}
		// The control: what it says works.
		if code, help, stderr := ctl(t, "", strings.Fields(want)[1:]...); code != 0 || !strings.Contains(help, "Usage:") || stderr != "" {
			t.Errorf("%s: %d %q %q", want, code, help, stderr)
		}
	}
}

// TestCompletion asks as a shell does. No server is there to be asked.
func TestCompletion(t *testing.T) {
	serve(t)
	for args, want := range map[string]string{
		"get ":                  "aliases clients instances protection rules services tokens",
		"history ":              "retry route",
		"history route ":        "",
		"apply -o ":             "json name table wide yaml",
		"tokens create --role ": "admin operator reader workload",
		"drain ":                "",
		"apply -f ":             "yaml yml json",
		"protection ":           "end override",
		"get services --na":     "--namespace",
		"clients --beh":         "--behind",
		"tokens revoke ":        "",
	} {
		code, stdout, _ := ctl(t, "", append([]string{"__completeNoDesc"}, strings.Split(args, " ")...)...)
		lines := strings.Split(strings.TrimSpace(stdout), "\n")
		got := lines[:len(lines)-1]
		if directive := lines[len(lines)-1]; code != 0 || directive != ":4" && directive != ":8" {
			t.Errorf("%q: %d, directive %s; want no names of files but those of -f", args, code, directive)
		}
		if diff := cmp.Diff(sorted(want), sorted(strings.Join(got, " "))); diff != "" {
			t.Errorf("%q: %s", args, diff)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if code, stdout, stderr := ctl(t, "", "completion", shell); code != 0 || !strings.Contains(stdout, "weftctl") {
			t.Errorf("%s: %d %q", shell, code, stderr)
		}
	}
	if _, stdout, _ := ctl(t, "", "__completeNoDesc", "restore", ""); stdout != ":0\n" {
		t.Errorf("restore completes %q, want names of files", stdout)
	}
}

func sorted(words string) map[string]bool {
	set := map[string]bool{}
	for word := range strings.FieldsSeq(words) {
		set[word] = true
	}
	return set
}
