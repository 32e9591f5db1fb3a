// Command metalcast converts FP8 checkpoints for Apple-silicon runtimes. See "metalcast --help".
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/metalcast/metalcast"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is main with its surroundings as arguments. It is the only place where errors become messages and exit codes.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	u := &ui{out: stdout, err: stderr}
	root := newRoot(u)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	u.endProgress()
	if err == nil {
		return exitOK
	}
	code := exitCode(err)
	if u.json {
		u.printJSONError(err, code)
	} else {
		u.report(err, code)
	}
	return code
}

func newRoot(u *ui) *cobra.Command {
	root := &cobra.Command{
		Use:   "metalcast",
		Short: "convert FP8 checkpoints into ones that Apple-silicon runtimes load",
		Long: `metalcast converts an FP8 checkpoint (E4M3 weights, block scales, one tensor per expert) into a
bfloat16 one that mlx-lm, mlx-vlm and vllm-metal load, in one streaming pass and constant memory.

  metalcast convert Qwen3.6-35B-A3B-FP8 Qwen3.6-35B-A3B-bf16`,
		Version:       metalcast.Version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q", args[0])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("metalcast {{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentFlags().BoolVar(&u.quiet, "quiet", false, "no progress and no messages but errors")
	root.AddCommand(newConvert(u), newPlan(u), newInspect(u), newSynth(u), newParity(u), newDoctor(u), newVersion(u))
	for _, c := range root.Commands() {
		c.Args = usageArgs(c.Args)
	}
	return root
}

// The exit codes, as "metalcast --help" lists them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInput       = 3
	exitUnsupported = 4
	exitNoSpace     = 5
	exitMismatch    = 7
	exitNothing     = 8
	exitInterrupted = 130
)

// usageError is a mistake in the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if check == nil {
			return nil
		}
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}

func exitCode(err error) int {
	var usage usageError
	switch {
	case errors.As(err, &usage) || errors.Is(err, metalcast.ErrUsage):
		return exitUsage
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.Is(err, metalcast.ErrNothingToDo):
		return exitNothing
	case errors.Is(err, metalcast.ErrCorrupt) || errors.Is(err, metalcast.ErrIncomplete):
		return exitInput
	case errors.Is(err, metalcast.ErrUnsupported):
		return exitUnsupported
	case errors.Is(err, metalcast.ErrNoSpace):
		return exitNoSpace
	case errors.Is(err, metalcast.ErrMismatch):
		return exitMismatch
	}
	return exitFailed
}
