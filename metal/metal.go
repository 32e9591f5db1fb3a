// Package metal computes on the Apple GPU. Its bytes are those of package cpufallback, and it does not ask to be believed: platforms of this
// kind are known to skip dispatches and to miscompile shaders without a word.
//
// # What is checked
//
// Every kernel is tried before its first use, on edge values and ragged shapes, against the CPU. Every threadgroup leaves a mark, so that one that did not run is
// missed. Of every job one block is computed on the CPU too and compared before the window is written. A window that fails any of this,
// or whose command buffer does not complete, runs again on a new queue and then, unless Options.Strict, on the CPU, with one warning for
// all. After three such windows the GPU is left alone.
//
// NaN codes, bad scales and overflows are seen by the kernels and counted by the CPU, on the jobs concerned.
//
// # Memory and ownership
//
// A slot's In and Out are anonymous mappings that buffers without a copy are made over: pread lands where the GPU reads, pwrite leaves from where it
// wrote. (Metal forbids malloc memory for this, and a GPU must not touch a mapped file.) Should that fail, Metal allocates. Tiles
// and status are small shared buffers that grow with the largest window. Everything a slot holds, and its mappings after its buffers, is released by Backend.Close;
// command buffers and encoders live and die inside the autorelease pool of one Run.
//
// One Run waits for its command buffers one after the other, so as many are in flight as goroutines call Run, each with a slot of its own. Most have one: a
// window of 16 MiB of codes takes well under 10 ms, far from any watchdog. Quantizing takes longer, and is cut, so that what draws the screen gets its turn.
//
// # Two libraries
//
// The kernels that quantize take most of the compiler's time, so they are a library of their own, which is compiled only where it is needed. Prepare begins to compile
// while headers are still being read.
//
// # Where experts go
//
// A job is one matrix of one expert. Stacking the experts, laying gate beside up, and transposing them is nothing but the place that the plan gives a job: where its first
// result goes (Dst) and how far it is to the next line (DstStride). Tiles inherit both (tile.go, pack.go), and the kernels add them up; shaders/convert.metal says what they
// are for [E, 2I, H] and, transposed, [E, H, 2I].
package metal

import (
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/kernel"
)

// Options say what the backend needs.
type Options struct {
	// CPU checks, counts, and computes what the GPU fails to. It stays the caller's.
	CPU kernel.Backend
	// Strict makes a window that fails twice an error; otherwise the CPU computes it.
	Strict bool
	// Quantize has Open compile the kernels that quantize too; else they are compiled when a window first needs them.
	Quantize bool
	// Unchecked leaves out the self-tests and the comparison of blocks, so that whoever compares everything sees the kernels' own results.
	Unchecked bool
	// Warn is told, once, that the GPU failed and what became of it. May be nil.
	Warn func(message string)
}

// Device describes the Metal device.
type Device struct {
	Name            string `json:"name"`
	Emulated        bool   `json:"emulated,omitempty"` // no device of a Mac's: the fake one, whose kernels run on the CPU
	Unified         bool   `json:"unified_memory"`     // CPU and GPU share their memory
	MaxBufferLength uint64 `json:"max_buffer_bytes"`   // of one buffer
	Metallib        bool   `json:"metallib"`           // the kernels are embedded compiled too
	WorkingSet      uint64 `json:"working_set_bytes"`  // recommended at most
}

var errNoDevice = fault.New(fault.ErrNoDevice, "", "no Metal device")
