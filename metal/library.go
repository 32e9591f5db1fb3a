//go:build (darwin && cgo) || fakemetal

package metal

import (
	"strings"
	"sync"

	"github.com/progrium/darwinkit/macos/metal"
	"github.com/progrium/darwinkit/objc"

	mtl "github.com/metalcast/metalcast/cgo"
	"github.com/metalcast/metalcast/shaders"
)

// library is one of the two that the kernels are compiled in.
type library int

const (
	converting library = iota
	quantizing
	libraries // how many
)

// libraryOf is the library that a kernel is in.
func libraryOf(kernel string) library {
	if strings.HasPrefix(kernel, "quantize") {
		return quantizing
	}
	return converting
}

// String is what messages call its kernels.
func (l library) String() string {
	return [libraries]string{"the kernels", "the kernels that quantize"}[l]
}

func (l library) source() *shaders.Library {
	return [libraries]*shaders.Library{&shaders.Convert, &shaders.Quantize}[l]
}

// compile loads the embedded metallib, if there is one and it loads here, and else compiles the text. It needs a pool around it.
func (l library) compile(dev metal.DeviceObject) (metal.LibraryObject, error) {
	s := l.source()
	if len(s.Metallib) > 0 {
		if lib, err := mtl.NewLibraryWithData(dev, s.Metallib); err == nil {
			return lib, nil
		}
	}
	return mtl.NewLibrary(dev, s.Text)
}

// prepared is what Prepare began to compile and no backend has taken yet.
var prepared struct {
	sync.Mutex
	libraries [libraries]func() (metal.LibraryObject, error)
}

// Prepare begins to compile the kernels in the background, those that quantize too if they will be needed, for the next backend that opens: reading headers
// and planning take as long as that does after an update of the system. What goes wrong is that backend's error. settle waits until the compiler is done: a process
// does not end under it.
func Prepare(quantize bool) (settle func()) {
	dev := theDevice()
	if dev.IsNil() {
		return func() {}
	}
	wait := converting.prepare(dev)
	if !quantize {
		return wait
	}
	waitToo := quantizing.prepare(dev)
	return func() { wait(); waitToo() }
}

func (l library) prepare(dev metal.DeviceObject) (settle func()) {
	prepared.Lock()
	defer prepared.Unlock()
	if begun := prepared.libraries[l]; begun != nil {
		return func() { begun() } //nolint:errcheck // take's caller gets it
	}
	compile := sync.OnceValues(func() (lib metal.LibraryObject, err error) {
		objc.WithAutoreleasePool(func() { lib, err = l.compile(dev) })
		return lib, err
	})
	prepared.libraries[l] = compile
	go compile()                //nolint:errcheck // take's caller gets it
	return func() { compile() } //nolint:errcheck // likewise
}

// take gives the library that Prepare began, which is the caller's from now on, or compiles it. It needs a pool around it.
func (l library) take(dev metal.DeviceObject) (metal.LibraryObject, error) {
	prepared.Lock()
	begun := prepared.libraries[l]
	prepared.libraries[l] = nil
	prepared.Unlock()
	if begun != nil {
		return begun()
	}
	return l.compile(dev)
}
