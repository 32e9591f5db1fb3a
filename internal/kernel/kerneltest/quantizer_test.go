package kerneltest

import (
	"compress/gzip"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/mlxquant"
	"github.com/stretchr/testify/require"
)

// TestQuantizer compares the reference with MLX's own results; see testdata/mlxquant/README.md.
func TestQuantizer(t *testing.T) {
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
	}
	f, err := os.Open("../../../testdata/mlxquant/golden.json.gz")
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	require.NoError(t, json.NewDecoder(z).Decode(&golden))
	vectors := 0
	for _, c := range golden.Cases {
		w := make([]float64, c.Shape[0]*c.Shape[1])
		input := unhex(t, c.Input)
		for i := range w {
			w[i] = formatOf(dtype.BF16).value(uint32(binary.LittleEndian.Uint16(input[2*i:])))
		}
		for _, o := range c.Outputs {
			mode, ok := mlxquant.ParseMode(o.Mode)
			require.True(t, ok)
			f := mlxquant.Format{Mode: mode, Bits: o.Bits, GroupSize: o.GroupSize}
			for profile, want := range [][]string{mlxquant.Metal: o.Metal, mlxquant.CPU: o.CPU} {
				q := newQuantizer(f, mlxquant.Profile(profile), dtype.BF16)
				for i := 0; i < len(w)/f.GroupSize; i++ {
					g := q.group(w[i*f.GroupSize : (i+1)*f.GroupSize])
					codes := make([]byte, f.GroupBytes())
					pack(codes, g.codes, f.Bits)
					size := int(f.ScaleType(dtype.BF16).Size())
					scale, bias := make([]byte, size), make([]byte, size)
					store(scale, g.scale, size)
					store(bias, g.bias, size)
					for k, got := range [][]byte{codes, scale, bias} {
						if k < 2 || mode == mlxquant.Affine {
							require.Equal(t, unhex(t, want[k])[i*len(got):(i+1)*len(got)], got, "%s, %s, %s, group %d", c.Name, f, mlxquant.Profile(profile), i)
						}
					}
				}
				vectors++
			}
		}
	}
	require.Equal(t, 420, vectors)
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}
