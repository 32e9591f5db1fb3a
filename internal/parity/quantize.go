package parity

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/mlxquant"
)

var modes = []mlxquant.Mode{mlxquant.Affine, mlxquant.MXFP4, mlxquant.MXFP8, mlxquant.NVFP4}

// formats lists all of MLX's.
func formats() (list []mlxquant.Format) {
	for _, bits := range []int{1, 2, 3, 4, 5, 6, 8} {
		for _, group := range []int{32, 64, 128} {
			list = append(list, mlxquant.Format{Mode: mlxquant.Affine, Bits: bits, GroupSize: group})
		}
	}
	for _, m := range modes[1:] {
		list = append(list, m.Default())
	}
	return list
}

// quantizes returns the cases of quantizing: all formats from one kind of source, and MLX's default
// of each mode from all.
func (s *Suite) quantizes(add func(kernel.Params, string, func([]byte) []kernel.Job)) {
	for _, profile := range []mlxquant.Profile{mlxquant.Metal, mlxquant.CPU} {
		p := kernel.Params{Op: kernel.Quantize, From: dtype.F8E4M3, To: dtype.BF16, ScaleType: dtype.BF16, BlockRows: 128, BlockCols: 128, Profile: profile}
		for _, p.Format = range formats() {
			add(p, "ragged shapes, odd offsets", groupShapes(p))
		}
		for i, m := range modes {
			p.Format = m.Default()
			p.Transposed = true
			add(p, "transposed, ragged shapes, odd offsets", groupShapes(p))
			p.Transposed = false
			for k, st := range scaleTypes {
				q := p
				q.ScaleType, q.To, q.BlockRows, q.BlockCols = st, floats[(i+k)%3], 1, 7168
				add(q, fmt.Sprintf("%s scales of rows, odd offsets", st), groupShapes(q))
				q.BlockCols = 256
				add(q, fmt.Sprintf("256 codes x %s scales", st), groupTables(q, s.Quick))
			}
			for _, t := range floats {
				add(kernel.Params{Op: kernel.Quantize, From: t, To: t, Format: p.Format, Profile: profile}, "groups of every kind", groups(t, s.Quick))
			}
			q := kernel.Params{Op: kernel.Quantize, From: floats[(i+1)%3], To: floats[i%3], Format: p.Format, Profile: profile}
			add(q, "groups of every kind", groups(q.From, s.Quick))
		}
	}
}

// packedName is short enough for the table; the description of the input has the rest.
func packedName(p *kernel.Params) string {
	return fmt.Sprintf("quantize %s -> %s, %s as %s", p.From, p.To, p.Format, p.Profile)
}

// placePacked sets where a job writes, with gaps of a few bytes.
func placePacked(p *kernel.Params, j *kernel.Job) {
	_, _, codes, scales, _ := p.Packed(j)
	j.Dst = 64
	j.DstScale = j.Dst + int(codes) + 8
	j.DstBias = j.DstScale + int(scales+7)&^3
}

// packedEnd returns where a job's results end.
func packedEnd(p *kernel.Params, j *kernel.Job) int {
	_, _, codes, scales, biases := p.Packed(j)
	return max(j.Dst+int(codes), j.DstScale+int(scales), j.DstBias+int(biases))
}

// groupShapes returns matrices of few and of many groups, with strides, at odd offsets and phases.
func groupShapes(p kernel.Params) func([]byte) []kernel.Job {
	list := [][2]int{{1, 1}, {3, 5}, {129, 2}, {70, 9}} // lines, groups of a line
	rng := rand.New(rand.NewPCG(31, 37))
	return func(in []byte) []kernel.Job {
		if len(list) == 0 {
			return nil
		}
		rows, cols := list[0][0], list[0][1]*p.Format.GroupSize
		list = list[1:]
		if p.Transposed {
			rows, cols = cols, rows
		}
		j := kernel.Job{Rows: rows, Cols: cols, Src: rng.IntN(9), SrcStride: cols + rng.IntN(5), RowPhase: rng.IntN(p.BlockRows), ColPhase: rng.IntN(p.BlockCols)}
		end := operands(rng, in, &p, &j, rng.IntN(9))
		for i := j.Src; i < min(end, j.Src+rows*j.SrcStride); i++ {
			in[i] = sound(in[i])
		}
		placePacked(&p, &j)
		return []kernel.Job{j}
	}
}

// sound returns the code, or another one instead of NaN, which would spoil its group.
func sound(c byte) byte {
	if c&0x7F == 0x7F {
		return c ^ 1
	}
	return c
}

// groupTables multiplies all codes except NaN by scales of every kind: a row of 256 codes for each,
// in an order of its own.
func groupTables(p kernel.Params, quick bool) func([]byte) []kernel.Job {
	scales := edgeScales(p.ScaleType)
	if len(scales) > 2000 {
		scales = sample(scales, 4)
	}
	if quick {
		scales = sample(scales, 16)
	}
	rng := rand.New(rand.NewPCG(41, 43))
	done := false
	return func(in []byte) []kernel.Job {
		if done {
			return nil
		}
		done = true
		j := kernel.Job{Rows: len(scales), Cols: 256, SrcStride: 256, Scale: 256 * len(scales), ScaleStride: 1}
		for i := range len(scales) {
			for k, c := range rng.Perm(256) {
				in[256*i+k] = sound(byte(c))
			}
		}
		put(in[j.Scale:], p.ScaleType, scales)
		placePacked(&p, &j)
		return []kernel.Job{j}
	}
}

// groups returns runs of 128 elements, which every group size divides, with extremes of every
// magnitude: finite patterns of a few neighbouring exponents, consecutive ones, multiples of a
// power of two (halves among their quotients), equal ones, zeros.
func groups(t dtype.DType, quick bool) func([]byte) []kernel.Job {
	const cols = 1024
	rows := 96
	if quick {
		rows = 16
	}
	mantissa := map[dtype.DType]int{dtype.BF16: 7, dtype.F16: 10, dtype.F32: 23}[t]
	infinite := uint32(0x7F800000)
	if size := t.Size(); size == 2 {
		infinite = map[dtype.DType]uint32{dtype.BF16: 0x7F80, dtype.F16: 0x7C00}[t]
	}
	sign := uint32(1) << (8*t.Size() - 1)
	rng := rand.New(rand.NewPCG(47, 53))
	done := false
	return func(in []byte) []kernel.Job {
		if done {
			return nil
		}
		done = true
		list := make([]uint32, rows*cols)
		for i := 0; i < len(list); i += 128 {
			run := list[i : i+128]
			top := rng.Uint32N(infinite)
			unit := 96 + rng.IntN(31) // an exponent of float32
			for k := range run {
				switch i / 128 % 6 {
				case 0, 1:
					run[k] = top - min(top, rng.Uint32N(4<<mantissa)) | rng.Uint32N(2)*sign
				case 2:
					run[k] = min(top+uint32(k), infinite-1)
				case 3:
					run[k] = multiple(t, rng.IntN(511)-255, unit)
				case 4:
					run[k] = top
				default:
					run[k] = rng.Uint32N(2) * sign
				}
			}
		}
		put(in[1:], t, list)
		j := kernel.Job{Rows: rows, Cols: cols, Src: 1, SrcStride: cols}
		placePacked(&kernel.Params{Op: kernel.Quantize, To: dtype.F32, Format: mlxquant.Format{Bits: 8, GroupSize: 16}}, &j)
		return []kernel.Job{j}
	}
}

// multiple returns n times a power of two in the bits of a type, exactly: |n| is below 256.
func multiple(t dtype.DType, n, exponent int) uint32 {
	w := math.Float32bits(float32(n) * math.Float32frombits(uint32(exponent)<<23))
	switch t {
	case dtype.BF16:
		return w >> 16
	case dtype.F16:
		if w&0x7FFFFFFF < 0x38800000 || w&0x7FFFFFFF >= 0x47800000 { // not a normal number
			return w >> 16 & 0x8000
		}
		return w>>16&0x8000 | (w&0x7FFFFFFF-0x38000000)>>13
	}
	return w
}
