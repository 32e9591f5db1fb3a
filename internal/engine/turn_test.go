package engine_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/engine/enginetest"
	"github.com/metalcast/metalcast/internal/family"
	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/metalcast/metalcast/internal/plan"
)

// matrix is a weight and, element by element, what it is worth in bf16.
type matrix struct {
	rows, cols int
	tensors    []Tensor
	value      func(r, c int) uint16
}

// randomMatrix makes a weight in bf16, or in FP8 with a scale for each block.
func randomMatrix(rng *rand.Rand, name string, rows, cols int, block [2]int, fp8 bool) matrix {
	w := Tensor{Name: name, DType: "BF16", Shape: []int{rows, cols}}
	if fp8 {
		w.DType = "F8_E4M3"
	}
	w.Data = make([]byte, w.Bytes())
	for i := range w.Data {
		w.Data[i] = byte(rng.IntN(0x70)) // no NaN, in either type
	}
	m := matrix{rows: rows, cols: cols, tensors: []Tensor{w}}
	if !fp8 {
		m.value = func(r, c int) uint16 { return binary.LittleEndian.Uint16(w.Data[2*(r*cols+c):]) }
		return m
	}
	down, across := (rows+block[0]-1)/block[0], (cols+block[1]-1)/block[1]
	s := Tensor{Name: name + "_scale_inv", DType: "F32", Shape: []int{down, across}, Data: make([]byte, 4*down*across)}
	for i := range down * across {
		binary.LittleEndian.PutUint32(s.Data[4*i:], math.Float32bits(float32(1+rng.IntN(7))/8))
	}
	m.tensors = append(m.tensors, s)
	m.value = func(r, c int) uint16 {
		var b [2]byte
		enginetest.Store(b[:], dtype.BF16, enginetest.Code(w.Data[r*cols+c])*enginetest.Load(s.Data[4*(r/block[0]*across+c/block[1]):], dtype.F32))
		return binary.LittleEndian.Uint16(b[:])
	}
	return m
}

// check runs a plan with several amounts of memory and compares tensors with values given by index.
func check(t *testing.T, c *Checkpoint, o plan.Options, want map[string]func(i int) uint16) {
	t.Helper()
	p, src := enginetest.Open(t, c, o)
	require.Len(t, p.Tensors, len(want))
	elements := map[string][]uint16{} // by their closures once, which are slow under the race detector
	for _, x := range p.Tensors {
		f := want[x.Name]
		require.NotNil(t, f, x.Name)
		for i := range int(x.Size) / 2 {
			elements[x.Name] = append(elements[x.Name], f(i))
		}
	}
	least := engine.MinMemory(p)
	for _, mem := range []int64{least, 3 * least, least + least/2, 512 << 20}[:needtest.Rounds(1, 4)] {
		s := engine.NewSchedule(p, mem)
		d := newDisk(p)
		_, err := runEngine(t, t.Context(), p, s, src, d, engine.Options{})
		require.NoError(t, err)
		for _, x := range p.Tensors {
			data := d.shards[x.Shard][x.Offset : x.Offset+x.Size]
			if times := d.times[x.Shard][x.Offset : x.Offset+x.Size]; bytes.Count(times, []byte{1}) != len(times) {
				t.Fatalf("%s: byte %d is not written once", x.Name, slices.IndexFunc(times, func(n byte) bool { return n != 1 }))
			}
			for i, want := range elements[x.Name] {
				if got := binary.LittleEndian.Uint16(data[2*i:]); got != want {
					t.Fatalf("%s, element %d of %v with %d bytes: 0x%04x, want 0x%04x", x.Name, i, x.Shape, mem, got, want)
				}
			}
		}
		require.NoError(t, compare(t, p, s, src, d))
	}
}

func TestGateAndUpSideBySide(t *testing.T) {
	needtest.Alone(t)
	const prefix = "language_model.model.layers.0.feed_forward.experts."
	for _, test := range []struct {
		inner, hidden int
		block         [2]int
		fp8, apart    bool // apart: gate in another shard than up
	}{
		{3, 5, [2]int{2, 2}, true, false},
		{70, 333, [2]int{1, 333}, true, false}, // per-channel
		{300, 400, [2]int{128, 128}, true, false},
		{300, 400, [2]int{128, 128}, true, true},
		{257, 515, [2]int{1, 1}, true, false}, // more scales than a tile of lines may have
		{129, 500, [2]int{}, false, false},
		{17000, 3, [2]int{128, 128}, true, true}, // a line is longer than the least window
		{7, 35000, [2]int{1, 16}, true, false},
	} {
		t.Run(fmt.Sprint(test), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			var a, b []Tensor
			var gate, up, down []matrix
			for e := range 3 {
				make := func(proj string, rows, cols int) matrix {
					return randomMatrix(rng, fmt.Sprintf("%s%d.%s.weight", prefix, e, proj), rows, cols, test.block, test.fp8)
				}
				down = append(down, make("down_proj", test.hidden, test.inner))
				gate = append(gate, make("gate_proj", test.inner, test.hidden))
				up = append(up, make("up_proj", test.inner, test.hidden))
				a = append(append(a, down[e].tensors...), up[e].tensors...)
				if test.apart {
					b = append(b, gate[e].tensors...)
				} else {
					a = append(a, gate[e].tensors...)
				}
			}
			c := &Checkpoint{Shards: map[string][]Tensor{"model-1.safetensors": a}, Files: map[string]string{"config.json": fmt.Sprintf(
				`{"model_type":"llama4","text_config":{"num_hidden_layers":1,"num_local_experts":3},"quantization_config":{"weight_block_size":[%d,%d]}}`,
				max(1, test.block[0]), max(1, test.block[1]))}}
			if test.apart {
				c.Shards["model-2.safetensors"] = b
			}
			c.Index(nil)
			i, h := test.inner, test.hidden
			check(t, c, plan.Options{}, map[string]func(int) uint16{
				prefix + "gate_up_proj": func(k int) uint16 { // [E, H, 2I]
					e, r, col := k/(2*i*h), k/(2*i)%h, k%(2*i)
					if col < i {
						return gate[e].value(col, r)
					}
					return up[e].value(col-i, r)
				},
				// [E, I, H].
				prefix + "down_proj": func(k int) uint16 { return down[k/(i*h)].value(k%h, k/h%i) },
			})
		})
	}
}

func TestNativeFormSplitsAndShifts(t *testing.T) {
	const layer = "model.layers.0."
	heads, nope, value, rank := 3, 20, 12, 130
	rng := rand.New(rand.NewPCG(3, 4))
	for _, fp8 := range []bool{true, false} {
		kv := randomMatrix(rng, layer+"self_attn.kv_b_proj.weight", heads*(nope+value), rank, [2]int{16, 64}, fp8)
		mlp := randomMatrix(rng, layer+"mlp.gate_proj.weight", 4, 4, [2]int{16, 64}, false)
		c := &Checkpoint{Shards: map[string][]Tensor{"model.safetensors": append(kv.tensors, mlp.tensors...)}, Files: map[string]string{
			"config.json": `{"model_type":"deepseek_v3","num_hidden_layers":1,"n_routed_experts":2,"num_attention_heads":3,"qk_nope_head_dim":20,"v_head_dim":12,
				"quantization_config":{"weight_block_size":[16,64]}}`}}
		check(t, c, plan.Options{Layout: family.MLX}, map[string]func(int) uint16{
			layer + "mlp.gate_proj.weight": func(k int) uint16 { return mlp.value(k/4, k%4) },
			layer + "self_attn.embed_q.weight": func(k int) uint16 { // [heads, rank, nope]
				return kv.value(k/(rank*nope)*(nope+value)+k%nope, k/nope%rank)
			},
			layer + "self_attn.unembed_out.weight": func(k int) uint16 { // [heads, value, rank]
				return kv.value(k/(rank*value)*(nope+value)+nope+k/rank%value, k%rank)
			},
		})
	}
	norm := Tensor{Name: layer + "input_layernorm.weight", DType: "BF16", Shape: []int{5}, Data: make([]byte, 10)}
	gated := Tensor{Name: layer + "linear_attn.norm.weight", DType: "BF16", Shape: []int{5}, Data: make([]byte, 10)}
	conv := randomMatrix(rng, layer+"linear_attn.conv1d.weight", 6, 4, [2]int{}, false)
	conv.tensors[0].Shape = []int{6, 1, 4}
	mlp := randomMatrix(rng, layer+"mlp.gate_proj.weight", 4, 4, [2]int{}, false)
	for i := range 5 {
		binary.LittleEndian.PutUint16(norm.Data[2*i:], uint16(math.Float32bits(float32(i)/4)>>16))
		binary.LittleEndian.PutUint16(gated.Data[2*i:], uint16(math.Float32bits(float32(i)/4)>>16))
	}
	c := &Checkpoint{Shards: map[string][]Tensor{"model.safetensors": {norm, gated, conv.tensors[0], mlp.tensors[0]}}, Files: map[string]string{
		"config.json": `{"model_type":"qwen3_next","num_hidden_layers":1,"num_experts":2}`}}
	check(t, c, plan.Options{Layout: family.MLX}, map[string]func(int) uint16{
		norm.Name:                      func(k int) uint16 { return uint16(math.Float32bits(float32(k)/4+1) >> 16) },
		gated.Name:                     func(k int) uint16 { return uint16(math.Float32bits(float32(k)/4) >> 16) },
		conv.tensors[0].Name:           func(k int) uint16 { return conv.value(k/4, k%4) },
		layer + "mlp.gate_proj.weight": func(k int) uint16 { return mlp.value(k/4, k%4) },
	})
}

func TestTransposedPiecesLeaveInLongWrites(t *testing.T) {
	const prefix = "language_model.model.layers.0.feed_forward.experts."
	rng := rand.New(rand.NewPCG(1, 2))
	var list []Tensor
	for e := range 4 {
		for _, x := range []struct {
			proj       string
			rows, cols int
		}{{"down_proj", 500, 200}, {"gate_proj", 200, 500}, {"up_proj", 200, 500}} {
			list = append(list, randomMatrix(rng, fmt.Sprintf("%s%d.%s.weight", prefix, e, x.proj), x.rows, x.cols, [2]int{1, 1 << 20}, true).tensors...)
		}
	}
	c := &Checkpoint{Shards: map[string][]Tensor{"model.safetensors": list}, Files: map[string]string{
		"config.json": `{"model_type":"llama4","text_config":{"num_hidden_layers":1,"num_local_experts":4},"quantization_config":{"weight_block_size":[1,1048576]}}`}}
	p, _ := enginetest.Open(t, c, plan.Options{})
	windows := slices.Collect(engine.NewSchedule(p, 512<<20).Windows())
	require.Len(t, windows, 1)
	assert.Len(t, windows[0].Writes, 1, "two tensors side by side")
	var writes int
	for w := range engine.NewSchedule(p, 4<<20).Windows() { // tiles of whole lines
		writes += len(w.Writes)
	}
	assert.Less(t, writes, 40)
}
