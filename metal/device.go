//go:build (darwin && cgo) || fakemetal

package metal

import (
	"fmt"
	"runtime"
	"strings"
	"sync"

	"github.com/progrium/darwinkit/macos/metal"
	"github.com/progrium/darwinkit/objc"

	mtl "github.com/metalcast/metalcast/cgo"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/shaders"
)

// theDevice is asked for once per process and kept: a second request has been seen to give nil.
var theDevice = sync.OnceValue(func() (d metal.DeviceObject) {
	objc.WithAutoreleasePool(func() { d = mtl.DefaultDevice() })
	return d
})

// Describe tells what the default device is.
func Describe() (d Device, err error) {
	dev := theDevice()
	if dev.IsNil() {
		return d, errNoDevice
	}
	objc.WithAutoreleasePool(func() {
		d = Device{
			Name: mtl.DeviceName(dev), Unified: mtl.HasUnifiedMemory(dev),
			MaxBufferLength: uint64(mtl.MaxBufferLength(dev)), WorkingSet: uint64(mtl.RecommendedMaxWorkingSetSize(dev)),
			Metallib: len(shaders.Convert.Metallib) > 0, Emulated: runtime.GOOS != "darwin",
		}
	})
	return d, nil
}

// gpu is the device with its libraries, pipelines and queue.
type gpu struct {
	name string
	dev  metal.DeviceObject

	mu        sync.Mutex                     // guards what follows
	libs      [libraries]metal.LibraryObject // nil until it is needed
	queue     metal.CommandQueueObject
	pipelines map[string]pipeline
}

type pipeline struct {
	state   metal.ComputePipelineStateObject
	threads uint // in a threadgroup
}

// openGPU compiles the kernels of every conversion, and those that quantize if they will be needed; else they are when they are.
func openGPU(quantize bool) (*gpu, error) {
	dev := theDevice()
	if dev.IsNil() {
		return nil, errNoDevice
	}
	g := &gpu{dev: dev, pipelines: map[string]pipeline{}}
	var err error
	objc.WithAutoreleasePool(func() {
		g.name = mtl.DeviceName(dev)
		if _, err = g.library(converting); err == nil && quantize {
			_, err = g.library(quantizing)
		}
		if err == nil {
			err = g.newQueue()
		}
	})
	if err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

// library gives a library, compiled once. The caller holds mu, or is alone, and has a pool.
func (g *gpu) library(l library) (metal.LibraryObject, error) {
	if g.libs[l].IsNil() {
		lib, err := l.take(g.dev)
		if err != nil {
			return lib, fault.New(nil, g.name, "%s do not compile: %v", l, err)
		}
		g.libs[l] = lib
	}
	return g.libs[l], nil
}

// newQueue replaces the queue. Errors of command buffers can make a process's queue refuse all that come after. It needs a pool around it.
func (g *gpu) newQueue() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	q := mtl.NewQueue(g.dev)
	if q.IsNil() {
		return fault.New(nil, g.name, "no command queue").WithHint("a sandbox profile may block the GPU for this process")
	}
	if !g.queue.IsNil() {
		g.queue.Release() // command buffers in flight keep it
	}
	g.queue = q
	return nil
}

// commandBuffer begins a command buffer on the queue of the moment, which it keeps alive; or a nil object.
func (g *gpu) commandBuffer() metal.CommandBufferObject {
	g.mu.Lock()
	defer g.mu.Unlock()
	return mtl.CommandBuffer(g.queue)
}

// pipeline gives a kernel's pipeline, made once. It needs a pool around it.
func (g *gpu) pipeline(kernel string) (p pipeline, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p, ok := g.pipelines[kernel]; ok {
		return p, nil
	}
	lib, err := g.library(libraryOf(kernel))
	if err != nil {
		return p, err
	}
	if p.state, err = mtl.NewPipeline(g.dev, lib, kernel); err != nil {
		return p, fault.New(nil, g.name, "kernel %s: %v", kernel, err)
	}
	p.threads = min(256, mtl.MaxThreads(p.state)&^31)
	if p.threads == 0 {
		p.state.Release()
		return p, fault.New(nil, g.name, "kernel %s: a threadgroup cannot have 32 threads", kernel)
	}
	g.pipelines[kernel] = p
	return p, nil
}

// close releases everything but the device.
func (g *gpu) close() {
	for _, p := range g.pipelines {
		p.state.Release()
	}
	if !g.queue.IsNil() {
		g.queue.Release()
	}
	for _, lib := range g.libs {
		if !lib.IsNil() {
			lib.Release()
		}
	}
	g.pipelines, g.queue, g.libs = nil, metal.CommandQueueObject{}, [libraries]metal.LibraryObject{}
}

// submit runs kernels in one compute pass and waits for it; encode gets the pipelines of the kernels in their order. It gives the GPU's seconds.
func (g *gpu) submit(kernels []string, encode func(e metal.ComputeCommandEncoderObject, pipes []pipeline)) (seconds float64, err error) {
	objc.WithAutoreleasePool(func() {
		cb := g.commandBuffer()
		if cb.IsNil() {
			err = fault.New(nil, g.name, "no command buffer")
			return
		}
		pipes := make([]pipeline, len(kernels))
		for i := range kernels { // before the encoder, which must not be left open
			if pipes[i], err = g.pipeline(kernels[i]); err != nil {
				return
			}
		}
		e := mtl.Encoder(cb)
		if e.IsNil() {
			err = fault.New(nil, g.name, "no command encoder")
			return
		}
		encode(e, pipes)
		mtl.EndEncoding(e)
		mtl.Commit(cb)
		if seconds, err = mtl.Wait(cb); err != nil {
			err = fault.New(nil, g.name, "kernel %s: %v", strings.Join(kernels, ", "), err)
		}
	})
	return seconds, err
}

// kernelsOf is the kernel of each dispatch.
func kernelsOf(list []dispatch) (names []string) {
	for i := range list {
		names = append(names, list[i].kernel)
	}
	return names
}

// encode makes dispatches of a laid out window.
func (s *slot) encode(list []dispatch, e metal.ComputeCommandEncoderObject, pipes []pipeline) {
	for i := range list {
		d := &list[i]
		mtl.SetPipeline(e, pipes[i].state)
		mtl.SetBuffer(e, s.inBuffer, 0, 0)
		mtl.SetBuffer(e, s.outBuffer, 0, 1)
		mtl.SetBuffer(e, s.tiles.buffer, uint(d.offset), 2)
		mtl.SetBuffer(e, s.statuses.buffer, uint(d.first)*uint(statusSize), 3)
		mtl.SetBuffer(e, s.nans.buffer, uint(d.first)*4, 4)
		mtl.DispatchThreadgroups(e, uint(d.count), pipes[i].threads)
	}
}

// String names the device in messages.
func (g *gpu) String() string { return fmt.Sprintf("Metal device %q", g.name) }
