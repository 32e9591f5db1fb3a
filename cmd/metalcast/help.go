package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/metalcast/metalcast"
	"github.com/metalcast/metalcast/internal/fault"
)

// newHelp replaces cobra's help, which answers any name with the root's help and succeeds.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "show the help of a command",
		Long:  "help tells about the program, or about a command, as \"metalcast COMMAND --help\" does.",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
			if of, err := commandAt(cmd.Root(), args); err == nil {
				for _, c := range of.Commands() {
					if c.IsAvailableCommand() {
						names = append(names, cobra.CompletionWithDesc(c.Name(), c.Short))
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			of, err := commandAt(cmd.Root(), args)
			if err != nil {
				return err
			}
			of.InitDefaultHelpFlag()
			return of.Help()
		},
	}
}

// commandAt follows names from a command to one below it.
func commandAt(c *cobra.Command, names []string) (*cobra.Command, error) {
next:
	for _, name := range names {
		for _, below := range c.Commands() {
			if below.Name() == name {
				c = below
				continue next
			}
		}
		return nil, unknownCommand(c, name)
	}
	return c, nil
}

// unknownCommand suggests the command that was probably meant, or lists all.
func unknownCommand(parent *cobra.Command, name string) error {
	where := strings.TrimPrefix(strings.TrimPrefix(parent.CommandPath(), parent.Root().Name()), " ")
	e := fault.New(metalcast.ErrUsage, where, "unknown command %q", name)
	for distance := 1; distance <= min(3, max(1, len(name)/2)); distance++ { // nearest first
		parent.SuggestionsMinimumDistance = distance
		if list := parent.SuggestionsFor(name); len(list) > 0 {
			return e.WithHint(`did you mean "%s"?`, strings.Join(list, `" or "`))
		}
	}
	var names []string
	for _, c := range parent.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	if len(names) == 0 {
		return e.WithHint("see \"%s --help\"", parent.CommandPath())
	}
	return e.WithHint("the commands are %s", strings.Join(names, ", "))
}

// strictCompletion refuses a shell that cobra's completion command does not know, which it answers
// with its help.
func strictCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	c, err := commandAt(root, []string{"completion"})
	if err != nil {
		panic(err) // cobra has just added it
	}
	c.Short = "print the script that completes command lines in a shell"
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownCommand(c, args[0])
		}
		return c.Help()
	}
	for _, shell := range c.Commands() {
		shell.Args = usageArgs(shell.Args)
	}
}
