// Macreport collects how metalcast works on a Mac in one file that its owner sends back, and
// generates the documentation's tables from such files. build.sh runs it:
//
//	go run ./internal/macreport collect [-o FILE] [-quick]    # ./build.sh mac-report
//	go run ./internal/macreport tables                        # ./build.sh macs
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/metalcast/metalcast/internal/fault"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "macreport: error: %v\n", err)
		if hint := fault.Hint(err); hint != "" {
			fmt.Fprintf(os.Stderr, "macreport: hint: %s\n", hint)
		}
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	what := ""
	if len(args) > 0 {
		what, args = args[0], args[1:]
	}
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	flags := flag.NewFlagSet(what, flag.ExitOnError)
	switch what {
	case "collect":
		c := collector{dir: dir, mac: appleSilicon(), mostTime: mostTime, identity: identify(dir, runtime.GOOS), log: os.Stderr}
		flags.StringVar(&c.out, "o", "", "the file to write (default bin/mac-report-MACHINE-DATE.md)")
		flags.BoolVar(&c.quick, "quick", false, "samples: minutes, but not for docs/macs")
		_ = flags.Parse(args) // ends the program
		if flags.NArg() > 0 {
			return fault.New(fault.ErrUsage, "mac-report", "%q is not a flag, want -o FILE or -quick", flags.Arg(0))
		}
		return c.run(ctx)
	case "tables":
		changed, err := writeTables(dir)
		if err == nil {
			fmt.Println(strings.Join(append([]string{"written from docs/macs:"}, changed...), " "))
		}
		return err
	}
	return fault.New(fault.ErrUsage, "macreport", "%q is not a command, want collect or tables", what)
}
