package engine_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/engine/enginetest"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/mlxquant"
	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/metalcast/metalcast/internal/plan"
)

func TestPackedRowsLandOnceForAnyMemory(t *testing.T) {
	needtest.Alone(t)
	const layer = "model.layers.0."
	heads, nope, value, rank, inner, hidden := 2, 64, 128, 1088, 320, 256
	affine := mlxquant.Affine.Default()
	for _, f := range []mlxquant.Format{affine, {Mode: mlxquant.Affine, Bits: 3, GroupSize: 32}, mlxquant.MXFP8.Default(), mlxquant.NVFP4.Default()} {
		for _, fp8 := range []bool{true, false} {
			if !fp8 && f != affine && !needtest.Long() { // one format shows how plain weights lie
				continue
			}
			t.Run(fmt.Sprint(f, fp8), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(1, 2))
				var list []Tensor
				matrices := map[string]matrix{}
				for _, x := range []struct {
					name       string
					rows, cols int
				}{
					{"self_attn.kv_b_proj.weight", heads * (nope + value), rank},
					{"mlp.experts.0.gate_proj.weight", inner, hidden}, {"mlp.experts.0.up_proj.weight", inner, hidden}, {"mlp.experts.0.down_proj.weight", hidden, inner},
					{"mlp.experts.1.gate_proj.weight", inner, hidden}, {"mlp.experts.1.up_proj.weight", inner, hidden}, {"mlp.experts.1.down_proj.weight", hidden, inner},
					{"mlp.shared_experts.up_proj.weight", 2, 66_560}, // rows longer than the least window
				} {
					m := randomMatrix(rng, layer+x.name, x.rows, x.cols, [2]int{24, 48}, fp8)
					matrices[x.name] = m
					list = append(list, m.tensors...)
				}
				c := &Checkpoint{Shards: map[string][]Tensor{"model.safetensors": list}, Files: map[string]string{
					"config.json": `{"model_type":"deepseek_v3","num_hidden_layers":1,"n_routed_experts":2,"num_attention_heads":2,"qk_nope_head_dim":64,"v_head_dim":128,
						"quantization_config":{"weight_block_size":[24,48]}}`}}
				stacks := map[string][]uint16{}
				for _, proj := range []string{"gate_proj", "up_proj", "down_proj"} {
					for e := range 2 {
						m := matrices[fmt.Sprintf("mlp.experts.%d.%s.weight", e, proj)]
						for i := range m.rows * m.cols {
							stacks["mlp.switch_mlp."+proj] = append(stacks["mlp.switch_mlp."+proj], m.value(i/m.cols, i%m.cols))
						}
					}
				}
				up := matrices["mlp.shared_experts.up_proj.weight"]
				for i := range up.rows * up.cols {
					stacks["mlp.shared_experts.up_proj"] = append(stacks["mlp.shared_experts.up_proj"], up.value(i/up.cols, i%up.cols))
				}
				kv := matrices["self_attn.kv_b_proj.weight"]
				for h := range heads {
					for r := range rank {
						for k := range nope {
							stacks["self_attn.embed_q"] = append(stacks["self_attn.embed_q"], kv.value(h*(nope+value)+k, r))
						}
					}
					for k := range value {
						for r := range rank {
							stacks["self_attn.unembed_out"] = append(stacks["self_attn.unembed_out"], kv.value(h*(nope+value)+nope+k, r))
						}
					}
				}
				rows := map[string]int{
					"mlp.switch_mlp.gate_proj": 2 * inner, "mlp.switch_mlp.up_proj": 2 * inner, "mlp.switch_mlp.down_proj": 2 * hidden,
					"mlp.shared_experts.up_proj": 2, "self_attn.embed_q": heads * rank, "self_attn.unembed_out": heads * value,
				}
				p, src := enginetest.Open(t, c, plan.Options{ShardSize: 200 << 10, Quantize: &plan.Quantization{Format: f, Profile: mlxquant.CPU}})
				want := map[string][]byte{}
				for name, m := range stacks {
					want[layer+name+".weight"], want[layer+name+".scales"], want[layer+name+".biases"] = enginetest.Quantized(m, rows[name], f)
				}
				least := engine.MinMemory(p)
				for _, mem := range []int64{least, 512 << 20, least + least/2}[:needtest.Rounds(2, 3)] {
					s := engine.NewSchedule(p, mem)
					d := newDisk(p)
					result, err := runEngine(t, t.Context(), p, s, src, d, engine.Options{})
					require.NoError(t, err)
					for _, x := range p.Tensors {
						if times := d.times[x.Shard][x.Offset : x.Offset+x.Size]; bytes.Count(times, []byte{1}) != len(times) {
							t.Fatalf("%s: a byte is not written once", x.Name)
						}
						require.True(t, bytes.Equal(want[x.Name], d.shards[x.Shard][x.Offset:x.Offset+x.Size]), x.Name)
					}
					require.NoError(t, compare(t, p, s, src, d))
					if f.Mode == mlxquant.NVFP4 {
						assert.Positive(t, result.NVFP4.All)
					}
				}
			})
		}
	}
}

func TestWhatCannotBeQuantizedIsRefused(t *testing.T) {
	config := map[string]string{"config.json": `{"model_type":"qwen3","num_hidden_layers":1}`}
	o := plan.Options{Quantize: &plan.Quantization{Format: mlxquant.Affine.Default()}}
	w := Tensor{Name: "model.layers.0.mlp.up_proj.weight", DType: "F8_E4M3", Shape: []int{2, 64}, Data: make([]byte, 128)}
	w.Data[64+7] = 0x7F
	s := Tensor{Name: w.Name + "_scale_inv", DType: "F32", Shape: []int{1, 1}, Data: []byte{0, 0, 0x80, 0x3F}}
	p, src := enginetest.Open(t, &Checkpoint{Files: config, Shards: map[string][]Tensor{"model.safetensors": {w, s}}}, o)
	_, err := runEngine(t, t.Context(), p, engine.NewSchedule(p, 64<<20), src, newDisk(p), engine.Options{KeepNaN: true})
	require.ErrorIs(t, err, fault.ErrCorrupt)
	assert.Contains(t, err.Error(), `up_proj.weight": holds 1 values that are NaN or infinite and cannot be quantized, the first at row 1, column 7`)

	w.Data[64+7] = 0
	s.Data = []byte{0, 0, 0x80, 0x7F}
	p, src = enginetest.Open(t, &Checkpoint{Files: config, Shards: map[string][]Tensor{"model.safetensors": {w, s}}}, o)
	_, err = runEngine(t, t.Context(), p, engine.NewSchedule(p, 64<<20), src, newDisk(p), engine.Options{KeepNaN: true})
	require.ErrorIs(t, err, fault.ErrCorrupt)
	assert.Contains(t, err.Error(), `weight_scale_inv": holds a scale that is NaN or infinite, for the weight's row 0, column 0, which cannot be quantized`)
}
