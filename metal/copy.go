//go:build (darwin && cgo) || fakemetal

package metal

import (
	"errors"

	"github.com/progrium/darwinkit/macos/metal"

	mtl "github.com/metalcast/metalcast/cgo"
)

// Copy runs the copy kernel from a slot's In to its Out, over their common length in multiples of 16 bytes, and gives the GPU's seconds: the bandwidth that other
// kernels are measured by.
func (b *Backend) Copy(s interface{ In() []byte }) (seconds float64, err error) {
	sl, ok := s.(*slot)
	if !ok {
		return 0, errors.New("metal: a slot of another backend")
	}
	n := uint(min(len(sl.in), len(sl.out)) / 16)
	return b.g.submit([]string{"copy16"}, func(e metal.ComputeCommandEncoderObject, pipes []pipeline) {
		p := pipes[0]
		mtl.SetPipeline(e, p.state)
		mtl.SetBuffer(e, sl.inBuffer, 0, 0)
		mtl.SetBuffer(e, sl.outBuffer, 0, 1)
		mtl.SetUint(e, uint32(n), 2)
		mtl.DispatchThreadgroups(e, (n+p.threads-1)/p.threads, p.threads)
	})
}
