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
			commit, device := "unknown", "none"
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, s := range info.Settings {
					switch {
					case s.Key == "vcs.revision":
						commit = s.Value
					case s.Key == "vcs.modified" && s.Value == "true":
						commit += ", modified"
					}
				}
			}
			if d, err := metal.Describe(); err == nil {
				device = d.Name
			}
			u.linef("commit %s", commit)
			u.linef("metal %s", device)
			u.linef("built with %s for %s/%s", runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		},
	}
}
