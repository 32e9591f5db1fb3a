package synth

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/metalcast/metalcast/internal/safetensors"
)

// checkpoint is what a test reads back: every tensor, its shard, and its data.
type checkpoint struct {
	Summary
	shards  map[string]*safetensors.Header
	tensors map[string]safetensors.Tensor
	in      map[string]string
	data    map[string][]byte
}

// write makes a checkpoint and reads it back with the product's strict reader.
func write(t *testing.T, o Options) *checkpoint {
	t.Helper()
	dst := filepath.Join(t.TempDir(), "made")
	s, err := Write(t.Context(), dst, o)
	require.NoError(t, err)
	c := &checkpoint{
		Summary: s, shards: map[string]*safetensors.Header{}, tensors: map[string]safetensors.Tensor{},
		in: map[string]string{}, data: map[string][]byte{},
	}
	names, err := filepath.Glob(filepath.Join(dst, "*.safetensors"))
	require.NoError(t, err)
	require.Len(t, names, s.Shards)
	var disk int64
	for _, path := range names {
		f, err := os.Open(path)
		require.NoError(t, err)
		st, err := f.Stat()
		require.NoError(t, err)
		disk += st.Size()
		h, err := safetensors.Read(f, st.Size())
		require.NoError(t, err)
		name := filepath.Base(path)
		c.shards[name] = h
		for _, x := range h.Tensors {
			c.tensors[x.Name], c.in[x.Name] = x, name
			if s.Bytes < 64<<20 {
				c.data[x.Name] = make([]byte, x.Size())
				_, err := f.ReadAt(c.data[x.Name], h.DataStart+x.Begin)
				require.NoError(t, err)
			}
		}
		require.NoError(t, f.Close())
	}
	require.Len(t, c.tensors, s.Tensors)
	assert.Equal(t, disk, s.DiskBytes)
	return c
}

func (c *checkpoint) config(t *testing.T) map[string]any {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(c.Dir, "config.json"))
	require.NoError(t, err)
	var v map[string]any
	require.NoError(t, json.Unmarshal(text, &v))
	return v
}

func (c *checkpoint) count(match func(name string) bool) (n int) {
	for name := range c.tensors {
		if match(name) {
			n++
		}
	}
	return n
}

func isScale(name string) bool  { return strings.HasSuffix(name, "_scale_inv") }
func isExpert(name string) bool { return strings.Contains(name, ".mlp.experts.") && !isScale(name) }

// The release has 61,690 keys that mlx-lm rejects.
func TestDefaultHasTheReleasesKeys(t *testing.T) {
	needtest.Alone(t)
	c := write(t, Options{})
	assert.Equal(t, 61_690, c.MLXRejects)
	assert.Equal(t, 30_720, c.count(isExpert))
	assert.Equal(t, 30_720+250, c.count(isScale))
	assert.Equal(t, 30_970, c.count(func(n string) bool { return c.tensors[n].DType == dtype.F8E4M3 }))
	assert.Equal(t, 4, c.Shards)
	assert.InDelta(t, 40e6, c.DiskBytes, 4e6)

	for name, want := range map[string][]int64{
		"lm_head.weight": {512, 64},
		"model.language_model.layers.3.self_attn.q_proj.weight":                       {256, 64},
		"model.language_model.layers.3.self_attn.q_proj.weight_scale_inv":             {2, 1},
		"model.language_model.layers.39.self_attn.k_norm.weight":                      {32},
		"model.language_model.layers.0.linear_attn.conv1d.weight":                     {128, 1, 4},
		"model.language_model.layers.0.linear_attn.norm.weight":                       {16},
		"model.language_model.layers.0.mlp.shared_expert_gate.weight":                 {1, 64},
		"model.language_model.layers.38.mlp.experts.255.down_proj.weight":             {64, 16},
		"model.language_model.layers.38.mlp.experts.255.down_proj.weight_scale_inv":   {1, 1},
		"model.language_model.layers.38.mlp.shared_expert.gate_proj.weight_scale_inv": {1, 1},
	} {
		assert.Equal(t, want, c.tensors[name].Shape, name)
	}
	assert.Equal(t, dtype.F32, c.tensors["model.language_model.layers.0.linear_attn.A_log"].DType)
	assert.Equal(t, dtype.BF16, c.tensors["model.language_model.layers.0.mlp.experts.0.up_proj.weight_scale_inv"].DType)
	assert.NotContains(t, c.tensors, "model.language_model.layers.3.linear_attn.A_log")

	config := c.config(t)
	assert.Equal(t, "qwen3_5_moe", config["model_type"])
	assert.NotContains(t, config, "vision_config")
	text := config["text_config"].(map[string]any)
	assert.Len(t, text["layer_types"], 40)
	assert.EqualValues(t, 256, text["num_experts"])
	quantization := config["quantization_config"].(map[string]any)
	assert.Equal(t, []any{128.0, 128.0}, quantization["weight_block_size"])
	left := quantization["modules_to_not_convert"]
	assert.Contains(t, left, "model.language_model.layers.0.mlp.gate")
	assert.NotContains(t, left, "model.language_model.layers.0.linear_attn.out_proj")
}

func TestStructures(t *testing.T) {
	small := func(o Options) Options {
		o.Layers, o.Experts = 4, 3
		return o
	}
	// FP8 weights: linear attention, full attention, shared experts, experts
	const layers, scaled = 4, 3*3 + 4 + 4*3 + 4*3*3
	for name, tc := range map[string]struct {
		Options
		rejects int
		has     []string
		hasNot  []string
	}{
		"plain": {small(Options{}), scaled + layers*3*3, nil, []string{"mtp.fc.weight"}},
		"mtp": {small(Options{MTP: true}), scaled + layers*3*3, []string{
			"mtp.fc.weight", "mtp.layers.0.self_attn.q_proj.weight_scale_inv", "mtp.layers.0.mlp.experts.2.up_proj.weight_scale_inv",
		}, nil},
		"vision": {small(Options{Vision: true}), scaled + layers*3*3, []string{"model.visual.patch_embed.proj.weight", "model.visual.blocks.1.attn.qkv.bias"}, nil},
		"flat": {small(Options{Flat: true}), scaled + layers*3*3, []string{"model.layers.0.mlp.experts.2.up_proj.weight_scale_inv", "model.norm.weight"},
			[]string{"model.language_model.norm.weight"}},
		"bf16":    {small(Options{PerExpertBF16: true}), layers * 3 * 3, []string{"model.language_model.layers.0.mlp.experts.2.up_proj.weight"}, nil},
		"stacked": {small(Options{Stacked: true}), 0, []string{"model.language_model.layers.0.mlp.experts.gate_up_proj"}, nil},
		"activations": {small(Options{ActivationScales: true}), 2*scaled + layers*3*3,
			[]string{"model.language_model.layers.3.self_attn.q_proj.activation_scale"}, nil},
		"dense": {Options{Family: Dense, Layers: 4}, 3*3 + 4 + 4*3, []string{"model.language_model.layers.0.mlp.up_proj.weight_scale_inv"},
			[]string{"model.language_model.layers.0.mlp.gate.weight"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := write(t, tc.Options)
			assert.Equal(t, tc.rejects, c.MLXRejects)
			for _, n := range tc.has {
				assert.Contains(t, c.tensors, n)
			}
			for _, n := range tc.hasNot {
				assert.NotContains(t, c.tensors, n)
			}
			config := c.config(t)
			fp8 := c.count(func(n string) bool { return c.tensors[n].DType == dtype.F8E4M3 })
			assert.Equal(t, fp8 > 0, config["quantization_config"] != nil)
			assert.Equal(t, !tc.Flat, config["text_config"] != nil)
			assert.Equal(t, tc.Vision, config["vision_config"] != nil)
			tensors, bytes := measured(t, tc.Options)
			assert.Equal(t, c.Tensors, tensors, "measure and model agree")
			assert.Equal(t, c.Bytes, bytes)
		})
	}
}

// measured returns the numbers of tensors and bytes that the options result in.
func measured(t *testing.T, o Options) (int, int64) {
	t.Helper()
	o, err := o.withDefaults()
	require.NoError(t, err)
	d, err := o.choose()
	require.NoError(t, err)
	return o.measure(d)
}

func TestScaleForms(t *testing.T) {
	c := write(t, Options{Layers: 1, Experts: 2, Hidden: 200, Intermediate: 70, ScaleType: dtype.F32, BlockSize: 64})
	s := c.tensors["model.language_model.layers.0.mlp.experts.1.down_proj.weight_scale_inv"]
	assert.Equal(t, dtype.F32, s.DType)
	assert.Equal(t, []int64{4, 2}, s.Shape)
}

func TestSideFiles(t *testing.T) {
	c := write(t, Options{Layers: 1, Experts: 2, Vision: true, Shards: 1})
	var names []string
	require.NoError(t, fs.WalkDir(os.DirFS(c.Dir), ".", func(path string, d fs.DirEntry, err error) error {
		if !d.IsDir() {
			names = append(names, path)
		}
		return err
	}))
	assert.Equal(t, []string{
		"LICENSE", "README.md", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors",
		"preprocessor_config.json", "tokenizer.json", "tokenizer_config.json",
	}, names)
	card, err := os.ReadFile(filepath.Join(c.Dir, "README.md"))
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(string(card), "---\n"))
	assert.Contains(t, string(card), "license: apache-2.0\n")
	assert.NotContains(t, string(card), "{{")
}

// The special tokens of tokenizer.json and the numbers in config.json must agree.
func TestTokenizer(t *testing.T) {
	text, err := files.ReadFile("files/tokenizer.json")
	require.NoError(t, err)
	var v struct {
		Added []struct {
			ID      int
			Content string
		} `json:"added_tokens"`
		Model struct{ Vocab map[string]int }
	}
	require.NoError(t, json.Unmarshal(text, &v))
	assert.Len(t, v.Model.Vocab, 256)
	ids := map[string]int{}
	for _, a := range v.Added {
		ids[a.Content] = a.ID
	}
	assert.Equal(t, map[string]int{
		"<|endoftext|>": endOfText, "<|im_start|>": imStart, "<|im_end|>": imEnd, "<|vision_start|>": visionStart,
		"<|vision_end|>": visionEnd, "<|image_pad|>": imagePad, "<|video_pad|>": videoPad,
	}, ids)
	assert.Less(t, videoPad, minVocab)
}

func TestOptionsAreRefused(t *testing.T) {
	needtest.Alone(t)
	for want, o := range map[string]Options{
		`--family: "llama"`:         {Family: "llama"},
		"--experts: -1":             {Experts: -1},
		"--layers: 99999999":        {Layers: 99999999},
		"--layers: 2000 layers":     {Layers: 2000},
		"--vocab: 100":              {Vocab: 100},
		"--scale-type: F16":         {ScaleType: dtype.F16},
		"--experts: qwen3_5":        {Family: Dense, Experts: 4},
		"--stacked: qwen3_5":        {Family: Dense, Stacked: true},
		"--stacked: excludes":       {Stacked: true, PerExpertBF16: true},
		"--activation-scales":       {Stacked: true, ActivationScales: true},
		"--vision: excludes":        {Flat: true, Vision: true},
		"--shards: excludes":        {Shards: 2, ShardSize: 1000},
		"--shards: 99999":           {Shards: 99999},
		"--size: -1":                {Size: -1},
		"--size: 1000 bytes is too": {Size: 1000},
		"--size: nothing is left":   {Size: 1e9, Layers: 3, Experts: 4},
		"--experts: ministral3":     {Family: "ministral3", Experts: 4},
		"--stacked: is for":         {Family: "qwen3_moe", Stacked: true},
		"--per-expert-bf16: the":    {Family: "mistral4", PerExpertBF16: true},
		"--activation-scales: glm4": {Family: "glm4_moe", ActivationScales: true},
		"--block-size: nemotron_h":  {Family: "nemotron_h", BlockSize: 64},
		"--mtp: kimi_k2":            {Family: "kimi_k2", MTP: true},
		"--vision: step3p5":         {Family: "step3p5", Vision: true},
		"--flat: is for":            {Family: "qwen3", Flat: true},
		"--hidden: 270":             {Family: "hunyuan", Hidden: 270},
	} {
		dst := filepath.Join(t.TempDir(), "made")
		_, err := Write(t.Context(), dst, o)
		require.ErrorIs(t, err, fault.ErrUsage, want)
		assert.ErrorContains(t, err, want)
		assert.NoDirExists(t, dst)
	}
	// Nothing overflows, although these ask for the impossible.
	for _, o := range []Options{
		{Hidden: maxDim, Intermediate: maxDim, Experts: maxDim, Layers: maxDim, Stacked: true},
		{Family: Dense, Hidden: maxDim, Intermediate: maxDim, Layers: maxDim},
		{Hidden: maxDim, Intermediate: maxDim, Stacked: true, Size: 1e9},
		{Size: maxBytes},
	} {
		_, err := newModel(o)
		assert.ErrorIs(t, err, fault.ErrUsage)
	}
}
