//go:build (darwin && cgo) || fakemetal

package metal

import (
	"errors"

	"github.com/progrium/darwinkit/macos/metal"
	"github.com/progrium/darwinkit/objc"

	mtl "github.com/metalcast/metalcast/cgo"
	"github.com/metalcast/metalcast/internal/fault"
)

// Copy runs the copy kernel from a slot's In to its Out, over their common length in multiples of 16 bytes, and gives the GPU's seconds: the bandwidth that other
// kernels are measured by.
func (b *Backend) Copy(s interface{ In() []byte }) (seconds float64, err error) {
	sl, ok := s.(*slot)
	if !ok {
		return 0, errors.New("metal: a slot of another backend")
	}
	objc.WithAutoreleasePool(func() {
		var p pipeline
		if p, _, err = b.g.pipeline("copy16"); err != nil {
			return
		}
		n := uint(min(len(sl.in), len(sl.out)) / 16)
		cb := b.g.commandBuffer()
		e := metal.ComputeCommandEncoderObject{}
		if !cb.IsNil() {
			e = mtl.Encoder(cb)
		}
		if e.IsNil() {
			err = fault.New(nil, b.g.name, "no command encoder")
			return
		}
		mtl.SetPipeline(e, p.state)
		mtl.SetBuffer(e, sl.inBuffer, 0, 0)
		mtl.SetBuffer(e, sl.outBuffer, 0, 1)
		mtl.SetUint(e, uint32(n), 2)
		mtl.DispatchThreadgroups(e, (n+p.threads-1)/p.threads, p.threads)
		mtl.EndEncoding(e)
		mtl.Commit(cb)
		seconds, err = mtl.Wait(cb)
	})
	return seconds, err
}
