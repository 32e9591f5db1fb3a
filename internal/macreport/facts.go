package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/metalcast/metalcast/internal/bench"
	"github.com/metalcast/metalcast/internal/doctor"
	"github.com/metalcast/metalcast/internal/parity"
)

// diagnosis, parityDocument and benchDocument are the parts of the commands' documents that are
// read here.
type (
	diagnosis      struct{ doctor.Diagnosis }
	parityDocument struct {
		parity.Report
		EqualRows int `json:"equal_rows"` // rows without a difference, which a report omits
	}
	benchDocument struct {
		Rows []bench.Row `json:"rows"`
	}
)

// demoDocument is the demo's output.
type demoDocument struct {
	Verified bool    `json:"verified"`
	Seconds  float64 `json:"seconds"` // of the conversion
	Device   string  `json:"device"`  // the device that computed: cpu or metal
}

// system returns, for example, "macOS 26.1".
func (d diagnosis) system() string {
	if version, ok := strings.CutPrefix(d.Platform, "darwin "); ok {
		return "macOS " + version
	}
	return d.Platform
}

// facts are what the tables say about a report.
type facts struct {
	processor, device, system string
	emulated, virtual         bool
	tests                     testCounts
	demo                      demoDocument
	elements, differences     int64 // of all of parity's runs
	rows                      []bench.Row
}

func (r *report) facts() facts {
	var f facts
	var d diagnosis
	if r.document("doctor", &d) {
		f.processor, f.system = d.Processor, d.system()
		if d.Metal != nil {
			f.device, f.emulated = d.Metal.Name, d.Metal.Emulated
		}
	}
	f.virtual = strings.Contains(strings.ToLower(f.device), "paravirtual") || strings.Contains(f.processor, "(Virtual)")
	r.document("test", &f.tests)
	r.document("demo", &f.demo)
	for _, doc := range r.part("parity").Documents {
		var p parityDocument
		if json.Unmarshal(doc, &p) == nil {
			f.elements, f.differences = f.elements+p.Elements, f.differences+p.Differences
			f.emulated = f.emulated || p.Emulated
		}
	}
	var b benchDocument
	if r.document("bench", &b) {
		f.rows = b.Rows
	}
	return f
}

// machine returns the report's headline: the processor, or whatever is known, and the system.
func (r *report) machine() string {
	f := r.facts()
	name := f.processor
	if name == "" {
		name = f.device
	}
	if name == "" {
		name = "a machine that doctor says nothing of"
	}
	if f.virtual {
		name += ", a virtual machine"
	}
	return cell(strings.TrimSuffix(name+", "+f.system, ", "))
}

// row finds a measurement by its name and the device it was measured on.
func (f facts) row(name, on string) (bench.Row, bool) {
	for _, r := range f.rows {
		if r.Name == name && (on == "" || r.On == on) {
			return r, true
		}
	}
	return bench.Row{}, false
}

// rate returns a cell: GB/s, and the time as a multiple of the reference's, "61.2 (1.31)".
func (f facts) rate(name, on string) string {
	r, ok := f.row(name, on)
	if !ok {
		return "-"
	}
	return fmt.Sprintf("%.1f (%.2f)", r.GBPerSecond, r.Ratio)
}
