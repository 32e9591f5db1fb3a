package main

import (
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/metalcast/metalcast"
	"github.com/metalcast/metalcast/internal/parity"
)

func newParity(u *ui) *cobra.Command {
	var quick bool
	c := &cobra.Command{
		Use:   "parity",
		Short: "compare the GPU with the CPU, bit by bit",
		Long: `parity computes the same on the Metal device and on the CPU and compares every byte: all 256 codes with all
65,536 bfloat16 scales, edge and random float32 scales, ragged shapes, transposed results, all casts, all quantized
formats, and experts that are stacked with gate beside up, whose places are computed a second time by other means.

Exit status: 0 equal; 1 there is no Metal device, or it failed; 7 a difference.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := parityOptions{Quick: quick}
			if !u.json {
				o.Begin = func(device, cpu string, emulated bool) {
					if emulated {
						device += " (emulated)"
					}
					if cpu == "scalar" {
						cpu = "plain Go"
					}
					u.linef("the Metal kernels on %s against the CPU's code, %s", device, cpu)
					u.linef("")
					u.linef("%s", parityLine("kernel", "input", "elements", "differences", ""))
				}
				o.Each = func(row parity.Row) {
					u.linef("%s", parityLine(row.Kernel, row.Input, humanize.Comma(row.Elements), humanize.Comma(row.Differences), row.First))
				}
			}
			r, err := compareDevices(cmd.Context(), o)
			if err != nil {
				return err
			}
			if u.json {
				if err := u.printJSON(r); err != nil {
					return err
				}
			}
			if r.Differences > 0 {
				u.json = false // the document is printed; the message goes to standard error
				return fmt.Errorf("%w: %s of %s elements on %s", metalcast.ErrMismatch, humanize.Comma(r.Differences), humanize.Comma(r.Elements), r.Device)
			}
			u.messagef("%s and the CPU agree on all %s elements", r.Device, humanize.Comma(r.Elements))
			return nil
		},
	}
	c.Flags().BoolVar(&quick, "quick", false, "samples instead of everything")
	c.Flags().BoolVar(&u.json, "json", false, "print one JSON document")
	return c
}

// parityLine is a line of the table, which is printed as the work proceeds: the widths fit every
// kernel's name and every input's.
func parityLine(kernel, input, elements, differences, first string) string {
	return strings.TrimRight(fmt.Sprintf("%-50s  %-38s  %14s  %14s  %s", kernel, input, elements, differences, first), " ")
}
