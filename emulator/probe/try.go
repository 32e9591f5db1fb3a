//go:build fakemetal

package probe

/*
#include <stdlib.h>
typedef struct {
	const char *source, *kernel;
	unsigned grid[3], threadgroup[3];
	unsigned threadgroup_memory;
	int fast;
	unsigned buffers;
	size_t sizes[31];
	unsigned dispatches, command_buffers;
} fake_try;
char *fake_metal_try(const fake_try *, char *);
*/
import "C"

import (
	"errors"
	"unsafe"
)

// Try is one dispatch, for tests of the emulator itself.
type Try struct {
	Source, Kernel    string
	Grid, Threadgroup [3]int   // in threads; 0 is 1
	ThreadgroupMemory int      // bytes of [[threadgroup(0)]]
	Fast              bool     // fast math
	Buffers           [][]byte // copied to the device and back
	Dispatches        int      // in each command buffer, one after the other; 0 is 1
	CommandBuffers    int      // likewise
}

// Run returns what went wrong, as far as the fake says so.
func (t Try) Run() error {
	c := C.fake_try{source: C.CString(t.Source), kernel: C.CString(t.Kernel), threadgroup_memory: C.uint(t.ThreadgroupMemory)}
	defer C.free(unsafe.Pointer(c.source))
	defer C.free(unsafe.Pointer(c.kernel))
	for i := range 3 {
		c.grid[i], c.threadgroup[i] = C.uint(max(1, t.Grid[i])), C.uint(max(1, t.Threadgroup[i]))
	}
	if t.Fast {
		c.fast = 1
	}
	c.dispatches, c.command_buffers = C.uint(max(1, t.Dispatches)), C.uint(max(1, t.CommandBuffers))
	data := []byte{}
	for i, b := range t.Buffers {
		c.sizes[i] = C.size_t(len(b))
		data = append(data, b...)
	}
	c.buffers = C.uint(len(t.Buffers))
	text := C.fake_metal_try(&c, (*C.char)(unsafe.Pointer(unsafe.SliceData(data))))
	for _, b := range t.Buffers {
		data = data[copy(b, data):]
	}
	if text == nil {
		return nil
	}
	defer C.free(unsafe.Pointer(text))
	return errors.New(C.GoString(text))
}
