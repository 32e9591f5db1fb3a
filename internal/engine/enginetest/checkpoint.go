package enginetest

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/plan"
)

// Open plans a checkpoint.
func Open(t *testing.T, c *checkpointtest.Checkpoint, o plan.Options) (*plan.Plan, *checkpoint.Source) {
	t.Helper()
	v, err := checkpoint.Open(t.Context(), c.Write(t))
	require.NoError(t, err)
	p, err := plan.New(v, o)
	require.NoError(t, err)
	s, err := v.OpenSource()
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return p, s
}

// Ragged is a checkpoint of many shapes: matrices wider and taller than blocks, scales of both
// types, some in another shard.
func Ragged(block [2]int, seed uint64) (c *checkpointtest.Checkpoint, weights map[string]checkpointtest.Tensor) {
	rng := rand.New(rand.NewPCG(seed, 1))
	c = &checkpointtest.Checkpoint{Shards: map[string][]checkpointtest.Tensor{}, Files: map[string]string{
		"config.json": fmt.Sprintf(`{"model_type":"x","quantization_config":{"weight_block_size":[%d,%d]}}`, block[0], block[1]),
	}}
	var a, b []checkpointtest.Tensor
	weights = map[string]checkpointtest.Tensor{}
	for i, shape := range [][]int{{1, 1}, {129, 257}, {1, 70001}, {3, 40000}, {576, 200}, {64, 64}, {300, 1}, {2, 5, 130}, {1000, 33}} {
		w := checkpointtest.Tensor{Name: fmt.Sprintf("w%d.weight", i), DType: "F8_E4M3", Shape: shape}
		w.Data = make([]byte, w.Bytes())
		for k := range w.Data {
			for w.Data[k] = 0x7F; w.Data[k]&0x7F == 0x7F; {
				w.Data[k] = byte(rng.Uint32())
			}
		}
		n := len(shape)
		s := checkpointtest.Tensor{Name: w.Name + "_scale_inv", DType: "BF16"}
		s.Shape = append(append(s.Shape, shape[:n-2]...), (shape[n-2]+block[0]-1)/block[0], (shape[n-1]+block[1]-1)/block[1])
		if i%2 == 1 {
			s.DType = "F32"
		}
		s.Data = make([]byte, s.Bytes())
		for k := 0; k < len(s.Data); k += width(s.DType) {
			v := math.Float32bits(float32(1+rng.IntN(7)) / 8)
			if s.DType == "F32" {
				binary.LittleEndian.PutUint32(s.Data[k:], v)
			} else {
				binary.LittleEndian.PutUint16(s.Data[k:], uint16(v>>16))
			}
		}
		weights[w.Name], weights[s.Name] = w, s
		other := checkpointtest.Tensor{Name: fmt.Sprintf("m%d", i), DType: "U8", Shape: []int{rng.IntN(100000)}}
		other.Data = make([]byte, other.Bytes())
		for k := range other.Data {
			other.Data[k] = byte(rng.Uint32())
		}
		weights[other.Name] = other
		switch i % 3 {
		case 0:
			a = append(a, s, w, other)
		case 1:
			b = append(b, other, s)
			a = append(a, w)
		case 2:
			b = append([]checkpointtest.Tensor{s}, b...)
			b = append(b, w)
			a = append(a, other)
		}
	}
	c.Shards["a.safetensors"], c.Shards["b.safetensors"] = a, b
	c.Index(nil)
	return c, weights
}

func width(t string) int {
	if t == "F32" {
		return 4
	}
	return 2
}

// Want computes a tensor of Ragged's output, element by element from the tensors as they were made.
func Want(weights map[string]checkpointtest.Tensor, name string, block [2]int) []byte {
	w := weights[name]
	s, scaled := weights[name+"_scale_inv"]
	if !scaled {
		return w.Data
	}
	n := len(w.Shape)
	rows, cols := w.Shape[n-2], w.Shape[n-1]
	gridRows, gridCols := s.Shape[n-2], s.Shape[n-1]
	out := make([]byte, 2*len(w.Data))
	for i, code := range w.Data {
		m, r, c := i/(rows*cols), i/cols%rows, i%cols
		k := (m*gridRows+r/block[0])*gridCols + c/block[1]
		typ := dtype.BF16
		if s.DType == "F32" {
			typ = dtype.F32
		}
		Store(out[2*i:], dtype.BF16, Code(code)*Load(s.Data[k*width(s.DType):], typ))
	}
	return out
}
