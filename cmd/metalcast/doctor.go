package main

import (
	"fmt"
	"runtime"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/metalcast/metalcast"
	"github.com/metalcast/metalcast/internal/doctor"
)

func newDoctor(u *ui) *cobra.Command {
	c := &cobra.Command{
		Use:   "doctor",
		Short: "tell what this machine has: something to paste into an issue",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			d := doctor.Diagnose()
			if u.json {
				return u.printJSON(struct {
					Version string `json:"version"`
					Go      string `json:"go"`
					doctor.Diagnosis
				}{metalcast.Version, runtime.Version(), d})
			}
			w := tabwriter.NewWriter(u.out, 0, 0, 2, ' ', 0)
			row := func(name, format string, args ...any) {
				fmt.Fprintf(w, "%s\t"+format+"\n", append([]any{name}, args...)...)
			}
			row("metalcast", "%s, built with %s", metalcast.Version, runtime.Version())
			row("system", "%s, %s", d.OS, d.Platform)
			row("processor", "%s, %s", d.Processor, count(d.Cores, "core"))
			row("memory", "%s, %s available", bytesText(int64(d.Memory)), bytesText(int64(d.MemoryAvailable)))
			row("disk", "%s free here (%s)", bytesText(int64(d.DiskFree)), d.DiskType)
			exists := map[bool]string{true: "", false: " (does not exist)"}[d.HubCacheExists]
			row("hub cache", "%s%s", d.HubCache, exists)
			if m := d.Metal; m != nil {
				unified := map[bool]string{true: "unified memory", false: "memory of its own"}[m.Unified]
				row("metal", "%s, %s, buffers up to %s, working set %s", m.Name, unified, bytesText(int64(m.MaxBufferLength)), bytesText(int64(m.WorkingSet)))
				row("kernels", "compiled from source at run time; try them with \"metalcast parity\"")
			} else {
				row("metal", "%s", d.MetalProblem)
			}
			return w.Flush()
		},
	}
	c.Flags().BoolVar(&u.json, "json", false, "print one JSON document")
	return c
}
