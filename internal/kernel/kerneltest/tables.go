package kerneltest

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
)

var floats = []dtype.DType{dtype.BF16, dtype.F16, dtype.F32}

// nightly asks for what takes minutes.
func nightly() bool { return os.Getenv("METALCAST_NIGHTLY") == "1" }

// testTables multiplies all codes by all bfloat16 scales and by float32 scales of every kind, in blocks of three shapes: a backend
// may compute each in another way.
func testTables(t *testing.T, be kernel.Backend) {
	step, random := uint32(1), 20_000
	if testing.Short() || raceEnabled {
		step, random = 61, 1000
	}
	rng := rand.New(rand.NewPCG(3, 5))
	scales := map[dtype.DType][]uint32{dtype.BF16: allBF16(step), dtype.F32: append(edgeF32(rng), randomF32(rng, random)...)}
	for _, to := range floats {
		t.Run(to.String(), func(t *testing.T) {
			t.Parallel()
			for _, st := range []dtype.DType{dtype.BF16, dtype.F32} {
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

		p.BlockRows, p.BlockCols = 1, 32 // eight blocks to a row, all of the row's scale
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

// testCasts converts every 16-bit pattern and float32 patterns of every kind to every type.
func testCasts(t *testing.T, be kernel.Backend) {
	random := 500_000
	if testing.Short() || raceEnabled {
		random = 20_000
	}
	var half, single []byte
	for w := range uint32(1 << 16) {
		half = binary.LittleEndian.AppendUint16(half, uint16(w))
	}
	for _, w := range castPatterns(rand.New(rand.NewPCG(7, 9)), random) {
		single = binary.LittleEndian.AppendUint32(single, w)
	}
	rig := NewRig(be)
	for _, from := range floats {
		data := half
		if from == dtype.F32 {
			data = single
		}
		for _, to := range floats {
			p := kernel.Params{Op: kernel.Cast, From: from, To: to}
			n := len(data) / int(from.Size())
			w := NewWindow(1)
			w.Add(p, Layout{Rows: 1, Cols: n, Codes: data, Shift: 3})                                     // one long row
			w.Add(p, Layout{Rows: n / 97, Cols: 97, Codes: data, Shift: 1, SrcGap: 2, DstGap: 3})         // and many short ones
			w.Add(p, Layout{Rows: n / 5, Cols: 1, Codes: data, Shift: 1, SrcGap: 1, DstGap: 1})           // a column
			w.Add(p, Layout{Rows: 1, Cols: 1, Codes: data[len(data)/2:], DstGap: 5, Shift: 7, SrcGap: 9}) // a scalar
			rig.Check(t, w)
			if from == dtype.F32 && nightly() {
				castAll(t, rig, p)
			}
		}
	}
}

// castAll goes through all 2^32 patterns.
func castAll(t *testing.T, rig *Rig, p kernel.Params) {
	const rows, cols = 1 << 10, 1 << 14
	data := make([]byte, 4*rows*cols)
	for i := range uint64(1 << 32 / (rows * cols)) {
		for k := range uint32(rows * cols) {
			binary.LittleEndian.PutUint32(data[4*k:], uint32(i)*rows*cols+k)
		}
		w := NewWindow(i)
		w.Add(p, Layout{Rows: rows, Cols: cols, Codes: data})
		rig.Check(t, w)
	}
}
