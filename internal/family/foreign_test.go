package family_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
	"github.com/metalcast/metalcast/internal/family"
	"github.com/metalcast/metalcast/internal/fault"
)

// quantizedBy is a config whose quantization_config has these members.
func quantizedBy(members string) string {
	return `{"model_type":"qwen3","quantization_config":{` + members + `}}`
}

// module is tensors of one linear layer, "a": each is its name after "a.", its type and its shape.
func module(list ...Tensor) []Tensor {
	for i := range list {
		list[i].Name = "a." + list[i].Name
	}
	return list
}

// Each tool's tensors as it writes them for a layer of 4 x 64.
func TestForeignFormats(t *testing.T) {
	const none = `{"model_type":"qwen3"}`
	for name, test := range map[string]struct {
		config string
		list   []Tensor
		want   string
	}{
		"MXFP4, gpt-oss": {none, []Tensor{{Name: "experts.gate_up_proj_blocks", DType: "U8", Shape: []int{2, 4, 2, 16}}, {Name: "experts.gate_up_proj_scales", DType: "U8", Shape: []int{2, 4, 2}}}, "MXFP4 (_blocks and _scales)"},
		"MXFP4, compressed-tensors": {
			quantizedBy(`"quant_method":"compressed-tensors","format":"mxfp4-pack-quantized"`),
			module(Tensor{Name: "weight_packed", DType: "U8", Shape: []int{4, 32}}, Tensor{Name: "weight_scale", DType: "U8", Shape: []int{4, 2}}), "MXFP4 (compressed-tensors)",
		},
		"MXFP4, Quark": {
			quantizedBy(`"quant_method":"quark"`),
			module(Tensor{Name: "weight", DType: "U8", Shape: []int{4, 32}}, Tensor{Name: "weight_scale", DType: "U8", Shape: []int{4, 2}}), "MXFP4 (Quark)",
		},
		"NVFP4, compressed-tensors": {none, module(Tensor{Name: "weight_packed", DType: "U8", Shape: []int{4, 32}}, Tensor{Name: "weight_scale", DType: "F8_E4M3", Shape: []int{4, 4}}), "NVFP4 (compressed-tensors)"},
		"NVFP4, ModelOpt":           {none, module(Tensor{Name: "weight", DType: "U8", Shape: []int{4, 32}}, Tensor{Name: "weight_scale", DType: "F8_E4M3", Shape: []int{4, 4}}), "NVFP4 (ModelOpt)"},
		"NVFP4, stacked":            {none, []Tensor{{Name: "experts.gate_up_proj", DType: "U8", Shape: []int{2, 4, 32}}, {Name: "experts.gate_up_proj_weight_scale", DType: "F8_E4M3", Shape: []int{2, 4, 4}}}, "NVFP4 (ModelOpt)"},
		"4 bits, pack-quantized": {
			quantizedBy(`"format":"pack-quantized","config_groups":{"group_0":{"weights":{"num_bits":4}}}`),
			module(Tensor{Name: "weight_packed", DType: "I32", Shape: []int{4, 8}}), "int4 (compressed-tensors pack-quantized)",
		},
		"8 bits, pack-quantized": {
			quantizedBy(`"format":"pack-quantized","config_groups":{"x":{"weights":{"num_bits":8}}}`),
			module(Tensor{Name: "weight_packed", DType: "I32", Shape: []int{4, 16}}), "int8 (compressed-tensors pack-quantized)",
		},
		"packed, no config": {none, module(Tensor{Name: "weight_packed", DType: "I32", Shape: []int{4, 8}}), "packed integers (compressed-tensors pack-quantized)"},
		"FP4 in I8":         {none, module(Tensor{Name: "weight", DType: "I8", Shape: []int{4, 32}}, Tensor{Name: "scale", DType: "F8_E8M0", Shape: []int{4, 2}}), "FP4 packed in I8"},
		"AWQ":               {quantizedBy(`"quant_method":"awq","bits":4`), module(Tensor{Name: "qweight", DType: "I32", Shape: []int{64, 1}}), "AWQ"},
		"AWQ, no config":    {none, module(Tensor{Name: "qweight", DType: "I32", Shape: []int{64, 1}}, Tensor{Name: "scales", DType: "F16", Shape: []int{1, 8}}), "AWQ"},
		"GPTQ, no config":   {none, module(Tensor{Name: "qweight", DType: "I32", Shape: []int{8, 4}}, Tensor{Name: "scales", DType: "F16", Shape: []int{1, 4}}), "GPTQ"},
		"AutoRound":         {quantizedBy(`"quant_method":"auto-round"`), module(Tensor{Name: "qweight", DType: "I32", Shape: []int{8, 4}}), "AutoRound's packing"},
		"bitsandbytes, 8":   {none, module(Tensor{Name: "weight", DType: "I8", Shape: []int{4, 64}}, Tensor{Name: "SCB", DType: "F32", Shape: []int{4}}), "bitsandbytes (8 bits)"},
		"bitsandbytes, 4":   {none, module(Tensor{Name: "weight", DType: "U8", Shape: []int{128, 1}}, Tensor{Name: "weight.absmax", DType: "F32", Shape: []int{4}}), "bitsandbytes (4 bits)"},
		"HQQ":               {none, module(Tensor{Name: "W_q", DType: "U8", Shape: []int{2, 64}}), "HQQ"},
		"quanto":            {none, module(Tensor{Name: "weight._data", DType: "I8", Shape: []int{4, 64}}, Tensor{Name: "weight._scale", DType: "F32", Shape: []int{4, 1}}), "quanto"},
		"EETQ":              {none, module(Tensor{Name: "weight", DType: "I8", Shape: []int{64, 4}}, Tensor{Name: "weight_scales", DType: "F16", Shape: []int{4}}), "EETQ"},
		"torchao":           {none, module(Tensor{Name: "_weight_qdata", DType: "F8_E4M3", Shape: []int{4, 64}}, Tensor{Name: "_weight_scale", DType: "F32", Shape: []int{4, 1}}), "torchao"},
		"Comfy":             {none, module(Tensor{Name: "weight", DType: "F8_E4M3", Shape: []int{4, 64}}, Tensor{Name: "scale_weight", DType: "F32", Shape: []int{}}), "Comfy's (comfy_quant, scale_weight)"},
		"BitNet":            {quantizedBy(`"quant_method":"bitnet"`), module(Tensor{Name: "weight", DType: "U8", Shape: []int{1, 64}}, Tensor{Name: "weight_scale", DType: "BF16", Shape: []int{1}}), "BitNet"},
		"int8":              {none, module(Tensor{Name: "weight", DType: "I8", Shape: []int{4, 64}}, Tensor{Name: "weight_scale", DType: "BF16", Shape: []int{4, 1}}), "int8 with scales (w8a8)"},
		"FP8 bytes":         {none, module(Tensor{Name: "weight", DType: "U8", Shape: []int{4, 64}}, Tensor{Name: "weight_scale_inv", DType: "F32", Shape: []int{1, 1}}), "FP8 whose bytes were saved as U8"},
		"MXFP8 bytes":       {none, module(Tensor{Name: "weight", DType: "U8", Shape: []int{4, 64}}, Tensor{Name: "weight_scale", DType: "U8", Shape: []int{4, 2}}), "MXFP8 whose bytes were saved as U8"},
		"bare integers":     {none, module(Tensor{Name: "weight", DType: "I8", Shape: []int{4, 64}}), "I8 without scales"},
		"an embedding":      {none, []Tensor{{Name: "model.embed_tokens.weight", DType: "I8", Shape: []int{8, 64}}, {Name: "model.embed_tokens.weight_scale", DType: "F32", Shape: []int{8, 1}}}, "int8 with scales (w8a8)"},
		"wide integers":     {none, module(Tensor{Name: "weight", DType: "I32", Shape: []int{4, 64}}), "I32 without scales"},
		"sparse":            {none, module(Tensor{Name: "compressed", DType: "F8_E4M3", Shape: []int{4, 32}}, Tensor{Name: "bitmask", DType: "U8", Shape: []int{4, 8}}), "compressed-tensors' sparse form"},
		"plain":             {none, module(Tensor{Name: "weight", DType: "BF16", Shape: []int{4, 16}}), ""},
		"FP8 in blocks":     {none, module(Tensor{Name: "weight", DType: "F8_E4M3", Shape: []int{4, 96}}, Tensor{Name: "weight_scale_inv", DType: "U8", Shape: []int{1, 1}}), ""},
		"MXFP8":             {none, module(Tensor{Name: "weight", DType: "F8_E4M3", Shape: []int{4, 96}}, Tensor{Name: "weight_scale", DType: "U8", Shape: []int{4, 3}}), ""},
		"MLX's own":         {none, module(Tensor{Name: "weight", DType: "U32", Shape: []int{4, 8}}, Tensor{Name: "scales", DType: "BF16", Shape: []int{4, 1}}), ""},
		"tables of numbers": {none, []Tensor{{Name: "model.position_ids", DType: "I64", Shape: []int{1, 8}}, {Name: "layers.0.gate.tid2eid", DType: "I64", Shape: []int{8, 2}}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			v := open(t, &Checkpoint{Files: map[string]string{"config.json": test.config}, Shards: map[string][]Tensor{"model.safetensors": test.list}})
			got := family.Of(v.Config).ForeignOf(v)
			if test.want == "" {
				assert.Empty(t, got)
				return
			}
			require.Len(t, got, 1)
			assert.Equal(t, "1 tensor in "+test.want, got[0].String())
		})
	}
}

// A runtime loads what its own tests were run with, and no other family, setting, shape or tensor.
// (consumers/test_foreign.py runs them.)
func TestForeignFormatsAreReadBySome(t *testing.T) {
	of := func(name, kind string, shape ...int) Tensor {
		return Tensor{Name: "model.layers.0.mlp.up_proj." + name, DType: kind, Shape: shape}
	}
	packed := []Tensor{of("weight_packed", "I32", 8, 8), of("weight_scale", "BF16", 8, 2), of("weight_shape", "I64", 2)}
	nv := []Tensor{of("weight", "U8", 8, 32), of("weight_scale", "F8_E4M3", 8, 4), of("weight_scale_2", "F32"), of("input_scale", "F32")}
	words := []Tensor{of("qweight", "I32", 64, 1), of("qzeros", "I32", 2, 1), of("scales", "F16", 2, 8)}
	ternary := []Tensor{of("weight", "U8", 2, 64), of("weight_scale", "BF16", 1)}
	pack := func(weights, more string) string {
		return `"quant_method":"compressed-tensors","format":"pack-quantized","config_groups":{"g":{"weights":{"num_bits":4,"type":"int","strategy":"group",` + weights + `}}}` + more
	}
	const modelopt, awq = `"quant_method":"modelopt","quant_algo":"NVFP4"`, `"quant_method":"awq","bits":4`
	plus := func(list []Tensor, more ...Tensor) []Tensor { return append(slices.Clone(list), more...) }
	for name, test := range map[string]struct {
		members string
		list    []Tensor
		want    string
	}{
		"int4":                     {pack(`"group_size":32`, ""), packed, family.MLXVLM},
		"int4, no shape":           {pack(`"group_size":32`, ""), packed[:2], family.MLXVLM},
		"int4, no scale":           {pack(`"group_size":32`, ""), packed[:1], ""},
		"int4, groups of 16":       {pack(`"group_size":16`, ""), []Tensor{packed[0], of("weight_scale", "BF16", 8, 4)}, ""},
		"int4, another group size": {pack(`"group_size":64`, ""), packed, ""},
		"int4, channels":           {`"format":"pack-quantized","config_groups":{"g":{"weights":{"num_bits":4,"strategy":"channel"}}}`, []Tensor{packed[0], of("weight_scale", "BF16", 8, 1)}, ""},
		"int4, asymmetric":         {pack(`"group_size":32,"symmetric":false`, ""), packed, ""},
		"int4, zero points":        {pack(`"group_size":32`, ""), plus(packed, of("weight_zero_point", "I32", 1, 2)), ""},
		"int4, columns in order":   {pack(`"group_size":32,"actorder":"group"`, ""), packed, ""},
		"int4, indices":            {pack(`"group_size":32`, ""), plus(packed, of("weight_g_idx", "I32", 64)), ""},
		"int4, rotated":            {pack(`"group_size":32`, `,"transform_config":{"config_groups":{"R1":{"type":"hadamard"}}}`), packed, ""},
		"int4, two groups":         {`"format":"pack-quantized","config_groups":{"a":{"weights":{"num_bits":4,"group_size":32}},"b":{"weights":{"num_bits":8,"group_size":32}}}`, packed, ""},
		"NVFP4":                    {modelopt, nv, family.MLXVLM},
		"NVFP4, cache":             {modelopt, plus(nv, of("k_scale", "F32")), family.MLXVLM},
		"NVFP4, one level":         {modelopt, nv[:2], ""},
		"NVFP4 with AWQ":           {modelopt, plus(nv, of("pre_quant_scale", "BF16", 64)), ""},
		"NVFP4, AWQ by name":       {`"quant_method":"modelopt","quant_algo":"NVFP4_AWQ"`, nv, ""},
		"AWQ":                      {awq, words, family.MLXLM},
		"AWQ, 8 bits":              {`"quant_method":"awq","bits":8`, words, ""},
		"AWQ, no zeros":            {awq, []Tensor{words[0], words[2]}, ""},
		"AWQ, groups of 16":        {awq, []Tensor{words[0], words[1], of("scales", "F16", 4, 8)}, ""},
		"AWQ, packed along inputs": {awq, []Tensor{of("qweight", "I32", 8, 8), words[1], words[2]}, ""},
		"AWQ with a bias":          {awq, plus(words, of("bias", "BF16", 8)), ""},
		"AWQ with a cache":         {awq, plus(words, of("k_scale", "F32")), ""},
		"AWQ with a plain module":  {awq, plus(words, Tensor{Name: "lm_head.weight", DType: "BF16", Shape: []int{8, 8}}), family.MLXLM},
		"GPTQ":                     {`"quant_method":"gptq","bits":4`, words, ""},
		"BitNet":                   {`"quant_method":"bitnet"`, ternary, family.MLXLM},
		"BitNet, a head":           {`"quant_method":"bitnet"`, plus(ternary, Tensor{Name: "lm_head.weight", DType: "BF16", Shape: []int{8, 8}}), ""},
		"BitNet, a listed head":    {`"quant_method":"bitnet","modules_to_not_convert":["lm_head"]`, plus(ternary, Tensor{Name: "lm_head.weight", DType: "BF16", Shape: []int{8, 8}}), family.MLXLM},
		"BitNet with norms":        {`"quant_method":"bitnet","use_rms_norm":true`, ternary, ""},
		"a module of one layer":    {awq, plus(words, Tensor{Name: "model.layers.1.mlp.down_proj.weight", DType: "BF16", Shape: []int{8, 8}}, Tensor{Name: "model.layers.1.mlp.gate_proj.weight", DType: "BF16", Shape: []int{8, 8}}), ""},
	} {
		for _, model := range []string{"qwen3", "qwen3_moe", "unheard_of"} {
			layers := 1 + strings.Count(name, "a module of one layer")
			config := fmt.Sprintf(`{"model_type":%q,"num_hidden_layers":%d,"quantization_config":{%s}}`, model, layers, test.members)
			v := open(t, &Checkpoint{Files: map[string]string{"config.json": config}, Shards: map[string][]Tensor{"model.safetensors": test.list}})
			got := family.Of(v.Config).ForeignOf(v)
			require.Len(t, got, 1, name)
			want := test.want
			if model != "qwen3" {
				want = ""
			}
			assert.Equal(t, want, got[0].ReadBy, "%s, %s", name, model)
		}
	}
}

// fp8 is a layer in FP8 and more tensors, each a number in float32 unless it says otherwise.
func fp8(config string, more ...string) *Checkpoint {
	list := []Tensor{
		{Name: "model.layers.0.self_attn.k_proj.weight", DType: "F8_E4M3", Shape: []int{2, 2}}, {Name: "model.layers.0.self_attn.k_proj.weight_scale", DType: "F32", Shape: []int{}},
		{Name: "model.layers.0.mlp.up_proj.weight", DType: "F8_E4M3", Shape: []int{2, 2}}, {Name: "model.layers.0.mlp.up_proj.weight_scale", DType: "F32", Shape: []int{}},
	}
	for _, name := range more {
		list = append(list, Tensor{Name: "model.layers.0." + name, DType: "F32", Shape: []int{}})
	}
	return &Checkpoint{Files: map[string]string{"config.json": config}, Shards: map[string][]Tensor{"model.safetensors": list}}
}

func TestCompanionsOfActivationsAndCachesAreDropped(t *testing.T) {
	names := []string{
		"self_attn.kv_scale", "self_attn.attn.kv_scale", "self_attn.attn.k_scale", "self_attn.k_proj.kv_cache_scale", "self_attn.qkv_proj.k_scale", "self_attn.prob_scale", "self_attn.attn._k_scale",
		"self_attn.k_cache.scale", "self_attn.k_proj.k_zero_point", "self_attn.k_fake_quantizer.qscale_act", "self_attn.k_bmm_quantizer._amax",
		"mlp.up_proj.input_scale_ub", "mlp.up_proj.input_zero_point", "mlp.up_proj.input_quantizer._amax", "mlp.up_proj.act_quant.scale", "mlp.up_proj.input_scale_inv", "self_attn.rotary_emb.inv_freq",
	}
	v := open(t, fp8(`{"model_type":"x"}`, names...))
	sites, err := family.Of(v.Config).Sites(v, family.Options{})
	require.NoError(t, err)
	for _, s := range sites[4:] { // after the weights and their scales
		assert.Equal(t, family.Drop, s.Role, s.Tensor.Name)
		assert.NotEmpty(t, s.Reason, s.Tensor.Name)
	}
}

func TestStrangersInAConvertedModuleAreRefused(t *testing.T) {
	for _, name := range []string{"comfy", "weight_zero_point", "smooth_scale", "R4_input.weight", "g_idx", "lora_A.weight", "parametrizations.weight.original0", "input_quantizer._pre_quant_scale"} {
		v := open(t, fp8(`{"model_type":"x"}`, "mlp.up_proj."+name))
		_, err := family.Of(v.Config).Sites(v, family.Options{})
		require.ErrorIs(t, err, fault.ErrUnsupported, name)
		assert.ErrorContains(t, err, `tensor "model.layers.0.mlp.up_proj.`+name+`": belongs to "model.layers.0.mlp.up_proj.weight", which is FP8`)
	}
	v := open(t, fp8(`{"model_type":"x"}`, "mlp.up_proj.bias", "mlp.gate.e_score_correction_bias", "mlp.router.scale"))
	_, err := family.Of(v.Config).Sites(v, family.Options{})
	require.NoError(t, err)
}

func TestStrangersBesideAStackAreRefused(t *testing.T) {
	const stack = "model.layers.0.mlp.experts.gate_up_proj"
	for _, test := range []struct {
		name    string
		refused bool
	}{{"_pre_quant_scale", true}, {"_zero_point", true}, {"_bias", false}, {"_input_scale", false}} {
		c := fp8(`{"model_type":"x"}`)
		c.Shards["model.safetensors"] = append(c.Shards["model.safetensors"], Tensor{Name: stack, DType: "F8_E4M3", Shape: []int{2, 4, 4}},
			Tensor{Name: stack + "_scale", DType: "F32", Shape: []int{2}}, Tensor{Name: stack + test.name, DType: "F32", Shape: []int{2}})
		v := open(t, c)
		_, err := family.Of(v.Config).Sites(v, family.Options{})
		if !test.refused {
			require.NoError(t, err, test.name)
			continue
		}
		require.ErrorIs(t, err, fault.ErrUnsupported, test.name)
		assert.ErrorContains(t, err, `"`+stack+test.name+`": belongs to "`+stack+`", which is FP8`)
	}
}

func TestStrayScalesOfAttentionAreMarked(t *testing.T) {
	c := fp8(`{"model_type":"x"}`, "self_attn.softmax_scale", "self_attn.inner.deep_scale", "self_attn.sinks", "mlp.router.scale")
	list := c.Shards["model.safetensors"]
	c.Shards["model.safetensors"] = append(list, Tensor{Name: "model.layers.0.self_attn.q_norm.scale", DType: "BF16", Shape: []int{64}})
	v := open(t, c)
	sites, err := family.Of(v.Config).Sites(v, family.Options{})
	require.NoError(t, err)
	stray := map[string]bool{}
	for _, s := range sites {
		if s.Stray {
			stray[strings.TrimPrefix(s.Tensor.Name, "model.layers.0.self_attn.")] = true
		}
	}
	assert.Equal(t, map[string]bool{"softmax_scale": true, "inner.deep_scale": true}, stray)
}

// Published quantization configs pass; what may change the meaning of weights does not.
func TestSettingsThatMayChangeWhatWeightsMean(t *testing.T) {
	for members, want := range map[string]string{
		`"quant_method":"fp8","fmt":"e4m3","activation_scheme":"dynamic","weight_block_size":[128,128],"scale_fmt":"ue8m0","modules_to_not_convert":["lm_head"]`:                            "",
		`"quant_method":"fp8","activation_scheme":"static","dequantize":false,"weight_block_size":null,"modules_to_not_convert":[]`:                                                         "",
		`"quant_method":"fbgemm_fp8","activation_scale_ub":1200.0,"modules_to_not_convert":["lm_head"]`:                                                                                     "",
		`"quant_method":"modelopt","quant_algo":"FP8","kv_cache_scheme":{"dynamic":false,"num_bits":8,"type":"float"},"ignore":["lm_head"],"producer":{"name":"modelopt","version":"0.33"}`: "",
		`"quant_method":"compressed-tensors","format":"float-quantized","global_compression_ratio":1.5,"ignore":["lm_head"],"kv_cache_scheme":null,"quantization_status":"compressed","sparsity_config":{},
			"transform_config":{},"version":"0.11","config_groups":{"group_0":{"format":null,"input_activations":{"actorder":null,"dynamic":true,"num_bits":8,"observer":null,"observer_kwargs":{},"strategy":"token","symmetric":true,"type":"float"},
			"output_activations":null,"targets":["Linear"],"weights":{"actorder":null,"block_structure":null,"dynamic":false,"group_size":null,"num_bits":8,"observer":"minmax","observer_kwargs":{},"strategy":"channel","symmetric":true,"type":"float"}}}`: "",
		`"quant_method":"quark","global_quant_config":{"weight":{"dtype":"fp8_e4m3"}},"exclude":["lm_head"],"algo_config":null,"export":{"kv_cache_group":[]}`: "",
		`"quant_method":"fp8","transform_config":{"config_groups":{"R4":{"type":"hadamard"}}}`:                                                                 "quantization_config.transform_config describes rotations",
		`"quant_method":"fp8","sparsity_config":{"format":"sparse-24-bitmask"}`:                                                                                "quantization_config.sparsity_config says that weights are stored as sparse-24-bitmask",
		`"quant_method":"fp8","sparsity_config":{"format":"dense"}`:                                                                                            "",
		`"quant_method":"fp8","online_hadamard":true`:                                                                                                          "quantization_config.online_hadamard is true, a setting that metalcast does not know",
		`"quant_method":"fp8","online_hadamard":false,"rotation":null,"smooth":[],"x":""`:                                                                      "",
		`"quant_method":"quark","algo_config":{"name":"rotation"}`:                                                                                             "quantization_config.algo_config is",
		`"quant_method":"fp8","config_groups":{"a":{"weights":{"symmetric":false}}}`:                                                                           "quantization_config.config_groups.a.weights.symmetric is false",
		`"quant_method":"fp8","config_groups":{"a":{"weights":{"actorder":"group"}}}`:                                                                          "quantization_config.config_groups.a.weights.actorder is",
		`"quant_method":"fp8","config_groups":{"a":{"pre_scale":{
			"x": 2}}}`: "quantization_config.config_groups.a.pre_scale is {\"x\":2}",
		`"quant_method":"modelopt","quantization":{"quant_algo":"FP8","pre_quant_scale":true}`: "quantization_config.quantization.pre_quant_scale is true",
	} {
		v := open(t, fp8(`{"model_type":"x","quantization_config":{`+members+`}}`))
		_, err := family.Of(v.Config).Sites(v, family.Options{})
		if want == "" {
			assert.NoError(t, err, members)
			continue
		}
		require.ErrorIs(t, err, fault.ErrUnsupported, members)
		assert.ErrorContains(t, err, "config.json: "+want)
	}
	// MLX's own quantization_config has modules for keys.
	v := open(t, &Checkpoint{Files: map[string]string{"config.json": `{"quantization":{"bits":4},"quantization_config":{"bits":4,"model.layers.0.mlp.gate":{"bits":8}}}`},
		Shards: map[string][]Tensor{"model.safetensors": module(Tensor{Name: "weight", DType: "BF16", Shape: []int{2, 2}})}})
	_, err := family.Of(v.Config).Sites(v, family.Options{})
	assert.NoError(t, err)
}
