package mlxquant

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/stretchr/testify/require"
)

// BenchmarkRow quantizes rows of 4096 bfloat16 weights that are already widened to float32; MB/s
// counts two bytes per element.
func BenchmarkRow(b *testing.B) {
	w := make([]float32, 4096)
	gauss(rand.New(rand.NewPCG(5, 6)), w, 0.02)
	for i, x := range w {
		w[i] = toFinite(x, dtype.BF16)
	}
	for _, p := range []Profile{Metal, CPU} {
		for _, f := range []Format{{Affine, 4, 64}, {Affine, 4, 32}, {Affine, 3, 64}, {Affine, 6, 64}, {Affine, 8, 64}, {MXFP4, 4, 32}, {MXFP8, 8, 32}, {NVFP4, 4, 16}} {
			b.Run(fmt.Sprintf("%s/%s-%d-%d", p, f.Mode, f.Bits, f.GroupSize), func(b *testing.B) {
				q, err := New(f, p, dtype.BF16)
				require.NoError(b, err)
				codes, scales, biases := make([]byte, f.RowBytes(len(w))), make([]byte, 2*f.Groups(len(w))), make([]byte, 2*f.Groups(len(w)))
				b.SetBytes(int64(2 * len(w)))
				b.ReportAllocs()
				for b.Loop() {
					q.Row(codes, scales, biases, w)
				}
			})
		}
	}
}

func BenchmarkWiden(b *testing.B) {
	src, dst := make([]byte, 8192), make([]float32, 4096)
	for _, t := range floats {
		b.Run(t.String(), func(b *testing.B) {
			n := len(src) / int(t.Size())
			b.SetBytes(int64(len(src)))
			for b.Loop() {
				Widen(dst[:n], src, t)
			}
		})
	}
}
