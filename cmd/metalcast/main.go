// Command metalcast converts FP8 checkpoints for Apple-silicon runtimes. See "metalcast --help".
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/metalcast/metalcast"
	"github.com/metalcast/metalcast/internal/fault"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is main with its environment as arguments.
func run(args []string, stdout, stderr io.Writer) int {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as nohup sets it
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	u := newUI(stdout, stderr)
	return execute(ctx, u, newRoot(u), args)
}

// execute runs a command line. It is the only place where errors become messages and exit statuses.
func execute(ctx context.Context, u *ui, root *cobra.Command, args []string) int {
	root.SetArgs(args)
	err := fault.Recovered(func() error { return root.ExecuteContext(ctx) })
	u.endProgress()
	code := exitOK
	if err != nil && (u.out.err == nil || !errors.Is(err, u.out.err)) {
		code = exitCode(err)
		u.report(err, code)
	}
	if u.out.err != nil {
		u.reportLost()
		if code == exitOK || code == exitNothing { // its result is what was lost
			code = exitFailed
		}
	}
	return code
}

func newRoot(u *ui) *cobra.Command {
	root := &cobra.Command{
		Use:   "metalcast",
		Short: "convert FP8 checkpoints into ones that Apple-silicon runtimes load",
		Long: `metalcast converts an FP8 checkpoint (E4M3 weights, block scales, one tensor per
expert) into a bfloat16 one that mlx-lm and mlx-vlm load, in one streaming pass
and constant memory.

    metalcast convert Qwen3.6-35B-A3B-FP8 Qwen3.6-35B-A3B-bf16

` + exitStatuses,
		Version:       metalcast.Version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(u.out)
	root.SetErr(u.err)
	root.SetVersionTemplate("metalcast {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fault.New(metalcast.ErrUsage, "", "%v", err).WithHint("see \"%s --help\"", cmd.CommandPath())
	})
	root.PersistentFlags().BoolVar(&u.quiet, "quiet", false, "no progress, and no messages except errors")
	root.AddCommand(newConvert(u), newPlan(u), newInspect(u), newVerify(u), newSynth(u), newParity(u), newBench(u), newDoctor(u), newVersion(u), newMan(u))
	for _, c := range root.Commands() {
		c.Args = usageArgs(c.Args)
	}
	root.SetHelpCommand(newHelp())
	strictCompletion(root)
	completeWords(root)
	return root
}

// exitStatuses has the constants below in words.
const exitStatuses = `Exit status: 0 done; 1 failed; 2 usage; 3 the checkpoint is malformed or
incomplete; 4 not supported; 5 not enough disk or memory; 7 a difference was
found; 8 nothing to convert, SRC is usable as it is (its path is on standard
output); 130 interrupted.`

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
			return fault.New(metalcast.ErrUsage, "", "wrong number of arguments: the form is %s %s", cmd.Parent().CommandPath(), cmd.Use)
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
