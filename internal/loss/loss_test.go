package loss_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast"
	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
	"github.com/metalcast/metalcast/internal/loss"
	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/metalcast/metalcast/internal/pass"
	"github.com/metalcast/metalcast/internal/synth"
)

// The naive computation: whole matrices, in float64, from files that are read naively. It knows
// MLX's formats only by their definitions.

// naiveSource returns the weights that an MLX-native name stands for.
func naiveSource(t *testing.T, src map[string]Tensor, config map[string]any, name string) []float64 {
	if before, proj, ok := strings.Cut(name, ".switch_mlp."); ok {
		var all []float64
		for e := 0; ; e++ {
			one := fmt.Sprintf("%s.experts.%d.%s", before, e, proj)
			if _, ok := src[one]; !ok {
				return all
			}
			all = append(all, naiveMatrix(t, src, one)...)
		}
	}
	stem, isQ := strings.CutSuffix(name, ".embed_q.weight")
	stem, isOut := strings.CutSuffix(stem, ".unembed_out.weight")
	if !isQ && !isOut {
		return naiveMatrix(t, src, name)
	}
	setting := func(key string) int { return int(config[key].(float64)) }
	heads, nope, value := setting("num_attention_heads"), setting("qk_nope_head_dim"), setting("v_head_dim")
	w := naiveMatrix(t, src, stem+".kv_b_proj.weight")
	rank := len(w) / heads / (nope + value)
	var all []float64
	for h := range heads {
		head := w[h*(nope+value)*rank:]
		if isOut {
			all = append(all, head[nope*rank:(nope+value)*rank]...)
			continue
		}
		for r := range rank {
			for k := range nope {
				all = append(all, head[k*rank+r])
			}
		}
	}
	return all
}

func naiveMatrix(t *testing.T, src map[string]Tensor, name string) []float64 {
	w, ok := src[name]
	require.True(t, ok, name)
	all := make([]float64, w.Bytes()/map[string]int{"F8_E4M3": 1, "BF16": 2, "F32": 4}[w.DType])
	for i := range all {
		if w.DType != "F8_E4M3" {
			all[i] = naiveFloat(w, i)
			continue
		}
		s := src[name+"_scale_inv"]
		row, col := i/w.Shape[1], i%w.Shape[1]
		all[i] = float64(float32(E4M3(w.Data[i]) * naiveFloat(s, row/128*s.Shape[1]+col/128)))
	}
	return all
}

func naiveFloat(t Tensor, i int) float64 {
	switch t.DType {
	case "BF16":
		return WidenBF16(binary.LittleEndian.Uint16(t.Data[2*i:]))
	case "F16":
		b := binary.LittleEndian.Uint16(t.Data[2*i:])
		sign := 1 - 2*float64(b>>15)
		if e, m := int(b>>10&31), float64(b&1023); e > 0 {
			return sign * math.Ldexp(1024+m, e-25)
		} else {
			return sign * math.Ldexp(m, -24)
		}
	}
	return float64(math.Float32frombits(binary.LittleEndian.Uint32(t.Data[4*i:])))
}

// naiveQuantized returns the weights that a quantized module stands for: affine q*scale + bias in
// float32, otherwise element times scale.
func naiveQuantized(dst map[string]Tensor, name, mode string, bits, group int) []float64 {
	stem := strings.TrimSuffix(name, ".weight")
	codes, scales, biases := dst[name], dst[stem+".scales"], dst[stem+".biases"]
	all := make([]float64, len(codes.Data)*8/bits)
	for i := range all {
		q := 0
		for k := range bits {
			at := i*bits + k
			q |= int(codes.Data[at/8]>>(at%8)&1) << k
		}
		fp4 := []float64{0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6}
		switch s := i / group; mode {
		case "affine":
			all[i] = float64(float32(float64(q)*naiveFloat(scales, s) + naiveFloat(biases, s)))
		case "mxfp4":
			all[i] = math.Ldexp(fp4[q], int(scales.Data[s])-127)
		case "mxfp8":
			all[i] = math.Ldexp(E4M3(byte(q)), int(scales.Data[s])-127)
		case "nvfp4":
			all[i] = fp4[q] * E4M3(scales.Data[s])
		}
	}
	return all
}

// naiveError compares them: relative RMSE, the first of the worst groups and its error, and the
// number of zeroed groups.
func naiveError(source, quantized []float64, group int) (rmse, worst float64, at, zeroed int) {
	var e2, w2 float64
	for g := 0; g < len(source); g += group {
		var ge, gw, gq float64
		for i := g; i < g+group; i++ {
			ge += (quantized[i] - source[i]) * (quantized[i] - source[i])
			gw += source[i] * source[i]
			gq += math.Abs(quantized[i])
		}
		if gw > 0 && gq == 0 {
			zeroed++
		}
		if r := math.Sqrt(ge / gw); ge > 0 && r > worst {
			worst, at = r, g
		}
		e2, w2 = e2+ge, w2+gw
	}
	return math.Sqrt(e2 / w2), worst, at, zeroed
}

// options returns those of a measurement within so much memory; 0 is the default.
func options(memory int64) loss.Options {
	return loss.Options{Tool: "a test", Pass: pass.Options{MaxMemory: memory}}
}

func TestLossEqualsANaiveComputation(t *testing.T) {
	needtest.Alone(t)
	for i, test := range []struct {
		family string
		dtype  string
		q      metalcast.Quantize
	}{
		{"qwen3_moe", "", metalcast.Quantize{}},
		{"qwen3_moe", "float16", metalcast.Quantize{Bits: 3, GroupSize: 32}},
		{"qwen3_moe", "float32", metalcast.Quantize{Bits: 6, GroupSize: 128, Overrides: []string{"*.v_proj=5:32", "*.k_proj=::mxfp8"}}},
		{"deepseek_v3", "", metalcast.Quantize{Bits: 2}},
		{"qwen3_moe", "", metalcast.Quantize{Mode: "mxfp4", Profile: "cpu"}},
		{"deepseek_v3", "", metalcast.Quantize{Bits: 8}},
		{"deepseek_v3", "", metalcast.Quantize{Mode: "nvfp4"}},
		{"deepseek_v3", "", metalcast.Quantize{Mode: "mxfp8"}},
	} {
		if i%4 > 0 && i != 6 && !needtest.Long() { // both families and three modes are left
			continue
		}
		t.Run(fmt.Sprintf("%s %s %v", test.family, test.dtype, test.q), func(t *testing.T) {
			src, config := Synthetic(t, synth.Options{Family: test.family, Layers: 2, Seed: 3})
			dst := filepath.Join(t.TempDir(), "dst")
			_, err := metalcast.Convert(t.Context(), src, dst, metalcast.Options{DType: test.dtype, Quantize: &test.q})
			require.NoError(t, err)
			in, out := DecodeDir(t, src), DecodeDir(t, dst)
			near := 1e-9
			if test.dtype == "float32" { // whose products are rounded
				near = 1e-5
			}
			for _, memory := range []int64{34 << 20, 0}[:needtest.Rounds(1, 2)] {
				r, err := loss.Measure(t.Context(), src, dst, options(memory))
				require.NoError(t, err)
				scales := 0
				for name := range out {
					if strings.HasSuffix(name, ".scales") {
						scales++
					}
				}
				require.Len(t, r.Tensors, scales, "every quantized tensor is measured")
				var worst float64
				var weights, zeroed int64
				for _, e := range r.Tensors {
					mode, numbers, _ := strings.Cut(e.Format, " ")
					bitsText, groupText, _ := strings.Cut(numbers, "/")
					bits, _ := strconv.Atoi(bitsText)
					group, _ := strconv.Atoi(groupText)
					source := naiveSource(t, in, config, e.Name)
					rmse, most, at, zeros := naiveError(source, naiveQuantized(out, e.Name, mode, bits, group), group)
					assert.InEpsilon(t, rmse, float64(e.RelativeRMSE), near, e.Name)
					assert.InEpsilon(t, most, float64(e.MaxGroupError), near, e.Name)
					assert.EqualValues(t, zeros, e.ZeroedGroups, e.Name)
					assert.EqualValues(t, len(source), e.Weights)
					assert.EqualValues(t, len(source)/group, e.Groups)
					flat := int64(0)
					for i, n := range e.Shape {
						flat = flat*n + e.Worst[0].Index[i]
					}
					assert.EqualValues(t, at, flat, "%s: the worst group", e.Name)
					worst = max(worst, most)
					weights += e.Weights
					zeroed += e.ZeroedGroups
				}
				assert.InEpsilon(t, worst, float64(r.Total.MaxGroupError), near)
				assert.Equal(t, [2]int64{weights, zeroed}, [2]int64{r.Total.Weights, r.Total.ZeroedGroups})
			}
		})
	}
}

// The totals are those of all weights together, not means of means.
func TestLossSumsUp(t *testing.T) {
	needtest.Alone(t)
	src, config := Synthetic(t, synth.Options{Family: "qwen3_moe", Layers: 2})
	dst := filepath.Join(t.TempDir(), "dst")
	_, err := metalcast.Convert(t.Context(), src, dst, metalcast.Options{Quantize: &metalcast.Quantize{Predicate: "mixed_2_6"}})
	require.NoError(t, err)
	r, err := loss.Measure(t.Context(), src, dst, options(0))
	require.NoError(t, err)
	in := DecodeDir(t, src)
	var e2, w2 float64
	kinds := map[string][2]float64{}
	for _, e := range r.Tensors {
		var s float64
		for _, x := range naiveSource(t, in, config, e.Name) {
			s += x * x
		}
		d := float64(e.RelativeRMSE) * float64(e.RelativeRMSE) * s
		kinds[e.Module] = [2]float64{kinds[e.Module][0] + d, kinds[e.Module][1] + s}
		e2, w2 = e2+d, w2+s
	}
	assert.InEpsilon(t, math.Sqrt(e2/w2), float64(r.Total.RelativeRMSE), 1e-9)
	require.Len(t, r.Modules, len(kinds))
	for i, k := range r.Modules {
		assert.InEpsilon(t, math.Sqrt(kinds[k.Module][0]/kinds[k.Module][1]), float64(k.RelativeRMSE), 1e-9)
		assert.True(t, i == 0 || k.RelativeRMSE <= r.Modules[i-1].RelativeRMSE)
	}
	for i := range r.Tensors[1:] {
		assert.LessOrEqual(t, r.Tensors[i+1].RelativeRMSE, r.Tensors[i].RelativeRMSE)
	}
	layers := map[string]int{}
	for _, e := range r.Tensors {
		layers[e.Module] += 1 + e.Layer
	}
	assert.Equal(t, map[string]int{ // both layers, 0 and 1; lm_head is in none
		"self_attn.q_proj": 3, "self_attn.k_proj": 3, "self_attn.v_proj": 3, "self_attn.o_proj": 3, "mlp.gate": 3,
		"mlp.switch_mlp.gate_proj": 3, "mlp.switch_mlp.up_proj": 3, "mlp.switch_mlp.down_proj": 3, "lm_head": 0, "embed_tokens": 0,
	}, layers)
	for _, k := range r.Modules {
		first := slices.IndexFunc(r.Tensors, func(e loss.Tensor) bool { return e.Module == k.Module })
		assert.Equal(t, r.Tensors[first].Name, k.WorstTensor)
		assert.Equal(t, r.Tensors[first].RelativeRMSE, k.WorstRMSE)
		if k.Module == "mlp.switch_mlp.down_proj" {
			assert.Equal(t, []string{"affine 2/64", "affine 6/64"}, k.Formats)
		}
	}
	assert.Equal(t, len(DecodeDir(t, dst))-3*len(r.Tensors), r.Others)

	var page strings.Builder
	require.NoError(t, r.WriteHTML(&page))
	require.NoError(t, xml.Unmarshal([]byte(page.String()), new(struct{})), "well-formed")
	for _, e := range r.Tensors { // in the map, and in the table
		assert.Contains(t, page.String(), fmt.Sprintf("<title>%s: %s, relative RMSE %s, worst group %s", e.Name, e.Format, e.RelativeRMSE, e.MaxGroupError))
		assert.Contains(t, page.String(), fmt.Sprintf(`<th scope="row">%s</th><td>%s</td><td>%s</td>`, e.Name, e.Format, e.Worst[0].Where))
	}
}

// spoil changes bytes of a tensor of a checkpoint's one shard.
func spoil(t *testing.T, dir, name string, at int, data ...byte) {
	path := filepath.Join(dir, "model.safetensors")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	n := binary.LittleEndian.Uint64(b)
	var header map[string]struct {
		Offsets [2]int `json:"data_offsets"`
	}
	text := strings.Replace(string(b[8:8+n]), `"__metadata__":{"format":"mlx"}`, `"__metadata__":{}`, 1)
	require.NoError(t, json.Unmarshal([]byte(text), &header))
	require.Contains(t, header, name)
	copy(b[8+int(n)+header[name].Offsets[0]+at:], data)
	require.NoError(t, os.WriteFile(path, b, 0o644))
}

// poisonable is a checkpoint of four experts, quantized to 4 bits in groups of 64, without its
// record: anyone may have made it.
func poisonable(t *testing.T) (c *Checkpoint, src, dst string) {
	c = RandomMoe(4, 128, 64, 1)
	src, dst = c.Write(t), filepath.Join(t.TempDir(), "dst")
	_, err := metalcast.Convert(t.Context(), src, dst, metalcast.Options{Quantize: &metalcast.Quantize{}})
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(dst, "metalcast.json")))
	return c, src, dst
}

const upProj = "language_model.model.layers.0.mlp.switch_mlp.up_proj"

func TestLossFindsAPoisonedGroup(t *testing.T) {
	_, src, dst := poisonable(t)
	before, err := loss.Measure(t.Context(), src, dst, options(0))
	require.NoError(t, err)
	assert.Zero(t, before.Total.ZeroedGroups)
	const group = (2*64+5)*2 + 1                         // expert 2, row 5, the second of two groups
	spoil(t, dst, upProj+".scales", 2*group, 0x00, 0x43) // 128
	spoil(t, dst, upProj+".scales", 0, 0, 0)             // a group of zeros
	spoil(t, dst, upProj+".biases", 0, 0, 0)
	r, err := loss.Measure(t.Context(), src, dst, options(0))
	require.NoError(t, err)
	worst := r.Tensors[0]
	assert.Equal(t, upProj+".weight", worst.Name)
	assert.Equal(t, []int64{2, 5, 64}, worst.Worst[0].Index)
	assert.Equal(t, "expert 2, row 5, columns 64-127", worst.Worst[0].Where)
	assert.Equal(t, worst.MaxGroupError, worst.Worst[0].RelativeError)
	assert.InEpsilon(t, float64(worst.Worst[0].RelativeError), worst.Worst[0].RMSE/worst.Worst[0].RMS, 1e-9)
	assert.Greater(t, float64(worst.MaxGroupError), 100*float64(before.Tensors[0].MaxGroupError))
	assert.Equal(t, []int64{0, 0, 0}, worst.Worst[1].Index)
	assert.EqualValues(t, 1, worst.Worst[1].RelativeError)
	assert.EqualValues(t, 1, worst.ZeroedGroups)
	assert.EqualValues(t, 1, r.Total.ZeroedGroups)
	assert.Len(t, worst.Worst, 5)

	spoil(t, dst, upProj+".scales", 2*group, 0xC0, 0x7F) // NaN
	_, err = loss.Measure(t.Context(), src, dst, options(0))
	require.ErrorIs(t, err, metalcast.ErrCorrupt)
	assert.EqualError(t, err, dst+`: tensor "`+upProj+`.weight", expert 2, row 5, columns 64-127: NaN or infinite, which the source is not`)
}

func TestLossOfSourcesThatAreZeroOrNaN(t *testing.T) {
	c, _, dst := poisonable(t)
	w := c.Find("model.language_model.layers.0.mlp.experts.1.up_proj.weight")
	clear(w.Data[3*128 : 3*128+64]) // the first group of row 3, which is not zero in dst
	r, err := loss.Measure(t.Context(), c.Write(t), dst, options(0))
	require.NoError(t, err)
	assert.True(t, math.IsInf(float64(r.Total.MaxGroupError), 1))
	assert.Equal(t, "infinite", r.Total.MaxGroupError.String())
	assert.False(t, math.IsInf(float64(r.Total.RelativeRMSE), 1))
	text, err := json.Marshal(r)
	require.NoError(t, err)
	assert.Contains(t, string(text), `"where":"expert 1, row 3, columns 0-63","relative_error":null`)

	w.Data[70] = 0x7F
	_, err = loss.Measure(t.Context(), c.Write(t), dst, options(0))
	require.ErrorIs(t, err, metalcast.ErrCorrupt)
	assert.EqualError(t, err, `tensor "`+upProj+`.weight", expert 1, row 0, columns 64-127: NaN or infinite in the source`)
}

func TestLossRefuses(t *testing.T) {
	_, src, dst := poisonable(t)
	plain := filepath.Join(t.TempDir(), "plain")
	_, err := metalcast.Convert(t.Context(), src, plain, metalcast.Options{})
	require.NoError(t, err)
	config := func(from, to string) string {
		dir := filepath.Join(t.TempDir(), "dst")
		require.NoError(t, os.CopyFS(dir, os.DirFS(dst)))
		path := filepath.Join(dir, "config.json")
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Contains(t, string(text), from)
		require.NoError(t, os.WriteFile(path, []byte(strings.ReplaceAll(string(text), from, to)), 0o644))
		return dir
	}
	for name, test := range map[string]struct {
		src, dst string
		o        loss.Options
		kind     error
		want     string
	}{
		"not quantized":       {src, plain, options(0), metalcast.ErrUnsupported, "plain: is not quantized: no weight has scales beside it"},
		"nothing":             {src, dst + "x", options(0), metalcast.ErrIncomplete, "dstx: no such directory"},
		"memory":              {src, dst, options(1 << 20), metalcast.ErrNoSpace, "of memory are too little"},
		"other shapes":        {RandomMoe(4, 128, 128, 1).Write(t), dst, options(0), metalcast.ErrMismatch, "is quantized from [4 128 64], the source's is F32[4 128 128]"},
		"no format":           {src, config(`"bits"`, `"bots"`), options(0), metalcast.ErrCorrupt, "has scales, and config.json does not say how it is quantized"},
		"other bits":          {src, config(`"bits": 4`, `"bits": 3`), options(0), metalcast.ErrCorrupt, "not what affine 3/64 makes of a matrix"},
		"another group size":  {src, config(`"group_size": 64`, `"group_size": 32`), options(0), metalcast.ErrCorrupt, "not what affine 4/32 makes of a matrix"},
		"bits that are none":  {src, config(`"bits": 4`, `"bits": 7`), options(0), metalcast.ErrCorrupt, "config.json: affine: 7 bits, MLX has"},
		"a mode that is none": {src, config(`"affine"`, `"mxint4"`), options(0), metalcast.ErrUnsupported, `config.json calls its mode "mxint4"`},
		"another mode":        {src, config(`"affine"`, `"nvfp4"`), options(0), metalcast.ErrCorrupt, "config.json: nvfp4: group size 64, MLX has 16"},
	} {
		_, err := loss.Measure(t.Context(), test.src, test.dst, test.o)
		require.ErrorIs(t, err, test.kind, name)
		assert.ErrorContains(t, err, test.want, name)
	}

	// A source that has no MLX-native form, and one that is quantized itself.
	foreign := RandomMoe(4, 128, 64, 1)
	foreign.Files["config.json"] = strings.Replace(foreign.Files["config.json"], `"qwen3_5_moe"`, `"new_model"`, 1)
	_, err = loss.Measure(t.Context(), foreign.Write(t), dst, options(0))
	require.ErrorIs(t, err, metalcast.ErrUnsupported)
	assert.ErrorContains(t, err, "src: --layout mlx: the model type is not one that metalcast knows")
	assert.Contains(t, metalcast.Hint(err), "the error is measured in MLX-native form")
	_, err = loss.Measure(t.Context(), dst, dst, options(0))
	require.ErrorIs(t, err, metalcast.ErrUnsupported)
	assert.ErrorContains(t, err, "its weights cannot be converted without loss")

	// A module that the source does not have.
	fewer := Moe(0)
	fewer.Shards["model.safetensors"] = append(RandomMoe(4, 128, 64, 1).Shards["model.safetensors"], Tensor{Name: "lm_head.weight", DType: "BF16", Shape: []int{2, 128}})
	fewer.Files["config.json"] = MoeConfig(4)
	dst = filepath.Join(t.TempDir(), "dst")
	_, err = metalcast.Convert(t.Context(), fewer.Write(t), dst, metalcast.Options{Quantize: &metalcast.Quantize{}})
	require.NoError(t, err)
	_, err = loss.Measure(t.Context(), src, dst, options(0))
	require.ErrorIs(t, err, metalcast.ErrMismatch)
	assert.ErrorContains(t, err, `lm_head.weight": is quantized, and nothing in the source becomes it`)
	var warnings []string
	_, err = loss.Measure(t.Context(), src, dst, loss.Options{Pass: pass.Options{Warn: func(s string) { warnings = append(warnings, s) }}})
	require.Error(t, err)
	assert.Equal(t, []string{filepath.Join(dst, "metalcast.json") + ": speaks of other shards than this source's"}, warnings)
}

func TestLossEndsWithItsContext(t *testing.T) {
	_, src, dst := poisonable(t)
	ctx, cancel := context.WithCancel(t.Context())
	phases := map[string]bool{}
	_, err := loss.Measure(ctx, src, dst, loss.Options{Pass: pass.Options{Progress: func(phase string, done, total int64) {
		phases[phase] = true
		cancel()
	}}})
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, map[string]bool{"measuring": true}, phases)
}

// The error is measured against what the scales mean.
func TestScalesOfWhatIsMeasured(t *testing.T) {
	sound, _ := Synthetic(t, synth.Options{Family: "qwen3_moe", Layers: 1, Seed: 9})
	bad, dst := filepath.Join(t.TempDir(), "bad"), filepath.Join(t.TempDir(), "dst")
	require.NoError(t, os.CopyFS(bad, os.DirFS(sound)))
	RewriteScales(t, sound, func(_ string, e int) int { return e })
	RewriteScales(t, bad, func(_ string, e int) int { return 254 - e })
	_, err := metalcast.Convert(t.Context(), bad, dst, metalcast.Options{Quantize: &metalcast.Quantize{}, Scales: metalcast.InvertScales})
	require.NoError(t, err)
	plain := options(0)
	plain.Scales = new(string)
	want, err := loss.Measure(t.Context(), sound, dst, plain)
	require.NoError(t, err)
	got, err := loss.Measure(t.Context(), bad, dst, options(0))
	require.NoError(t, err)
	assert.Equal(t, want.Tensors, got.Tensors)
	_, err = loss.Measure(t.Context(), bad, dst, plain)
	require.ErrorContains(t, err, "seems to hold reciprocals of scales")
}
