package mlxquant

import (
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/stretchr/testify/require"
)

// TestGoldens compares with results of MLX 0.32.4; see testdata/mlxquant/README.md.
func TestGoldens(t *testing.T) {
	var golden struct {
		Cases []struct {
			Name    string
			Shape   [2]int
			Input   string `json:"input_bf16"`
			Outputs []struct {
				Mode       string
				Bits       int
				GroupSize  int `json:"group_size"`
				CPU, Metal []string
			}
		}
		E4M3 string `json:"from_fp8_bf16"`
	}
	f, err := os.Open("../../testdata/mlxquant/golden.json.gz")
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	require.NoError(t, json.NewDecoder(z).Decode(&golden))

	vectors := 0
	for _, c := range golden.Cases {
		rows, cols := c.Shape[0], c.Shape[1]
		w := make([]float32, rows*cols)
		Widen(w, unhex(t, c.Input), dtype.BF16)
		for _, o := range c.Outputs {
			mode, ok := ParseMode(o.Mode)
			require.True(t, ok, o.Mode)
			f := Format{mode, o.Bits, o.GroupSize}
			for p, want := range [][]string{Metal: o.Metal, CPU: o.CPU} {
				q, err := New(f, Profile(p), dtype.BF16)
				require.NoError(t, err)
				got := quantizeMatrix(t, q, w, cols)
				for i, part := range got {
					if part != nil {
						require.Equal(t, unhex(t, want[i]), part, "%s, %s, %s, part %d", c.Name, f, q.Profile(), i)
					}
				}
				vectors++
			}
		}
	}
	require.Equal(t, 420, vectors)

	for c, bits := range unhex16(t, golden.E4M3) {
		if want := widen(dtype.BF16, uint32(bits)); want == want {
			require.Equal(t, math.Float32bits(want), math.Float32bits(e4m3[c]))
		} else {
			require.True(t, e4m3[c] != e4m3[c])
		}
	}
}

// quantizeMatrix returns codes, scales and biases; biases is nil if the mode has none.
func quantizeMatrix(t testing.TB, q *Quantizer, w []float32, cols int) [3][]byte {
	t.Helper()
	require.NoError(t, q.CheckRow(cols))
	rows, size := len(w)/cols, int(q.ScaleType(q.From()).Size())
	parts := [3][]byte{make([]byte, rows*q.RowBytes(cols)), make([]byte, rows*q.Groups(cols)*size)}
	if q.BiasType(q.From()) != dtype.Invalid {
		parts[2] = make([]byte, len(parts[1]))
	}
	for r := range rows {
		at := r * q.Groups(cols) * size
		bad := q.Row(parts[0][r*q.RowBytes(cols):], parts[1][at:], parts[2][min(at, len(parts[2])):], w[r*cols:(r+1)*cols])
		require.Negative(t, bad, "%s: row %d", q.Format, r)
	}
	return parts
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

func unhex16(t testing.TB, s string) (v []uint16) {
	b := unhex(t, s)
	for i := 0; i < len(b); i += 2 {
		v = append(v, little.Uint16(b[i:]))
	}
	return v
}
