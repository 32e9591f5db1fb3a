package plan_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/checkpoint"
	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/family"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/plan"
)

func planOf(t *testing.T, c *Checkpoint, o plan.Options) (*plan.Plan, error) {
	t.Helper()
	v, err := checkpoint.Open(t.Context(), c.Write(t))
	require.NoError(t, err)
	o.Tool = "metalcast test"
	return plan.New(v, o)
}

func names(p *plan.Plan) (list []string) {
	for _, x := range p.Tensors {
		list = append(list, x.Name)
	}
	return list
}

func text(t *testing.T, p *plan.Plan, name string) string {
	t.Helper()
	for _, x := range p.Texts {
		if x.Name == name {
			return string(x.Data)
		}
	}
	t.Fatalf("no %s", name)
	return ""
}

func TestStackedLayout(t *testing.T) {
	p, err := planOf(t, Moe(3), plan.Options{})
	require.NoError(t, err)
	const l = "model.language_model.layers.0.mlp.experts."
	require.Equal(t, []string{l + "down_proj", l + "gate_up_proj", "model.language_model.norm.weight"}, names(p))
	assert.Equal(t, []int64{3, 4, 2}, p.Tensors[0].Shape)
	assert.Equal(t, []int64{3, 4, 4}, p.Tensors[1].Shape)
	for _, q := range p.Pieces {
		name := q.Source.Name
		if !strings.HasPrefix(name, l) {
			continue
		}
		// gate_up_proj [E,2I,H]: gate rows first; every matrix here is 8 elements, 16 bytes in bf16.
		e := int64(name[len(l)] - '0')
		want := map[string]int64{"gate": e * 32, "up_p": e*32 + 16, "down": e * 16}[name[len(l)+2:len(l)+6]]
		assert.Equal(t, want, q.Out-p.Tensors[q.Target].Offset, name)
		assert.Equal(t, kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3, To: dtype.BF16, ScaleType: dtype.BF16, BlockRows: 128, BlockCols: 128}, q.Params)
	}
	require.Len(t, p.Shards, 1)
	assert.Equal(t, "model.safetensors", p.Shards[0].Name)
	assert.Zero(t, len(p.Shards[0].Header)%plan.Align)
}

func TestPerExpertLayoutKeepsNames(t *testing.T) {
	p, err := planOf(t, Moe(2), plan.Options{Layout: family.PerExpert})
	require.NoError(t, err)
	require.Len(t, p.Tensors, 7)
	assert.Contains(t, names(p), "model.language_model.layers.0.mlp.experts.1.down_proj.weight")
	assert.NotContains(t, names(p), "model.language_model.layers.0.mlp.experts.1.down_proj.weight_scale_inv")
}

func TestOrderInAShard(t *testing.T) {
	c := Moe(1)
	c.Shards["model.safetensors"] = append(c.Shards["model.safetensors"],
		Tensor{Name: "b10", DType: "F32", Shape: []int{3}}, Tensor{Name: "b9", DType: "F32", Shape: []int{3}}, Tensor{Name: "i", DType: "I64", Shape: []int{1}},
		Tensor{Name: "v.1.w", DType: "F32", Shape: []int{3}}, Tensor{Name: "v.01.w", DType: "F32", Shape: []int{3}}, // equal in natural order, so in byte order
		Tensor{Name: "w.01.w", DType: "F32", Shape: []int{3}}, Tensor{Name: "w.1.w", DType: "F32", Shape: []int{3}},
		Tensor{Name: "z", DType: "U8", Shape: []int{plan.Align}}, Tensor{Name: "u", DType: "U8", Shape: []int{3}}, Tensor{Name: "empty", DType: "F32", Shape: []int{0}},
	)
	p, err := planOf(t, c, plan.Options{})
	require.NoError(t, err)
	const e = "model.language_model.layers.0.mlp.experts."
	// Whole pages first (nothing is a whole page too), then wide types, then natural name order.
	assert.Equal(t, []string{"empty", "z", "i", "b9", "b10", "v.01.w", "v.1.w", "w.01.w", "w.1.w", e + "down_proj", e + "gate_up_proj", "model.language_model.norm.weight", "u"}, names(p))
	for _, x := range p.Tensors {
		assert.Zero(t, x.Offset%x.DType.Size(), x.Name)
	}
	assert.EqualValues(t, plan.Align, p.Tensors[1].Offset)
}

func TestShards(t *testing.T) {
	c := Moe(1)
	for _, n := range []string{"a2", "a10", "a1"} {
		c.Shards["model.safetensors"] = append(c.Shards["model.safetensors"], Tensor{Name: n, DType: "U8", Shape: []int{600}})
	}
	c.Shards["model.safetensors"] = append(c.Shards["model.safetensors"], Tensor{Name: "big", DType: "U8", Shape: []int{5000}})
	p, err := planOf(t, c, plan.Options{ShardSize: 1300})
	require.NoError(t, err)
	got := map[string][]string{}
	for _, x := range p.Tensors {
		got[p.Shards[x.Shard].Name] = append(got[p.Shards[x.Shard].Name], x.Name)
	}
	const e = "model.language_model.layers.0.mlp.experts."
	// In natural order a1, a2, a10, big, model...; an oversized tensor is alone.
	assert.Equal(t, map[string][]string{
		"model-00001-of-00004.safetensors": {"a1", "a2"},
		"model-00002-of-00004.safetensors": {"a10"},
		"model-00003-of-00004.safetensors": {"big"},
		"model-00004-of-00004.safetensors": {e + "down_proj", e + "gate_up_proj", "model.language_model.norm.weight"},
	}, got)
	assert.JSONEq(t, `{"metadata":{"total_parameters":6828,"total_size":6856},"weight_map":{
		"a1":"model-00001-of-00004.safetensors","a10":"model-00002-of-00004.safetensors","a2":"model-00001-of-00004.safetensors",
		"big":"model-00003-of-00004.safetensors","`+e+`down_proj":"model-00004-of-00004.safetensors",
		"`+e+`gate_up_proj":"model-00004-of-00004.safetensors","model.language_model.norm.weight":"model-00004-of-00004.safetensors"}}`,
		text(t, p, checkpoint.IndexName))
}

func TestDTypeCastsWhatFloats(t *testing.T) {
	c := Moe(1)
	c.Shards["model.safetensors"] = append(c.Shards["model.safetensors"],
		Tensor{Name: "x.A_log", DType: "F32", Shape: []int{2}}, Tensor{Name: "y.weight", DType: "F32", Shape: []int{2}}, Tensor{Name: "ids", DType: "I64", Shape: []int{2}})
	p, err := planOf(t, c, plan.Options{DType: dtype.F16})
	require.NoError(t, err)
	types := map[string]dtype.DType{}
	for _, x := range p.Tensors {
		types[x.Name[strings.LastIndexByte(x.Name, '.')+1:]+" of "+x.Name[:1]] = x.DType
	}
	assert.Equal(t, map[string]dtype.DType{
		"A_log of x": dtype.F32, "weight of y": dtype.F16, "ids of i": dtype.I64, // A_log stays F32
		"gate_up_proj of m": dtype.F16, "down_proj of m": dtype.F16, "weight of m": dtype.F16,
	}, types)
	assert.Contains(t, text(t, p, "config.json"), `"dtype": "float16"`)
}

func TestNothingToConvert(t *testing.T) {
	const e = "model.language_model.layers.0.mlp.experts."
	stacked := func() *Checkpoint {
		c := Moe(2)
		c.Remove("mlp.experts.")
		c.Shards["model.safetensors"] = append(c.Shards["model.safetensors"],
			Tensor{Name: e + "gate_up_proj", DType: "BF16", Shape: []int{2, 4, 4}}, Tensor{Name: e + "down_proj", DType: "BF16", Shape: []int{2, 4, 2}})
		return c
	}
	mlx := func(quantized bool) *Checkpoint {
		c := Moe(2)
		c.Remove("mlp.experts.")
		c.Shards["model.safetensors"] = append(c.Shards["model.safetensors"],
			Tensor{Name: "language_model.model.layers.0.mlp.switch_mlp.gate_proj.weight", DType: "BF16", Shape: []int{2, 2, 4}},
			Tensor{Name: "language_model.model.layers.0.mlp.switch_mlp.up_proj.weight", DType: "BF16", Shape: []int{2, 2, 4}},
			Tensor{Name: "language_model.model.layers.0.mlp.switch_mlp.down_proj.weight", DType: "BF16", Shape: []int{2, 4, 2}})
		if quantized {
			c.Files["config.json"] = strings.Replace(c.Files["config.json"], "{", `{"quantization":{"bits":4},`, 1)
		}
		return c
	}
	as := func(c *Checkpoint, modelType string) *Checkpoint {
		c.Files["config.json"] = strings.Replace(c.Files["config.json"], "qwen3_5_moe", modelType, 1)
		return c
	}
	plain := func() *Checkpoint {
		c := Moe(2)
		c.Remove("_scale_inv")
		for i := range c.Shards["model.safetensors"] {
			c.Shards["model.safetensors"][i].DType, c.Shards["model.safetensors"][i].Data = "BF16", nil
		}
		return c
	}
	with := func(list ...Tensor) *Checkpoint {
		return &Checkpoint{Files: map[string]string{"config.json": `{"model_type":"x"}`}, Shards: map[string][]Tensor{"model.safetensors": list}}
	}
	mx := []Tensor{{Name: "a.weight", DType: "F8_E4M3", Shape: []int{4, 96}}, {Name: "a.weight_scale_inv", DType: "U8", Shape: []int{4, 3}}}
	dense := Moe(1)
	dense.Remove("mlp.experts.")
	dense.Files["config.json"] = strings.Replace(dense.Files["config.json"], "qwen3_5_moe", "qwen3_5", 1)
	dense.Shards["model.safetensors"] = append(dense.Shards["model.safetensors"], Tensor{Name: "model.language_model.layers.0.x.weight", DType: "BF16", Shape: []int{1}})
	for name, test := range map[string]struct {
		c    *Checkpoint
		o    plan.Options
		kind error
		want string
	}{
		"stacked already":                {stacked(), plan.Options{}, fault.ErrNothingToDo, "no FP8, experts stacked: usable as it is"},
		"MLX-native":                     {mlx(false), plan.Options{}, fault.ErrNothingToDo, "MLX-native: usable as it is"},
		"MLX-native, quantized":          {mlx(true), plan.Options{}, fault.ErrNothingToDo, "MLX-native, quantized: usable as it is"},
		"dense bf16":                     {dense, plan.Options{}, fault.ErrNothingToDo, "no FP8: usable as it is"},
		"stacked, another type asked":    {stacked(), plan.Options{DType: dtype.F16}, nil, ""},
		"stacked, asked for per-expert":  {stacked(), plan.Options{Layout: family.PerExpert}, nil, ""},
		"stacked, asked for MLX":         {stacked(), plan.Options{Layout: family.MLX}, nil, ""},
		"MLX-native, asked for MLX":      {mlx(false), plan.Options{Layout: family.MLX}, fault.ErrNothingToDo, "MLX-native: usable as it is"},
		"stacked in a per-expert family": {as(stacked(), "qwen3_moe"), plan.Options{}, nil, ""},
		"apart in a per-expert family":   {as(plain(), "qwen3_moe"), plan.Options{}, fault.ErrNothingToDo, "no FP8, one tensor per expert: usable as it is"},
		"packed integers":                {with(Tensor{Name: "a.weight_packed", DType: "I32", Shape: []int{1}}), plan.Options{}, fault.ErrUnsupported, "1 tensor in packed integers (compressed-tensors pack-quantized): metalcast converts FP8"},
		"int4, another type":             {with(Tensor{Name: "a.weight_packed", DType: "I32", Shape: []int{1}}), plan.Options{DType: dtype.F16}, fault.ErrUnsupported, "1 tensor in packed integers (compressed-tensors pack-quantized): metalcast converts FP8"},
		"MXFP8, which no runtime loads":  {with(mx...), plan.Options{}, nil, ""},
		"MXFP8, asked for bf16":          {with(mx...), plan.Options{DType: dtype.BF16}, nil, ""},
		"FP8 and int4": {with(Tensor{Name: "a.weight_packed", DType: "I32", Shape: []int{1}}, Tensor{Name: "b.weight", DType: "F8_E4M3", Shape: []int{1, 1}},
			Tensor{Name: "b.weight_scale", DType: "F32", Shape: []int{}}), plan.Options{}, fault.ErrUnsupported, "1 tensor in packed integers (compressed-tensors pack-quantized) beside 1 in FP8"},
		"a stranger's, to quantize": {&Checkpoint{Files: map[string]string{"config.json": `{"model_type":"qwen3","quantization_config":{"quant_method":"vptq"}}`},
			Shards: map[string][]Tensor{"model.safetensors": {{Name: "model.embed_tokens.weight", DType: "BF16", Shape: []int{64, 64}}}}},
			plan.Options{Layout: family.MLX}, fault.ErrUnsupported, "quantized by vptq, which this version does not read"},
		"MLX-native, another type":   {mlx(false), plan.Options{DType: dtype.F16}, nil, ""},
		"MLX-native, another layout": {mlx(false), plan.Options{Layout: family.Stacked}, fault.ErrUnsupported, "cannot be brought into the stacked layout"},
		"quantized, another type":    {mlx(true), plan.Options{DType: dtype.F16}, fault.ErrUnsupported, "cannot be converted without loss"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := planOf(t, test.c, test.o)
			require.ErrorIs(t, err, test.kind)
			if test.kind != nil {
				assert.Contains(t, err.Error(), test.want)
			}
		})
	}
}

func TestPerExpertWithoutFP8IsStackedToo(t *testing.T) {
	for _, typ := range []string{"BF16", "F16"} {
		c := Moe(2)
		c.Remove("_scale_inv")
		for i := range c.Shards["model.safetensors"] {
			c.Shards["model.safetensors"][i].DType = typ
		}
		p, err := planOf(t, c, plan.Options{})
		require.NoError(t, err)
		require.Len(t, p.Tensors, 3)
		assert.Equal(t, typ, p.Tensors[0].DType.String())
		assert.Zero(t, p.Pieces[0].Params) // bytes only move
		want := map[string]string{"BF16": "bfloat16", "F16": "float16"}[typ]
		assert.Contains(t, text(t, p, "config.json"), `"dtype": "`+want+`"`)
		assert.Contains(t, text(t, p, "README.md"), "Converted from a checkpoint to "+want+",")
	}
}

func TestRefuses(t *testing.T) {
	const e = "model.language_model.layers.0.mlp.experts."
	for name, test := range map[string]struct {
		change func(c *Checkpoint)
		kind   error
		want   string
	}{
		"experts in both forms": {func(c *Checkpoint) {
			c.Shards["model.safetensors"] = append(c.Shards["model.safetensors"], Tensor{Name: e + "gate_up_proj", DType: "BF16", Shape: []int{2, 4, 4}})
		}, fault.ErrCorrupt, `experts.gate_up_proj": is in the source in two forms, stacked and apart: 128 bytes for 64`},
		"file names that fold together": {func(c *Checkpoint) { c.Files["readme.md"] = "x" }, fault.ErrCorrupt, "README.md: and readme.md would be one file"},
		"another quantization": {func(c *Checkpoint) {
			c.Files["config.json"] = `{"model_type":"x","quantization_config":{"quant_method":"gptq"}}`
			c.Shards["model.safetensors"] = []Tensor{{Name: "a.qweight", DType: "U32", Shape: []int{4}}}
		}, fault.ErrUnsupported, "1 tensor in GPTQ (quantized by gptq): metalcast converts FP8"},
		"FP8 under MLX-native names": {func(c *Checkpoint) {
			c.Shards["model.safetensors"] = append(c.Shards["model.safetensors"],
				Tensor{Name: "language_model.model.layers.0.mlp.switch_mlp.up_proj.weight", DType: "BF16", Shape: []int{2, 2, 4}})
		}, fault.ErrUnsupported, "MLX-native names and 6 FP8 tensors"},
	} {
		t.Run(name, func(t *testing.T) {
			c := Moe(2)
			test.change(c)
			_, err := planOf(t, c, plan.Options{})
			require.ErrorIs(t, err, test.kind)
			assert.ErrorContains(t, err, test.want)
		})
	}
}

func TestAnotherRunsLockIsNotCopied(t *testing.T) {
	c := Moe(1)
	c.Files["metalcast.lock"] = "x"
	p, err := planOf(t, c, plan.Options{})
	require.NoError(t, err)
	assert.Empty(t, p.Files)
}

func TestConfigKeepsEverythingElse(t *testing.T) {
	c := Moe(1)
	c.Files["config.json"] = `{
    "zeta": 1e-06,
    "limits": [0.0, Infinity, -Infinity],
    "\ud800": NaN,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    "torch_dtype": "float8_e4m3fn",
    "model_type": "qwen3_5_moe",
    "big": 12345678901234567890,
    "name": "caf\u00e9 <b>",
    "text_config": {
        "num_hidden_layers": 1,
        "quantization_config": {},
        "list": [],
        "dtype": "float8_e4m3fn",
        "num_experts": 1
    },
    "compression_config": null
}
`
	p, err := planOf(t, c, plan.Options{})
	require.NoError(t, err)
	assert.Equal(t, `{
    "zeta": 1e-06,
    "limits": [
        0.0,
        Infinity,
        -Infinity
    ],
    "\ud800": NaN,
    "torch_dtype": "bfloat16",
    "model_type": "qwen3_5_moe",
    "big": 12345678901234567890,
    "name": "caf\u00e9 <b>",
    "text_config": {
        "num_hidden_layers": 1,
        "list": [],
        "dtype": "bfloat16",
        "num_experts": 1
    }
}
`, text(t, p, "config.json"))
	p, err = planOf(t, c, plan.Options{Layout: "mlx"})
	require.NoError(t, err)
	assert.Contains(t, text(t, p, "config.json"), `    "limits": [
        0.0,
        Infinity,
        -Infinity
    ],
    "model_type"`)
	assert.Contains(t, text(t, p, "config.json"), `"\ud800": NaN`)
}

func TestConfigOnOneLineStaysOnOneLine(t *testing.T) {
	c := Moe(1)
	c.Files["config.json"] = `{"model_type":"qwen3_5_moe_text","num_experts":1,"quantization_config":{"quant_method":"fp8"},"num_hidden_layers":1}`
	p, err := planOf(t, c, plan.Options{})
	require.NoError(t, err)
	assert.Equal(t, `{"model_type":"qwen3_5_moe_text","num_experts":1,"num_hidden_layers":1,"dtype":"bfloat16"}`, text(t, p, "config.json"))
	assert.Contains(t, strings.Join(p.Notes, "\n"), `mlx-lm does not know model_type "qwen3_5_moe_text"; for mlx-lm set it to "qwen3_5_moe" in a copy of config.json`)
}

func TestCard(t *testing.T) {
	const note = "> Converted from `org/name` (revision abc) to bfloat16, stacked layout, by metalcast test."
	const below = " The text below is the source's.\n"
	for name, test := range map[string]struct{ in, want string }{
		"none":              {"", "---\nbase_model: org/name\n---\n" + note + "\n"},
		"no front matter":   {"# Title\n", "---\nbase_model: org/name\n---\n" + note + below + "\n# Title\n"},
		"with front matter": {"---\nlicense: mit # free\n---\n\n# Title\n", "---\nlicense: mit # free\nbase_model: org/name\n---\n" + note + below + "\n# Title\n"},
		"base model said":   {"---\nbase_model: org/bf16\ntags:\n- x\n---\n# Title\n", "---\nbase_model: org/name\ntags:\n- x\n---\n" + note + below + "\n# Title\n"},
		"base models said":  {"---\nbase_model:\n- org/bf16\ntags:\n- x\n---\n# Title\n", "---\nbase_model: org/name\ntags:\n- x\n---\n" + note + below + "\n# Title\n"},
		"CRLF":              {"---\r\nlicense: mit\r\ntags:\r\n- x\r\n---\r\n\r\n# Title\r\nText\r\n", "---\nlicense: mit\ntags:\n- x\nbase_model: org/name\n---\n" + note + below + "\n# Title\r\nText\r\n"},
		"CR":                {"---\rlicense: mit\r--- \n# Title", "---\nlicense: mit\nbase_model: org/name\n---\n" + note + below + "\n# Title"},
		"byte order mark":   {"\uFEFF---\nlicense: mit\n---\n# Title\n", "---\nlicense: mit\nbase_model: org/name\n---\n" + note + below + "\n# Title\n"},
		"only the mark":     {"\uFEFF# Title\n", "---\nbase_model: org/name\n---\n" + note + below + "\n# Title\n"},
		"spaces behind":     {"---\nlicense: mit\n--- \t\n# Title\n", "---\nlicense: mit\nbase_model: org/name\n---\n" + note + below + "\n# Title\n"},
		"empty lines first": {"\n \u2028\n---\nlicense: mit\n---\n# Title\n", "---\nlicense: mit\nbase_model: org/name\n---\n" + note + below + "\n# Title\n"},
		"no last newline":   {"---\nlicense: mit\n---", "---\nlicense: mit\nbase_model: org/name\n---\n" + note + "\n"},
		"four dashes":       {"---\nlicense: mit\n----\n# Title\n", "---\nbase_model: org/name\n---\n" + note + below + "\n---\nlicense: mit\n----\n# Title\n"},
		"spaces in front":   {"---\nlicense: mit\n ---\n# Title\n---\nx", "---\nlicense: mit\n ---\n# Title\nbase_model: org/name\n---\n" + note + below + "\nx"},
		"no mapping":        {"---\njust words\n---\n# Title\n", "---\njust words\n---\n" + note + below + "\n# Title\n"},
		"an earlier note":   {"---\nlicense: mit\n---\n> Converted from an FP8 checkpoint to bfloat16, per-expert layout, by metalcast 0.0.9. The text below is the source's.\n\n# Title\n", "---\nlicense: mit\nbase_model: org/name\n---\n" + note + below + "\n# Title\n"},
		"earlier notes":     {note + below + "\r\n" + note + "\n", "---\nbase_model: org/name\n---\n" + note + "\n"},
		"a note alike":      {"> Converted from GGUF to MLX, flat layout, by hand.\n", "---\nbase_model: org/name\n---\n" + note + below + "\n> Converted from GGUF to MLX, flat layout, by hand.\n"},
		"broken YAML":       {"---\na: [\n---\n# Title\n", "---\na: [\n---\n" + note + below + "\n# Title\n"},
	} {
		t.Run(name, func(t *testing.T) {
			c := Moe(1)
			if test.in != "" {
				c.Files["README.md"] = test.in
			}
			dir := c.Write(t)
			hub := filepath.Join(t.TempDir(), "models--org--name", "snapshots")
			require.NoError(t, os.MkdirAll(hub, 0o755))
			require.NoError(t, os.Rename(dir, filepath.Join(hub, "abc")))
			v, err := checkpoint.Open(t.Context(), filepath.Join(hub, "abc"))
			require.NoError(t, err)
			p, err := plan.New(v, plan.Options{Tool: "metalcast test"})
			require.NoError(t, err)
			assert.Equal(t, test.want, text(t, p, "README.md"))
		})
	}
}

func TestMTPIsDroppedOrKept(t *testing.T) {
	withHead := func() *Checkpoint {
		c := Moe(1)
		c.Files["config.json"] = strings.Replace(c.Files["config.json"], `"num_experts"`, `"mtp_num_hidden_layers": 1, "num_experts"`, 1)
		for _, x := range Moe(1).Shards["model.safetensors"] {
			if strings.Contains(x.Name, "experts") {
				x.Name = strings.Replace(x.Name, "model.language_model.", "mtp.", 1)
				c.Shards["model.safetensors"] = append(c.Shards["model.safetensors"], x)
			}
		}
		return c
	}
	p, err := planOf(t, withHead(), plan.Options{})
	require.NoError(t, err)
	assert.Len(t, p.Dropped, 6)
	assert.Contains(t, strings.Join(p.Notes, "\n"), "config.json still says mtp_num_hidden_layers 1")
	p, err = planOf(t, withHead(), plan.Options{Roles: family.Options{KeepMTP: true}})
	require.NoError(t, err)
	assert.Empty(t, p.Dropped)
	assert.Contains(t, names(p), "mtp.layers.0.mlp.experts.gate_up_proj")
	assert.Empty(t, p.Notes)
}

func TestUnknownFamilyIsDequantizedInPlace(t *testing.T) {
	c := Moe(2)
	c.Files["config.json"] = `{"model_type":"new","quantization_config":{"weight_block_size":[128,128]}}`
	p, err := planOf(t, c, plan.Options{})
	require.NoError(t, err)
	assert.Contains(t, names(p), "model.language_model.layers.0.mlp.experts.1.down_proj.weight")
	assert.Contains(t, strings.Join(p.Notes, "\n"), `model_type "new" is not a family that metalcast knows`)
}

func TestStacksAreTakenApart(t *testing.T) {
	const e = "model.language_model.layers.0.mlp.experts."
	c := Moe(2)
	c.Remove("mlp.experts.")
	c.Shards["model.safetensors"] = append(c.Shards["model.safetensors"],
		Tensor{Name: e + "gate_up_proj", DType: "F8_E4M3", Shape: []int{2, 4, 6}}, Tensor{Name: e + "gate_up_proj_scale_inv", DType: "F32", Shape: []int{2, 1, 1}},
		Tensor{Name: e + "down_proj", DType: "BF16", Shape: []int{2, 6, 2}})
	p, err := planOf(t, c, plan.Options{Layout: family.PerExpert})
	require.NoError(t, err)
	var list []string
	for _, x := range p.Tensors {
		if rest, ok := strings.CutPrefix(x.Name, e); ok {
			list = append(list, fmt.Sprint(rest, x.Shape))
		}
	}
	assert.ElementsMatch(t, []string{
		"0.gate_proj.weight[2 6]", "0.up_proj.weight[2 6]", "0.down_proj.weight[6 2]",
		"1.gate_proj.weight[2 6]", "1.up_proj.weight[2 6]", "1.down_proj.weight[6 2]",
	}, list)
	for _, q := range p.Pieces { // gate rows first, the second expert's behind the first's
		t1 := p.Tensors[q.Target]
		var m, up int64
		if strings.Contains(t1.Name, "experts.1.") {
			m = 1
		}
		if strings.HasSuffix(t1.Name, "up_proj.weight") {
			up = 1
		}
		if q.Scale != nil {
			assert.Equal(t, q.Source.Offset+m*24+up*12, q.Code, t1.Name)
			assert.Equal(t, []int64{m, 2 * up, 2, 6, q.Scale.Offset + 4*m}, []int64{q.Matrix, q.Row, q.Rows, q.Cols, q.Scales}, t1.Name)
		}
	}
	c.Find(e + "gate_up_proj").Shape = []int{2, 3, 8}
	_, err = planOf(t, c, plan.Options{Layout: family.PerExpert})
	require.ErrorIs(t, err, fault.ErrCorrupt)
	assert.Contains(t, err.Error(), "shape is [2 3 8]; gate and up rows cannot be equally many")
}

func TestNativeForm(t *testing.T) {
	c := Moe(2)
	c.Files["config.json"] = strings.Replace(c.Files["config.json"], `"dtype"`, `"tie_word_embeddings":true,"dtype"`, 1)
	c.Shards["model.safetensors"] = append(c.Shards["model.safetensors"],
		Tensor{Name: "lm_head.weight", DType: "BF16", Shape: []int{3, 4}},
		Tensor{Name: "model.visual.x.weight", DType: "BF16", Shape: []int{2}},
		Tensor{Name: "model.language_model.layers.0.linear_attn.conv1d.weight", DType: "BF16", Shape: []int{6, 1, 4}},
		Tensor{Name: "model.language_model.layers.0.linear_attn.norm.weight", DType: "BF16", Shape: []int{4}},
		Tensor{Name: "model.language_model.layers.0.input_layernorm.weight", DType: "BF16", Shape: []int{4}})
	p, err := planOf(t, c, plan.Options{Layout: family.MLX})
	require.NoError(t, err)
	const l = "language_model.model.layers.0."
	got := map[string]string{}
	for _, x := range p.Tensors {
		got[x.Name] = fmt.Sprint(x.Shape)
	}
	assert.Equal(t, map[string]string{
		l + "mlp.switch_mlp.gate_proj.weight": "[2 2 4]", l + "mlp.switch_mlp.up_proj.weight": "[2 2 4]", l + "mlp.switch_mlp.down_proj.weight": "[2 4 2]",
		l + "linear_attn.conv1d.weight": "[6 4 1]", l + "linear_attn.norm.weight": "[4]", l + "input_layernorm.weight": "[4]",
		"language_model.model.norm.weight": "[4]",
	}, got)
	for _, q := range p.Pieces {
		shifted := strings.HasSuffix(q.Source.Name, "input_layernorm.weight") || strings.HasSuffix(q.Source.Name, "model.norm.weight")
		assert.Equal(t, shifted, q.Params.Op == kernel.AddOne, q.Source.Name)
	}
	reasons := map[string]string{}
	for _, d := range p.Dropped {
		reasons[d.Tensor.Name] = d.Reason
	}
	assert.Contains(t, reasons["lm_head.weight"], "tied")
	assert.Contains(t, reasons["model.visual.x.weight"], "vision tower")
	assert.Contains(t, string(p.Shards[0].Header), `"format":"mlx"`)

	_, err = planOf(t, c, plan.Options{Layout: family.MLX, Roles: family.Options{KeepMTP: true}})
	require.ErrorIs(t, err, fault.ErrUnsupported)
	assert.Contains(t, err.Error(), "MLX-native models have no multi-token prediction head")

	c.Files["config.json"] = strings.Replace(c.Files["config.json"], "qwen3_5_moe", "qwen3_5_moe_text", 1)
	p, err = planOf(t, c, plan.Options{Layout: family.MLX})
	require.NoError(t, err)
	assert.Contains(t, text(t, p, "config.json"), `"model_type": "qwen3_5_moe"`, "only mlx-lm reads this form")

	c.Find("model.language_model.layers.0.linear_attn.conv1d.weight").Shape = []int{6, 2, 2}
	_, err = planOf(t, c, plan.Options{Layout: family.MLX})
	require.ErrorIs(t, err, fault.ErrCorrupt)
	assert.Contains(t, err.Error(), "shape is [6 2 2], [channels, 1, width] was expected")
}

// Layers behind the last are the prediction head of DeepSeek's kin.
func TestPredictionHeadInLayers(t *testing.T) {
	for _, test := range []struct {
		modelType string
		layers    int
		keep      bool
		dropped   string
		err       string
	}{
		{"deepseek_v3", 61, false, "--keep-mtp keeps it", ""},
		{"deepseek_v3", 61, true, "", ""},
		{"deepseek_v3", 2, false, "mlx-lm and transformers drop it only as layer 61", ""},
		{"deepseek_v3", 2, true, "", "drop it only as layer 61"},
		{"deepseek_v32", 2, true, "", ""},
		{"minimax_m2", 2, true, "", "mlx-lm has no place for it"},
	} {
		c := &Checkpoint{Files: map[string]string{"config.json": fmt.Sprintf(`{"model_type":%q,"num_hidden_layers":%d,"num_nextn_predict_layers":1}`, test.modelType, test.layers)},
			Shards: map[string][]Tensor{}}
		for l := range test.layers + 1 {
			c.Shards["model.safetensors"] = append(c.Shards["model.safetensors"],
				Tensor{Name: fmt.Sprintf("model.layers.%d.self_attn.o_proj.weight", l), DType: "F8_E4M3", Shape: []int{2, 2}},
				Tensor{Name: fmt.Sprintf("model.layers.%d.self_attn.o_proj.weight_scale_inv", l), DType: "F32", Shape: []int{1, 1}})
		}
		p, err := planOf(t, c, plan.Options{Roles: family.Options{KeepMTP: test.keep}})
		if test.err != "" {
			require.ErrorIs(t, err, fault.ErrUnsupported)
			assert.Contains(t, err.Error(), test.err)
			continue
		}
		require.NoError(t, err)
		if test.keep {
			assert.Empty(t, p.Dropped)
			continue
		}
		require.Len(t, p.Dropped, 2)
		assert.Contains(t, p.Dropped[0].Reason, test.dropped)
		assert.Contains(t, strings.Join(p.Notes, "\n"), "config.json still says num_nextn_predict_layers 1")
	}
}
