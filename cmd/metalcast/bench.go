package main

import (
	"context"
	"fmt"
	"runtime"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/metalcast/metalcast"
	"github.com/metalcast/metalcast/internal/bench"
	"github.com/metalcast/metalcast/internal/doctor"
	"github.com/metalcast/metalcast/internal/synth"
)

// benchReport is what --json prints.
type benchReport struct {
	Version   string      `json:"version"`
	Go        string      `json:"go"`
	OS        string      `json:"os"`
	Processor string      `json:"processor,omitempty"`
	Cores     int         `json:"cores"`
	Memory    uint64      `json:"memory_bytes"`
	Device    string      `json:"metal_device,omitempty"`
	Size      int64       `json:"size_bytes"`
	Rows      []bench.Row `json:"rows"`
}

func newBench(u *ui) *cobra.Command {
	o := benchOptions{Size: 1 << 30, Checkpoint: benchCheckpoint}
	c := &cobra.Command{
		Use:   "bench",
		Short: "measure kernels, disk and conversions beside plain copies",
		Long: `bench measures, in turn with what each is compared with: the kernels of the CPU with all workers and with one, in vector code and in plain Go,
and of the GPU; writing and reading a file in --dir, and copying it; and converting a synthetic checkpoint, beside a plain
copy loop that reads and writes as many bytes. GB/s count bytes read and bytes written. The ratio is of times: 2.00 took twice
as long as its reference for as many bytes.

Twice --size, and 64 MiB, must be free in --dir. Everything bench writes is removed again, also on Ctrl-C.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Begin = func(what string) { u.messagef("measuring %s", what) }
			o.Warn = func(m string) { u.warningf("%s", m) }
			group := ""
			o.Each = func(r bench.Row) {
				if u.json {
					return
				}
				if r.Group != group {
					group = r.Group
					u.linef("%s", benchLine(group, group, "measured", "GB/s", "ratio", "to"))
				}
				u.linef("%s", benchLine(group, r.Name, r.On, fmt.Sprintf("%.2f", r.GBPerSecond), fmt.Sprintf("%.2f", r.Ratio), r.Reference))
			}
			rows, err := measure(cmd.Context(), o)
			if err != nil || !u.json {
				return err
			}
			d := doctor.Diagnose()
			r := benchReport{Version: metalcast.Version, Go: runtime.Version(), OS: d.OS, Processor: d.Processor, Cores: d.Cores, Memory: d.Memory, Size: o.Size, Rows: rows}
			if d.Metal != nil {
				r.Device = d.Metal.Name
			}
			return u.printJSON(r)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Dir, "dir", "", "where to make temporary files (default the working directory)")
	f.Var(sizeFlag{&o.Size}, "size", "size of the file for measuring the disk")
	f.StringVar(&o.Device, "device", "", "auto, metal or cpu (default auto: the CPU, and the GPU if there is one)")
	f.BoolVar(&u.json, "json", false, "print one JSON document")
	return c
}

// benchLine is a line of the table, which is printed as the work proceeds: the widths fit what a
// group has.
func benchLine(group, name, on, rate, ratio, reference string) string {
	widths := [2]int{24, 54}
	if group == "kernel" {
		widths = [2]int{62, 22}
	}
	return strings.TrimRight(fmt.Sprintf("%-*s  %-*s  %6s  %6s  %s", widths[0], name, widths[1], on, rate, ratio, reference), " ")
}

// trueSize is the size from which a checkpoint can have the release's dimensions.
const trueSize = 64 * humanize.MByte

func benchCheckpoint(ctx context.Context, dst string, size int64) error {
	o := synth.Options{Size: size}
	if size < trueSize {
		const hidden, intermediate = 256, 128
		o = synth.Options{Layers: 1, Hidden: hidden, Intermediate: intermediate, Experts: int(min(max(size/(3*hidden*intermediate), 2), 256))}
	}
	_, err := synth.Write(ctx, dst, o)
	return err
}
