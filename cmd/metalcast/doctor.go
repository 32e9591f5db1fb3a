package main

import (
	"runtime"

	"github.com/spf13/cobra"

	"github.com/metalcast/metalcast"
	"github.com/metalcast/metalcast/internal/doctor"
)

func newDoctor(u *ui) *cobra.Command {
	c := &cobra.Command{
		Use:   "doctor",
		Short: "describe this machine, for pasting into an issue",
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
			w := u.table()
			w.fact("metalcast", "%s, built with %s", metalcast.Version, runtime.Version())
			w.fact("system", "%s, %s", d.OS, d.Platform)
			w.fact("processor", "%s, %s", d.Processor, count(d.Cores, "core"))
			w.fact("memory", "%s, %s available", bytesText(int64(d.Memory)), bytesText(int64(d.MemoryAvailable)))
			w.fact("disk", "%s free here (%s)", bytesText(int64(d.DiskFree)), d.DiskType)
			exists := map[bool]string{true: "", false: " (does not exist)"}[d.HubCacheExists]
			w.fact("hub cache", "%s%s", d.HubCache, exists)
			if m := d.Metal; m != nil {
				unified := map[bool]string{true: "unified memory", false: "memory of its own"}[m.Unified]
				w.fact("metal", "%s, %s, buffers up to %s, working set %s", m.Name, unified, bytesText(int64(m.MaxBufferLength)), bytesText(int64(m.WorkingSet)))
				kind := "compiled from source at run time"
				if m.Metallib {
					kind = "an embedded metallib, or compiled from source where that does not load"
				}
				w.fact("kernels", "%s; try them with \"metalcast parity\"", kind)
			} else {
				w.fact("metal", "%s", d.MetalProblem)
			}
			w.flush()
			return nil
		},
	}
	c.Flags().BoolVar(&u.json, "json", false, "print one JSON document")
	return c
}
