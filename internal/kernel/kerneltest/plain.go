package kerneltest

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
)

// patterns returns elements of a type, in little-endian bytes: all 16-bit values, or float32s of
// every kind and some near the values that matter to one operation.
func patterns(t dtype.DType, near func(*rand.Rand) []uint32) (data []byte) {
	if t != dtype.F32 {
		for w := range uint32(1 << 16) {
			data = binary.LittleEndian.AppendUint16(data, uint16(w))
		}
		return data
	}
	random := 500_000
	if sampled() {
		random = 20_000
	}
	rng := rand.New(rand.NewPCG(7, 9))
	list := castPatterns(rng, random)
	if near != nil {
		list = append(near(rng), list...)
	}
	for _, w := range list {
		data = binary.LittleEndian.AppendUint32(data, w)
	}
	return data
}

// testCasts converts every 16-bit pattern and float32 patterns of every kind to every type.
func testCasts(t *testing.T, be kernel.Backend) {
	rig := NewRig(be)
	for _, from := range floats {
		data := patterns(from, nil)
		for _, to := range floats {
			for _, turned := range []bool{false, true} {
				plainWindow(t, rig, kernel.Params{Op: kernel.Cast, From: from, To: to, Transposed: turned}, data)
			}
		}
	}
}

// testCopies moves every 16-bit pattern and float32 patterns of every kind.
func testCopies(t *testing.T, be kernel.Backend) {
	rig := NewRig(be)
	for _, of := range floats {
		data := patterns(of, nil)
		for _, turned := range []bool{false, true} {
			plainWindow(t, rig, kernel.Params{Op: kernel.Copy, From: of, To: of, Transposed: turned}, data)
		}
	}
}

// testAddOne adds one to every 16-bit pattern and to float32 patterns of every kind, with results
// of every type.
func testAddOne(t *testing.T, be kernel.Backend) {
	rig := NewRig(be)
	for _, from := range floats {
		data := patterns(from, nearOne)
		for _, to := range floats {
			plainWindow(t, rig, kernel.Params{Op: kernel.AddOne, From: from, To: to}, data)
		}
	}
}

// plainWindow arranges elements as one long row, as many short ones, as a column and as a scalar;
// in adjacent columns if the result is transposed.
func plainWindow(t *testing.T, rig *Rig, p kernel.Params, data []byte) {
	n := len(data) / int(p.From.Size())
	w := NewWindow(1)
	w.Add(p, Layout{Rows: 1, Cols: n, Codes: data, Shift: 3})
	w.Add(p, Layout{Rows: n / 97, Cols: 97, Codes: data, Shift: 1, SrcGap: 2, DstGap: 3})
	w.Add(p, Layout{Rows: n / 5, Cols: 1, Codes: data, Shift: 1, SrcGap: 1, DstGap: 1})
	w.Add(p, Layout{Rows: 1, Cols: 1, Codes: data[len(data)/2:], DstGap: 5, Shift: 7, SrcGap: 9})
	w.Add(p, Layout{Rows: n / 1000, Cols: 1000, Codes: data, DstGap: 8})
	rig.Check(t, w)
	if p.From == dtype.F32 && !p.Transposed && nightly() {
		allPatterns(t, rig, p)
	}
}

// allPatterns goes through all 2^32.
func allPatterns(t *testing.T, rig *Rig, p kernel.Params) {
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

// nearOne returns float32 patterns whose sum with 1 cancels, is a tie of some type or next to one,
// or is the first to lose one of its operands.
func nearOne(rng *rand.Rand) (s []uint32) {
	single := formatOf(dtype.F32)
	around := func(x float64, reach int) {
		w := single.round(x)
		for d := -reach; d <= reach; d++ {
			s = append(s, w+uint32(d), (w+uint32(d))^single.sign())
		}
	}
	for e := -30; e <= 30; e++ {
		around(power(1, e), 40)
		around(power(3, e), 5)
	}
	for _, t := range floats {
		f := formatOf(t)
		for range 3000 {
			b := f.round(power(1+rng.Float64(), rng.IntN(50)-25))
			around((f.value(b)+f.value(b+1))/2-1, 3) // a tie of the sum, positive
			around((f.value(b)+f.value(b+1))/2+1, 3) // and of the sum of its negative
		}
	}
	return s
}
