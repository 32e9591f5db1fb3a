// Package kerneltest is the parity suite, which every backend must pass. It computes each element
// independently and exactly, in float64 and integers, and compares all bytes of a slot's Out,
// including those that no job covers, and all tallies.
//
// The product of an E4M3 code (4 significant bits) and a float32 scale (24) is exact and normal in
// float64, so the reference rounds it with integer arithmetic on its bits and shares neither
// float32 arithmetic nor code with a backend. Quantizing is computed in the same way, from its
// definition (quantizer.go), and compared with MLX's own results. Both are compared with
// docs/parity-vectors, with which others test their converters.
package kerneltest

import (
	"testing"

	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/needtest"
)

// Run tests a backend. open makes a new one for each part of the suite, which closes it. Without
// METALCAST_LONG the exhaustive parts take samples; with METALCAST_NIGHTLY=1 all float32 patterns
// go through every operation that takes them.
func Run(t *testing.T, open func(t *testing.T) kernel.Backend) {
	for _, part := range []struct {
		name  string
		test  func(*testing.T, kernel.Backend)
		alone bool // it tests what a single job computes
	}{
		{"vectors", testVectors, true},
		{"codes by scales", testTables, true},
		{"shapes", testShapes, true},
		{"phases", testPhases, false},
		{"scales of rows and matrices", testDialects, true},
		{"strides", testStrides, true},
		{"one window, many jobs", testWindow, false},
		{"tallies", testTallies, true},
		{"casts", testCasts, true},
		{"copies", testCopies, true},
		{"adding one", testAddOne, true},
		{"quantizing: formats", testFormats, true},
		{"quantizing: codes by scales", testPackedTables, true},
		{"quantizing: ties", testTies, true},
		{"quantizing: shapes", testPackedShapes, true},
		{"quantizing: tallies", testPackedTallies, true},
		{"concurrency", testConcurrency, false},
		{"cancellation", testCancellation, false},
		{"refusals", testRefusals, false},
	} {
		t.Run(part.name, func(t *testing.T) {
			if part.alone {
				needtest.Alone(t)
			}
			be := open(t)
			t.Cleanup(func() {
				if err := be.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			part.test(t, be)
		})
	}
}
