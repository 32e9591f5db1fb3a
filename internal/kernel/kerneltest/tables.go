package kerneltest

import (
	"math/rand/v2"
	"os"
	"testing"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/needtest"
)

var floats = []dtype.DType{dtype.BF16, dtype.F16, dtype.F32}

// sampled reports whether exhaustive parts take samples.
func sampled() bool { return raceEnabled || !needtest.Long() }

// nightly reports whether tests that take minutes run.
func nightly() bool { return os.Getenv("METALCAST_NIGHTLY") == "1" }

// testTables multiplies all codes by all scales of 8 and 16 bits and by float32 scales of every
// kind, in blocks of three shapes, because a backend may compute each in a different way.
func testTables(t *testing.T, be kernel.Backend) {
	step, random := uint32(1), 20_000
	if sampled() {
		step, random = 61, 1000
	}
	if !needtest.Long() {
		step, random = 251, 250
	}
	rng := rand.New(rand.NewPCG(3, 5))
	scales := map[dtype.DType][]uint32{
		dtype.BF16: all16(dtype.BF16, step), dtype.F16: all16(dtype.F16, step), dtype.F8E8M0: allE8M0(),
		dtype.F32: append(edgeF32(rng), randomF32(rng, random)...),
	}
	// of the values at the ends of exponents, neighbours with different exponents
	if !needtest.Long() {
		scales[dtype.BF16], scales[dtype.F32] = thin(scales[dtype.BF16], 3), thin(scales[dtype.F32], 5)
	}
	for _, to := range floats {
		t.Run(to.String(), func(t *testing.T) {
			t.Parallel()
			for _, st := range scaleTypes {
				tableWindows(t, be, kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3, To: to, ScaleType: st}, scales[st])
			}
		})
	}
}

func tableWindows(t *testing.T, be kernel.Backend, p kernel.Params, scales []uint32) {
	rig := NewRig(be)
	for len(scales) > 0 {
		n := min(len(scales), 2048)
		codes := make([]byte, 256*n)
		for i := range codes {
			codes[i] = byte(i)
		}
		p.BlockRows, p.BlockCols = 1, 256
		w := NewWindow(1)
		w.Add(p, Layout{Rows: n, Cols: 256, Codes: codes, Scales: scales[:n]})

		p.BlockRows, p.BlockCols = 1, 32 // eight blocks per row, all with the row's scale
		repeated := make([]uint32, 0, 8*n)
		for _, s := range scales[:n] {
			repeated = append(repeated, s, s, s, s, s, s, s, s)
		}
		w.Add(p, Layout{Rows: n, Cols: 256, Codes: codes, Scales: repeated})

		p.BlockRows, p.BlockCols = 128, 128 // of which there are two rows, one for each sign
		for i := range codes {
			codes[i] = byte(i/(128*n)*128 + i%128)
		}
		w.Add(p, Layout{Rows: 2, Cols: 128 * n, Codes: codes, Scales: scales[:n]})
		rig.Check(t, w)
		scales = scales[n:]
	}
}
