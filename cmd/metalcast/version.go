package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/metalcast/metalcast"
	"github.com/metalcast/metalcast/metal"
)

func newVersion(u *ui) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "print the version, the commit, the Metal device and the compiler",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			u.linef("metalcast %s", metalcast.Version)
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" || s.Key == "vcs.time" || s.Key == "vcs.modified" {
						u.linef("%s %s", s.Key[len("vcs."):], s.Value)
					}
				}
			}
			if d, err := metal.Describe(); err == nil {
				u.linef("metal %s", d.Name)
			}
			u.linef("go %s %s/%s", runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		},
	}
}
