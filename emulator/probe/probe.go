//go:build fakemetal

// Package probe asks the fake Metal what only a fake can know, and tells it what to do wrong.
package probe

/*
#include <stdlib.h>
long fake_live_objects(void);
long fake_autoreleased_without_pool(void);
void fake_metal_settle(void);
void fake_metal_inject(const char *);
long fake_metal_count(const char *);
*/
import "C"

import (
	"fmt"
	"strings"
	"unsafe"
)

// Live returns the number of Objective-C objects that exist, when no command buffer is at work any more.
func Live() int {
	C.fake_metal_settle()
	return int(C.fake_live_objects())
}

// Poolless returns how many objects were autoreleased where there was no pool.
func Poolless() int { return int(C.fake_autoreleased_without_pool()) }

// Times says which of a kind of event go wrong, counted from 1 since Inject. The zero value is none.
type Times struct{ first, last int }

// Always is all of them, Nth one, From that one and those after it, Between those and the ones between them.
func Always() Times                 { return Times{1, 0} }
func Nth(n int) Times               { return Times{n, n} }
func From(n int) Times              { return Times{n, 0} }
func Between(first, last int) Times { return Times{first, last} }

func (t Times) String() string {
	if t.last == 0 {
		return fmt.Sprintf("%d-", t.first)
	}
	return fmt.Sprintf("%d-%d", t.first, t.last)
}

// Faults is what the fake does wrong. The zero value is a sound device.
type Faults struct {
	NoDevice        Times // MTLCreateSystemDefaultDevice and MTLCopyAllDevices have none
	NoLibrary       Times // newLibraryWithSource: fails with Text
	NoPipeline      Times // newComputePipelineStateWithFunction: fails with Text
	NoQueue         Times // newCommandQueue gives nil
	NoBuffer        Times // newBufferWithLength: gives nil
	NoNoCopy        Times // newBufferWithBytesNoCopy: gives nil
	EmptyNoCopy     bool  // or rather than nil, a buffer of length 0
	NoCommandBuffer Times // commandBuffer gives nil
	NoEncoder       Times // computeCommandEncoder gives nil

	Fail    Times  // committed command buffers that run nothing and end with Status and an NSError of Text and Code
	Text    string // default: a GPU timeout
	Code    int    // default 2
	Status  int    // default 5, MTLCommandBufferStatusError
	NoError bool   // they have no NSError
	Late    bool   // they fail after their dispatches have run
	Sticky  bool   // after one, its queue ignores submissions: only a new queue helps

	Skip    Times  // dispatches that do not run, and nothing says so
	Corrupt Times  // dispatches of which one element of one threadgroup is altered
	Victim  [3]int // that threadgroup's position in the grid; it must change its buffers

	OldOS      bool // no mathMode, as before macOS 15
	MaxThreads int  // maxTotalThreadsPerThreadgroup of pipelines made from now on; default 1024
	Delay      int  // milliseconds that every command buffer takes longer
	Hold       bool // no command buffer begins before the next Inject without it
}

// Inject makes the fake behave so from now on and sets all counts to 0. The function that it returns makes it sound again.
func Inject(f Faults) (restore func()) {
	inject(f.spec())
	return func() { inject("") }
}

// Count returns how many events of a kind there have been since the last Inject: device, library, pipeline, queue, buffer, no-copy,
// command-buffer, encoder, commit, dispatch.
func Count(event string) int {
	s := C.CString(event)
	defer C.free(unsafe.Pointer(s))
	return int(C.fake_metal_count(s))
}

func inject(spec string) {
	s := C.CString(spec)
	defer C.free(unsafe.Pointer(s))
	C.fake_metal_inject(s)
}

// spec is what the environment variable FAKE_METAL holds for a program that is not the test itself.
func (f Faults) spec() string {
	if strings.Contains(f.Text, ";") {
		panic("probe: a text with a semicolon")
	}
	var items []string
	add := func(on bool, format string, a ...any) {
		if on {
			items = append(items, fmt.Sprintf(format, a...))
		}
	}
	for _, e := range []struct {
		name  string
		times Times
	}{
		{"device", f.NoDevice}, {"library", f.NoLibrary}, {"pipeline", f.NoPipeline}, {"queue", f.NoQueue},
		{"buffer", f.NoBuffer}, {"no-copy", f.NoNoCopy}, {"command-buffer", f.NoCommandBuffer},
		{"encoder", f.NoEncoder}, {"commit", f.Fail}, {"skip", f.Skip}, {"corrupt", f.Corrupt},
	} {
		add(e.times != Times{}, "%s=%v", e.name, e.times)
	}
	add(f.EmptyNoCopy, "no-copy-empty")
	add(f.Text != "", "text=%s", f.Text)
	add(f.Code != 0, "code=%d", f.Code)
	add(f.Status != 0, "status=%d", f.Status)
	add(f.NoError, "no-error")
	add(f.Late, "late")
	add(f.Sticky, "sticky")
	add(true, "victim=%d,%d,%d", f.Victim[0], f.Victim[1], f.Victim[2])
	add(f.OldOS, "old-os")
	add(f.MaxThreads != 0, "max-threads=%d", f.MaxThreads)
	add(f.Delay != 0, "delay=%d", f.Delay)
	add(f.Hold, "hold")
	return strings.Join(items, ";")
}
