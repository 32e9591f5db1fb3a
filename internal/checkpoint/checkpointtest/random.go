package checkpointtest

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/synth"
)

// RandomMoe fills a small qwen3_5_moe checkpoint with random codes and scales; scales are bf16, so
// every product is exact in float64.
func RandomMoe(experts, hidden, intermediate int, seed uint64) *Checkpoint {
	rng := rand.New(rand.NewPCG(seed, seed))
	c := Moe(experts)
	for i := range c.Shards["model.safetensors"] {
		t := &c.Shards["model.safetensors"][i]
		switch t.DType {
		case "F8_E4M3":
			rows, cols := intermediate, hidden
			if t.Shape[0] == 4 { // down_proj of Moe
				rows, cols = hidden, intermediate
			}
			t.Shape = []int{rows, cols}
			t.Data = make([]byte, rows*cols)
			for k := range t.Data {
				for t.Data[k] = 0x7F; t.Data[k]&0x7F == 0x7F; {
					t.Data[k] = byte(rng.Uint32())
				}
			}
			s := &c.Shards["model.safetensors"][i+1]
			s.Shape = []int{(rows + 127) / 128, (cols + 127) / 128}
			s.Data = make([]byte, s.Bytes())
			for k := 0; k < len(s.Data); k += 2 {
				binary.LittleEndian.PutUint16(s.Data[k:], uint16(0x3800+rng.IntN(0x800)))
			}
		}
	}
	return c
}

// Synthetic writes a synthetic checkpoint, and returns its directory and its config.
func Synthetic(t testing.TB, o synth.Options) (dir string, config map[string]any) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "src")
	_, err := synth.Write(t.Context(), dir, o)
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(dir, "config.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &config))
	return dir, config
}

// E4M3 is what a code is worth, naively.
func E4M3(c byte) float64 {
	e, m := int(c>>3&15), float64(c&7)
	v := math.Ldexp(8+m, e-10)
	if e == 0 {
		v = math.Ldexp(m, -9)
	}
	if c >= 128 {
		v = -v
	}
	return v
}

// WidenBF16 is what the bits of a bfloat16 are worth.
func WidenBF16(b uint16) float64 { return float64(math.Float32frombits(uint32(b) << 16)) }
