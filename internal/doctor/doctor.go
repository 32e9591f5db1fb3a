// Package doctor describes the machine, for pasting into an issue.
package doctor

import (
	"os"
	"runtime"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/host"
	"github.com/shirou/gopsutil/v4/mem"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/metal"
)

// Diagnosis describes the machine. What the system does not report is empty or 0.
type Diagnosis struct {
	OS              string        `json:"os"` // "darwin arm64"
	Platform        string        `json:"platform,omitempty"`
	Processor       string        `json:"processor,omitempty"`
	Cores           int           `json:"cores"`
	Memory          uint64        `json:"memory_bytes"`
	MemoryAvailable uint64        `json:"memory_available_bytes"`
	DiskFree        uint64        `json:"disk_free_bytes"` // in the working directory
	DiskType        string        `json:"disk_type,omitempty"`
	HubCache        string        `json:"hub_cache"`
	HubCacheExists  bool          `json:"hub_cache_exists"`
	Metal           *metal.Device `json:"metal,omitempty"`
	MetalProblem    string        `json:"metal_problem,omitempty"` // why there is none
}

// Diagnose collects it. It computes nothing on the GPU; "metalcast parity" does.
func Diagnose() Diagnosis {
	d := Diagnosis{OS: runtime.GOOS + " " + runtime.GOARCH, Cores: runtime.NumCPU(), HubCache: checkpoint.HubCache()}
	if h, err := host.Info(); err == nil {
		d.Platform = h.Platform + " " + h.PlatformVersion
	}
	if c, err := cpu.Info(); err == nil && len(c) > 0 {
		d.Processor = c[0].ModelName
	}
	if m, err := mem.VirtualMemory(); err == nil {
		d.Memory, d.MemoryAvailable = m.Total, m.Available
	}
	d.DiskFree, d.DiskType = diskOf(".")
	_, err := os.Stat(d.HubCache)
	d.HubCacheExists = err == nil
	if dev, err := metal.Describe(); err == nil {
		d.Metal = &dev
	} else {
		d.MetalProblem = problem(err)
	}
	return d
}

// problem adds what commonly hides a device that should be there.
func problem(err error) string {
	s := err.Error()
	if runtime.GOOS == "darwin" && runtime.GOARCH == "arm64" {
		s += "; on Apple silicon this means a build without cgo, or a sandbox profile that blocks the GPU for this process"
	}
	return s
}
