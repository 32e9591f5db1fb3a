//go:build darwin

// Package mtl calls Metal. darwinkit gives the objects; its objc.Call, and with it every generated method, keeps Go memory in C where the garbage
// collector does not see it and crashes under load (darwinkit issues 278, 286, 289), so calls go through the typed C functions
// here, which call the method's implementation directly.
//
// This is the only product package that imports "C".
package mtl

/*
#cgo LDFLAGS: -framework Metal -framework CoreGraphics
// A command-line tool without CoreGraphics has no default device (Apple, MTLCreateSystemDefaultDevice).
extern void *MTLCreateSystemDefaultDevice(void); // darwinkit has no binding for it
static void *call_p(void *imp, void *obj, void *sel) { return ((void *(*)(void *, void *))imp)(obj, sel); }
*/
import "C"

import (
	"unsafe"

	"github.com/progrium/darwinkit/macos/metal"
	"github.com/progrium/darwinkit/objc"
)

// DefaultDevice is the system's default device, owned by the caller, who releases it once; or a nil object. Ask once per process: a second
// call has been seen to give nil.
func DefaultDevice() metal.DeviceObject {
	return metal.DeviceObject{Object: objc.ObjectFrom(C.MTLCreateSystemDefaultDevice())}
}

// DeviceName is what the device calls itself. It needs an autorelease pool around it.
func DeviceName(d metal.DeviceObject) string {
	return objc.ToGoString(pointer(d.Object, objc.Sel("name")))
}

// pointer calls a method without arguments that gives an object.
func pointer(o objc.Object, sel objc.Selector) unsafe.Pointer {
	if !o.RespondsToSelector(sel) { // otherwise an NSException, which ends the process
		panic("mtl: no method " + sel.Name())
	}
	return C.call_p(o.Class().MethodImplementation(sel).Ptr(), o.Ptr(), sel.Ptr())
}
