package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/metalcast/metalcast"
	"github.com/metalcast/metalcast/metal"
)

// versionReport is what version --json prints.
type versionReport struct {
	Version string `json:"version"` // what outputs record
	// Module is as the go command names it: v0.1.0, or a pseudo-version of a commit.
	Module string `json:"module,omitempty"`
	// Commit of the clone that it was built in; "go install ...@v0.1.0" has none.
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified"` // the clone had uncommitted changes
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
	CGO      bool   `json:"cgo"`
	Metal    string `json:"metal,omitempty"` // the device's name
}

func newVersion(u *ui) *cobra.Command {
	c := &cobra.Command{
		Use:   "version",
		Short: "print the version, the commit, the Metal device and the compiler",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			info, _ := debug.ReadBuildInfo()
			r := versionOf(info)
			if d, err := metal.Describe(); err == nil {
				r.Metal = d.Name
			}
			if u.json {
				return u.printJSON(r)
			}
			showVersion(u, r)
			return nil
		},
	}
	c.Flags().BoolVar(&u.json, "json", false, "print one JSON document")
	return c
}

// versionOf goes by what the go command has recorded; nothing if info is nil.
func versionOf(info *debug.BuildInfo) versionReport {
	r := versionReport{Version: metalcast.Version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	if info == nil {
		return r
	}
	if info.Main.Version != "(devel)" { // what it says if it knows nothing
		r.Module = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			r.Commit = s.Value
		case "vcs.modified":
			r.Modified = s.Value == "true"
		case "CGO_ENABLED":
			r.CGO = s.Value == "1"
		}
	}
	return r
}

func showVersion(u *ui, r versionReport) {
	commit, cgo, device := r.Commit, "without cgo", "none"
	switch {
	case commit == "" && r.Module != "":
		commit = "that of module " + r.Module
	case commit == "":
		commit = "unknown"
	case r.Modified:
		commit += ", modified"
	}
	if r.CGO {
		cgo = "with cgo"
	}
	if r.Metal != "" {
		device = r.Metal
	}
	u.linef("metalcast %s", r.Version)
	u.linef("commit %s", commit)
	u.linef("metal %s", device)
	u.linef("built with %s for %s/%s, %s", r.Go, r.OS, r.Arch, cgo)
}
