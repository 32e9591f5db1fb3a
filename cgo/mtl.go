//go:build darwin || fakemetal

// Package mtl calls Metal. darwinkit gives the objects, classes, strings and autorelease pools. Its objc.Call, and with it every generated method,
// keeps Go memory in C where the garbage collector does not see it and crashes under load (darwinkit issues 278, 286, 289), so methods are called
// through the typed C functions here: each takes the implementation that darwinkit finds for an object's class, the object, the selector,
// and arguments by value. No Go pointer goes to C.
//
// This is the only product package that imports "C". With the build tag fakemetal it runs on Linux against the project's own stand-in
// for Metal (directory emulator).
//
// # Ownership
//
// Functions that begin with New, and DefaultDevice, give objects that the caller owns and releases once. All others give objects of the current
// autorelease pool: call them inside objc.WithAutoreleasePool and keep nothing beyond it.
package mtl

/*
#cgo LDFLAGS: -framework Metal -framework CoreGraphics
#include <stdlib.h>
// A command-line tool without CoreGraphics has no default device (Apple, MTLCreateSystemDefaultDevice).
extern void *MTLCreateSystemDefaultDevice(void); // darwinkit has no binding for these two
extern void *MTLCopyAllDevices(void);
extern void *dispatch_data_create(const void *bytes, unsigned long size, void *queue, void *destructor); // without a destructor it copies

typedef struct { unsigned long width, height, depth; } size3; // MTLSize
typedef struct { void *object, *error; } result;             // an object or nil, and the NSError

#define METHOD void *imp, void *obj, void *sel
static void void_(METHOD) { ((void (*)(void *, void *))imp)(obj, sel); }
static void *ptr_(METHOD) { return ((void *(*)(void *, void *))imp)(obj, sel); }
static unsigned long ulong_(METHOD) { return ((unsigned long (*)(void *, void *))imp)(obj, sel); }
static double double_(METHOD) { return ((double (*)(void *, void *))imp)(obj, sel); }
static _Bool bool_(METHOD) { return ((_Bool (*)(void *, void *))imp)(obj, sel); }
static void void_bool(METHOD, _Bool a) { ((void (*)(void *, void *, _Bool))imp)(obj, sel, a); }
static void void_ulong(METHOD, unsigned long a) { ((void (*)(void *, void *, unsigned long))imp)(obj, sel, a); }
static void void_ptr(METHOD, void *a) { ((void (*)(void *, void *, void *))imp)(obj, sel, a); }
static void *ptr_ptr(METHOD, void *a) { return ((void *(*)(void *, void *, void *))imp)(obj, sel, a); }
static void *ptr_ulong(METHOD, unsigned long a) { return ((void *(*)(void *, void *, unsigned long))imp)(obj, sel, a); }
static void *ptr_ulong2(METHOD, unsigned long a, unsigned long b) {
	return ((void *(*)(void *, void *, unsigned long, unsigned long))imp)(obj, sel, a, b);
}
static void *ptr_nocopy(METHOD, void *p, unsigned long length, unsigned long options) {
	return ((void *(*)(void *, void *, void *, unsigned long, unsigned long, void *))imp)(obj, sel, p, length, options, 0);
}
static void void_buffer(METHOD, void *buffer, unsigned long offset, unsigned long index) {
	((void (*)(void *, void *, void *, unsigned long, unsigned long))imp)(obj, sel, buffer, offset, index);
}
static void void_size2(METHOD, size3 a, size3 b) { ((void (*)(void *, void *, size3, size3))imp)(obj, sel, a, b); }
static void void_uint(METHOD, unsigned int value, unsigned long index) { // setBytes:length:atIndex:
	((void (*)(void *, void *, void *, unsigned long, unsigned long))imp)(obj, sel, &value, sizeof value, index);
}
static result result_ptr(METHOD, void *a) {
	result r = {0};
	r.object = ((void *(*)(void *, void *, void *, void **))imp)(obj, sel, a, &r.error);
	return r;
}
static result result_ptr2(METHOD, void *a, void *b) {
	result r = {0};
	r.object = ((void *(*)(void *, void *, void *, void *, void **))imp)(obj, sel, a, b, &r.error);
	return r;
}
*/
import "C"

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/progrium/darwinkit/macos/metal"
	"github.com/progrium/darwinkit/objc"
)

// method is a selector with the implementation that it had last, and for which class.
type method struct {
	sel  objc.Selector
	last atomic.Pointer[implementation]
}

type implementation struct{ class, imp unsafe.Pointer }

func selector(name string) *method { return &method{sel: objc.Sel(name)} }

// of gives the three leading arguments of a call on o. Validation layers put other classes around objects, hence the look at the class.
func (m *method) of(o objc.Object) (imp, obj, sel unsafe.Pointer) {
	if o.IsNil() {
		panic("mtl: " + m.sel.Name() + " of a nil object")
	}
	class := o.Class()
	p := m.last.Load()
	if p == nil || p.class != class.Ptr() {
		if !o.RespondsToSelector(m.sel) { // otherwise an NSException, which ends the process
			panic("mtl: the object has no method " + m.sel.Name())
		}
		p = &implementation{class.Ptr(), class.MethodImplementation(m.sel).Ptr()}
		m.last.Store(p)
	}
	return p.imp, o.Ptr(), m.sel.Ptr()
}

func object(p unsafe.Pointer) objc.Object { return objc.ObjectFrom(p) }

func call(m *method, o objc.Object) {
	imp, obj, sel := m.of(o)
	C.void_(imp, obj, sel)
}

func pointer(m *method, o objc.Object) unsafe.Pointer {
	imp, obj, sel := m.of(o)
	return C.ptr_(imp, obj, sel)
}

func number(m *method, o objc.Object) uint {
	imp, obj, sel := m.of(o)
	return uint(C.ulong_(imp, obj, sel))
}

func seconds(m *method, o objc.Object) float64 {
	imp, obj, sel := m.of(o)
	return float64(C.double_(imp, obj, sel))
}

var localizedDescription = selector("localizedDescription")

// nsError turns an NSError into a Go error while its pool is alive.
func nsError(e unsafe.Pointer) error {
	if e == nil {
		return errors.New("failed without an NSError")
	}
	return errors.New(objc.ToGoString(pointer(localizedDescription, object(e))))
}

// Status is how a command buffer ended, in words.
func statusName(s metal.CommandBufferStatus) string {
	names := []string{"not enqueued", "enqueued", "committed", "scheduled", "completed", "error"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("status %d", s)
}

var (
	count, objectAtIndex, retain = selector("count"), selector("objectAtIndex:"), selector("retain")
	name, hasUnifiedMemory       = selector("name"), selector("hasUnifiedMemory")
	maxBufferLength              = selector("maxBufferLength")
	recommendedMaxWorkingSetSize = selector("recommendedMaxWorkingSetSize")
)

// DefaultDevice is the system's default device, else the first of all devices, else a nil object. Ask once per process: a second
// call has been seen to give nil. The list comes second: it has been seen empty until the default was asked for.
func DefaultDevice() metal.DeviceObject {
	d := C.MTLCreateSystemDefaultDevice()
	if d == nil {
		list := object(C.MTLCopyAllDevices())
		if list.IsNil() {
			return metal.DeviceObject{}
		}
		defer list.Release()
		if number(count, list) > 0 {
			imp, obj, sel := objectAtIndex.of(list)
			d = C.ptr_ulong(imp, obj, sel, 0)
			pointer(retain, object(d))
		}
	}
	return metal.DeviceObject{Object: object(d)}
}

// DeviceName is what the device calls itself.
func DeviceName(d metal.DeviceObject) string { return objc.ToGoString(pointer(name, d.Object)) }

// HasUnifiedMemory tells whether CPU and GPU share their memory.
func HasUnifiedMemory(d metal.DeviceObject) bool {
	imp, obj, sel := hasUnifiedMemory.of(d.Object)
	return bool(C.bool_(imp, obj, sel))
}

// MaxBufferLength is the longest buffer, in bytes.
func MaxBufferLength(d metal.DeviceObject) uint { return number(maxBufferLength, d.Object) }

// RecommendedMaxWorkingSetSize is how much memory the GPU uses without losing speed, in bytes.
func RecommendedMaxWorkingSetSize(d metal.DeviceObject) uint {
	return number(recommendedMaxWorkingSetSize, d.Object)
}

var (
	newObject          = selector("new")
	setLanguageVersion = selector("setLanguageVersion:")
	setMathMode        = selector("setMathMode:")
	setFastMathEnabled = selector("setFastMathEnabled:")
	newLibrary         = selector("newLibraryWithSource:options:error:")
	newLibraryWithData = selector("newLibraryWithData:error:")
	newFunction        = selector("newFunctionWithName:")
	newPipeline        = selector("newComputePipelineStateWithFunction:error:")
	maxTotalThreads    = selector("maxTotalThreadsPerThreadgroup")
)

// NewLibrary compiles MSL text as language version 2.4, without fast math. Without a pinned version the dialect would follow the system's.
func NewLibrary(d metal.DeviceObject, text string) (metal.LibraryObject, error) {
	options := newCompileOptions()
	defer options.Release()
	imp, obj, sel := newLibrary.of(d.Object)
	r := C.result_ptr2(imp, obj, sel, objc.ToNSString(text), options.Ptr())
	if r.object == nil {
		return metal.LibraryObject{}, nsError(r.error)
	}
	return metal.LibraryObject{Object: object(r.object)}, nil
}

// NewLibraryWithData loads a metallib. One made for a newer system does not load.
func NewLibraryWithData(d metal.DeviceObject, metallib []byte) (metal.LibraryObject, error) {
	p := C.CBytes(metallib)
	defer C.free(p)
	data := object(C.dispatch_data_create(p, C.ulong(len(metallib)), nil, nil))
	defer data.Release() // dispatch objects are objects
	imp, obj, sel := newLibraryWithData.of(d.Object)
	r := C.result_ptr(imp, obj, sel, data.Ptr())
	if r.object == nil {
		return metal.LibraryObject{}, nsError(r.error)
	}
	return metal.LibraryObject{Object: object(r.object)}, nil
}

func newCompileOptions() objc.Object {
	const mathModeSafe = 0
	class := object(objc.GetClass("MTLCompileOptions").Ptr()) // a class is an object too
	o := object(pointer(newObject, class))
	imp, obj, sel := setLanguageVersion.of(o)
	C.void_ulong(imp, obj, sel, C.ulong(metal.LanguageVersion2_4))
	if o.RespondsToSelector(setMathMode.sel) { // macOS 15 or later; before, the call would end the process
		imp, obj, sel = setMathMode.of(o)
		C.void_ulong(imp, obj, sel, mathModeSafe)
		return o
	}
	imp, obj, sel = setFastMathEnabled.of(o)
	C.void_bool(imp, obj, sel, false)
	return o
}

// NewPipeline makes the pipeline of a library's kernel.
func NewPipeline(d metal.DeviceObject, l metal.LibraryObject, kernel string) (metal.ComputePipelineStateObject, error) {
	imp, obj, sel := newFunction.of(l.Object)
	f := object(C.ptr_ptr(imp, obj, sel, objc.ToNSString(kernel)))
	if f.IsNil() {
		return metal.ComputePipelineStateObject{}, errors.New("the library has no such kernel")
	}
	defer f.Release()
	imp, obj, sel = newPipeline.of(d.Object)
	r := C.result_ptr(imp, obj, sel, f.Ptr())
	if r.object == nil {
		return metal.ComputePipelineStateObject{}, nsError(r.error)
	}
	return metal.ComputePipelineStateObject{Object: object(r.object)}, nil
}

// MaxThreads is how many threads a threadgroup of the pipeline may have. A dispatch with more does not run and says nothing.
func MaxThreads(p metal.ComputePipelineStateObject) uint { return number(maxTotalThreads, p.Object) }

var (
	newQueue        = selector("newCommandQueue")
	newBuffer       = selector("newBufferWithLength:options:")
	newBufferNoCopy = selector("newBufferWithBytesNoCopy:length:options:deallocator:")
	contents        = selector("contents")
	length          = selector("length")
)

// NewQueue may give a nil object, as under a restrictive sandbox profile.
func NewQueue(d metal.DeviceObject) metal.CommandQueueObject {
	return metal.CommandQueueObject{Object: object(pointer(newQueue, d.Object))}
}

// NewBuffer allocates n bytes that CPU and GPU share; a nil object where there is no memory.
func NewBuffer(d metal.DeviceObject, n uint) metal.BufferObject {
	imp, obj, sel := newBuffer.of(d.Object)
	return metal.BufferObject{Object: object(C.ptr_ulong2(imp, obj, sel, C.ulong(n), C.ulong(metal.ResourceStorageModeShared)))}
}

// NewBufferNoCopy makes a buffer of n bytes of anonymous mapped memory at p, page aligned both, which stays the caller's and outlives the buffer. A failure may
// show as a nil object or as length 0.
func NewBufferNoCopy(d metal.DeviceObject, p unsafe.Pointer, n uint) metal.BufferObject {
	imp, obj, sel := newBufferNoCopy.of(d.Object)
	return metal.BufferObject{Object: object(C.ptr_nocopy(imp, obj, sel, p, C.ulong(n), C.ulong(metal.ResourceStorageModeShared)))}
}

// Contents is a buffer's memory.
func Contents(b metal.BufferObject) unsafe.Pointer { return pointer(contents, b.Object) }

// Length is a buffer's length in bytes.
func Length(b metal.BufferObject) uint { return number(length, b.Object) }

var (
	commandBuffer        = selector("commandBuffer")
	computeEncoder       = selector("computeCommandEncoder")
	setPipeline          = selector("setComputePipelineState:")
	setBuffer            = selector("setBuffer:offset:atIndex:")
	setBytes             = selector("setBytes:length:atIndex:")
	dispatchThreadgroups = selector("dispatchThreadgroups:threadsPerThreadgroup:")
	endEncoding          = selector("endEncoding")
	commit               = selector("commit")
	waitUntilCompleted   = selector("waitUntilCompleted")
	status               = selector("status")
	commandBufferError   = selector("error")
	gpuStartTime         = selector("GPUStartTime")
	gpuEndTime           = selector("GPUEndTime")
)

// CommandBuffer begins a command buffer; a nil object where the queue gives none.
func CommandBuffer(q metal.CommandQueueObject) metal.CommandBufferObject {
	return metal.CommandBufferObject{Object: object(pointer(commandBuffer, q.Object))}
}

// Encoder begins a compute pass; a nil object where the command buffer gives none.
func Encoder(c metal.CommandBufferObject) metal.ComputeCommandEncoderObject {
	return metal.ComputeCommandEncoderObject{Object: object(pointer(computeEncoder, c.Object))}
}

// SetPipeline chooses the kernel of the dispatches that follow.
func SetPipeline(e metal.ComputeCommandEncoderObject, p metal.ComputePipelineStateObject) {
	imp, obj, sel := setPipeline.of(e.Object)
	C.void_ptr(imp, obj, sel, p.Ptr())
}

// SetBuffer binds a buffer from an offset in bytes on.
func SetBuffer(e metal.ComputeCommandEncoderObject, b metal.BufferObject, offset, index uint) {
	imp, obj, sel := setBuffer.of(e.Object)
	C.void_buffer(imp, obj, sel, b.Ptr(), C.ulong(offset), C.ulong(index))
}

// SetUint binds a 32-bit constant.
func SetUint(e metal.ComputeCommandEncoderObject, v uint32, index uint) {
	imp, obj, sel := setBytes.of(e.Object)
	C.void_uint(imp, obj, sel, C.uint(v), C.ulong(index))
}

// DispatchThreadgroups runs groups threadgroups of threads threads, each in one dimension.
func DispatchThreadgroups(e metal.ComputeCommandEncoderObject, groups, threads uint) {
	imp, obj, sel := dispatchThreadgroups.of(e.Object)
	C.void_size2(imp, obj, sel, C.size3{C.ulong(groups), 1, 1}, C.size3{C.ulong(threads), 1, 1})
}

// EndEncoding ends a compute pass; an encoder must not be left without.
func EndEncoding(e metal.ComputeCommandEncoderObject) { call(endEncoding, e.Object) }

// Commit hands a command buffer to the GPU.
func Commit(c metal.CommandBufferObject) { call(commit, c.Object) }

// Wait returns when a committed command buffer has ended, with the seconds that the GPU took. Every end but "completed" is an error.
func Wait(c metal.CommandBufferObject) (float64, error) {
	call(waitUntilCompleted, c.Object)
	switch s := metal.CommandBufferStatus(number(status, c.Object)); s {
	case metal.CommandBufferStatusCompleted:
		return seconds(gpuEndTime, c.Object) - seconds(gpuStartTime, c.Object), nil
	case metal.CommandBufferStatusError:
		return 0, nsError(pointer(commandBufferError, c.Object))
	default:
		return 0, fmt.Errorf("the command buffer ended as %q", statusName(s))
	}
}
