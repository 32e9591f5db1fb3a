package family_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/checkpoint"
	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
	"github.com/metalcast/metalcast/internal/family"
	"github.com/metalcast/metalcast/internal/fault"
)

func open(t *testing.T, c *Checkpoint) *checkpoint.Inventory {
	t.Helper()
	v, err := checkpoint.Open(t.Context(), c.Write(t))
	require.NoError(t, err)
	return v
}

// look runs all that the package decides on a checkpoint.
func look(t *testing.T, c *Checkpoint, keepMTP bool) ([]family.Site, []*family.Group, error) {
	t.Helper()
	v := open(t, c)
	f := family.Of(v.Config)
	sites, err := f.Sites(v, family.Options{KeepMTP: keepMTP})
	if err != nil {
		return nil, nil, err
	}
	groups, err := f.Groups(v, sites)
	if err != nil {
		return nil, nil, err
	}
	return sites, groups, f.CheckLayers(v, groups)
}

func TestRoles(t *testing.T) {
	c := Moe(2)
	const l = "model.language_model.layers.0."
	c.Shards["model.safetensors"] = append(c.Shards["model.safetensors"],
		Tensor{Name: l + "self_attn.q_proj.weight", DType: "F8_E4M3", Shape: []int{4, 4}},
		Tensor{Name: l + "self_attn.q_proj.weight_scale_inv", DType: "F32", Shape: []int{1, 1}},
		Tensor{Name: l + "self_attn.q_proj.activation_scale", DType: "F32", Shape: []int{}},
		Tensor{Name: l + "mlp.gate.weight", DType: "BF16", Shape: []int{2, 4}},
		Tensor{Name: "mtp.layers.0.mlp.experts.0.up_proj.weight", DType: "F8_E4M3", Shape: []int{2, 4}},
		Tensor{Name: "mtp.layers.0.mlp.experts.0.up_proj.weight_scale_inv", DType: "BF16", Shape: []int{1, 1}},
		Tensor{Name: "model.visual.patch_embed.weight", DType: "BF16", Shape: []int{2}},
	)
	sites, groups, err := look(t, c, false)
	require.NoError(t, err)
	roles := map[string]family.Role{}
	for _, s := range sites {
		roles[s.Tensor.Name] = s.Role
		assert.Equal(t, s.Role == family.Drop, s.Reason != "", s.Tensor.Name)
	}
	assert.Equal(t, family.Expert, roles[l+"mlp.experts.1.gate_proj.weight"])
	assert.Equal(t, family.Scale, roles[l+"mlp.experts.1.gate_proj.weight_scale_inv"])
	assert.Equal(t, family.Weight, roles[l+"self_attn.q_proj.weight"])
	assert.Equal(t, family.Drop, roles[l+"self_attn.q_proj.activation_scale"])
	assert.Equal(t, family.Move, roles[l+"mlp.gate.weight"])
	assert.Equal(t, family.Drop, roles["mtp.layers.0.mlp.experts.0.up_proj.weight_scale_inv"])
	assert.Equal(t, family.Move, roles["model.visual.patch_embed.weight"])
	require.Len(t, groups, 1)
	assert.Equal(t, "layer 0", groups[0].Where)
	assert.Len(t, groups[0].Sites["down_proj"], 2)

	_, _, err = look(t, c, true) // the head's own experts are checked once it is kept
	require.ErrorIs(t, err, fault.ErrIncomplete)
	assert.Contains(t, err.Error(), "mtp layer 0: gate_proj is missing from every expert")
}

func TestScaleMayBeOneForTheWholeMatrix(t *testing.T) {
	for _, shape := range [][]int{{}, {1}} {
		c := Moe(1)
		c.Find("model.language_model.layers.0.mlp.experts.0.up_proj.weight_scale_inv").Shape = shape
		c.Find("model.language_model.layers.0.mlp.experts.0.gate_proj.weight_scale_inv").Shape = shape
		sites, _, err := look(t, c, false)
		require.NoError(t, err)
		assert.Equal(t, family.Block{Rows: 2, Cols: 4}, sites[2].Scales.Block)
	}
}

func TestDenseFamilyHasNoExperts(t *testing.T) {
	c := Moe(1)
	c.Files["config.json"] = strings.Replace(c.Files["config.json"], "qwen3_5_moe", "qwen3_5", 1)
	sites, groups, err := look(t, c, false)
	require.NoError(t, err)
	assert.Empty(t, groups)
	assert.Equal(t, family.Weight, sites[0].Role)
}

func TestRefuses(t *testing.T) {
	const e = "model.language_model.layers.0.mlp.experts."
	add := func(list ...Tensor) func(c *Checkpoint) {
		return func(c *Checkpoint) { c.Shards["model.safetensors"] = append(c.Shards["model.safetensors"], list...) }
	}
	for name, test := range map[string]struct {
		experts int
		change  func(c *Checkpoint)
		kind    error
		want    string
	}{
		"a missing expert": {4, func(c *Checkpoint) { c.Remove("experts.2.") }, fault.ErrIncomplete,
			"layer 0, gate_proj: expert indices are non-contiguous: 2 is missing (found 0-1, 3)"},
		"several missing experts": {9, func(c *Checkpoint) { c.Remove("experts.2."); c.Remove("experts.3."); c.Remove("experts.6.") }, fault.ErrIncomplete,
			"layer 0, gate_proj: expert indices are non-contiguous: 2-3, 6 are missing (found 0-1, 4-5, 7-8)"},
		"a missing expert of one projection": {4, func(c *Checkpoint) { c.Remove("experts.1.down_proj") }, fault.ErrIncomplete,
			"layer 0, down_proj: expert indices are non-contiguous: 1 is missing (found 0, 2-3)"},
		"the last expert missing": {4, func(c *Checkpoint) { c.Remove("experts.3.") }, fault.ErrIncomplete,
			"layer 0, gate_proj: experts end at 2, config.json says num_experts 4"},
		"more experts than the config says": {4, func(c *Checkpoint) { c.Files["config.json"] = MoeConfig(3) }, fault.ErrCorrupt,
			"layer 0: 4 experts, config.json says num_experts 3"},
		"a projection missing": {4, func(c *Checkpoint) { c.Remove("up_proj") }, fault.ErrIncomplete, "layer 0: up_proj is missing from every expert"},
		"experts of unequal shape": {2, func(c *Checkpoint) { c.Find(e + "1.up_proj.weight").Shape = []int{4, 2} }, fault.ErrCorrupt,
			"layer 0, up_proj: expert 0's up_proj has shape [2 4], expert 1's up_proj has [4 2]"},
		"gate and up of unequal shape": {1, func(c *Checkpoint) { c.Find(e + "0.up_proj.weight").Shape = []int{4, 2} }, fault.ErrCorrupt,
			"layer 0: expert 0's gate_proj has shape [2 4], expert 0's up_proj has [4 2]"},
		"down of the wrong shape": {1, func(c *Checkpoint) { c.Find(e + "0.down_proj.weight").Shape = []int{2, 4} }, fault.ErrCorrupt,
			"gate_proj is [2 4] and down_proj is [2 4]"},
		"experts of unequal type": {2, func(c *Checkpoint) {
			*c.Find(e + "1.up_proj.weight") = Tensor{Name: e + "1.up_proj.weight", DType: "F32", Shape: []int{2, 4}}
			c.Remove("experts.1.up_proj.weight_scale_inv")
		}, fault.ErrCorrupt, "expert 0's up_proj is F8_E4M3, expert 1's up_proj is F32"},
		"an FP8 weight without its scale": {2, func(c *Checkpoint) { c.Remove("experts.1.up_proj.weight_scale_inv") }, fault.ErrIncomplete,
			`tensor "` + e + `1.up_proj.weight": is FP8 (F8_E4M3) and has no scale: "` + e + `1.up_proj.weight_scale_inv" is in no shard`},
		"a scale without its weight": {2, add(Tensor{Name: "x.weight_scale_inv", DType: "F32", Shape: []int{1, 1}}), fault.ErrIncomplete,
			`tensor "x.weight_scale_inv": a scale without its weight: "x.weight" is in no shard`},
		"a scale of a weight that is not FP8": {2, add(Tensor{Name: "model.language_model.norm.weight_scale_inv", DType: "F32", Shape: []int{1}}), fault.ErrCorrupt,
			`a scale of "model.language_model.norm.weight", which is BF16 and needs none`},
		"a scale grid of the wrong shape": {2, func(c *Checkpoint) { c.Find(e + "1.up_proj.weight_scale_inv").Shape = []int{1, 2} }, fault.ErrCorrupt,
			`up_proj.weight_scale_inv": scale grid is [1 2], want [1 1] for a weight of [2 4] in blocks of 128x128`},
		"a scale grid of the wrong rank": {2, func(c *Checkpoint) { c.Find(e + "1.up_proj.weight_scale_inv").Shape = []int{1, 1, 1} }, fault.ErrCorrupt,
			`scale grid is [1 1 1], want [1 1]`},
		"a block size that does not fit": {2, func(c *Checkpoint) {
			c.Files["config.json"] = strings.Replace(c.Files["config.json"], "[128, 128]", "[2, 2]", 1)
		}, fault.ErrCorrupt, `scale grid is [1 1], want [2 1] for a weight of [4 2] in blocks of 2x2`},
		"a scale of another type": {2, func(c *Checkpoint) {
			*c.Find(e + "1.up_proj.weight_scale_inv") = Tensor{Name: e + "1.up_proj.weight_scale_inv", DType: "I8", Shape: []int{1, 1}}
		}, fault.ErrUnsupported, "is I8; scales are read in F32, BF16, F16, F8_E8M0 and U8 (as E8M0)"},
		"scales of two dialects": {2, add(Tensor{Name: e + "1.up_proj.weight_scale", DType: "F32", Shape: []int{}}), fault.ErrCorrupt,
			`has two scales, "` + e + `1.up_proj.weight_scale_inv" and "` + e + `1.up_proj.weight_scale"`},
		"another FP8 type": {2, func(c *Checkpoint) { c.Find("model.language_model.norm.weight").DType = "F8_E5M2" }, fault.ErrUnsupported,
			`tensor "model.language_model.norm.weight": is F8_E5M2, of the FP8 types only F8_E4M3 is converted`},
		"an FP8 vector": {2, func(c *Checkpoint) {
			c.Find("model.language_model.norm.weight").DType = "F8_E4M3"
			add(Tensor{Name: "model.language_model.norm.weight_scale_inv", DType: "F32", Shape: []int{1}})(c)
		}, fault.ErrUnsupported, "FP8 of shape [4], a matrix was expected"},
		"an expert tensor of unknown kind": {2, add(Tensor{Name: e + "0.gate_proj.bias", DType: "BF16", Shape: []int{2}}), fault.ErrUnsupported,
			`tensor "` + e + `0.gate_proj.bias": an expert has gate_proj.weight`},
		"an expert index with a leading zero": {2, add(Tensor{Name: e + "01.gate_proj.weight", DType: "BF16", Shape: []int{2, 4}}), fault.ErrCorrupt,
			`"01" is no expert index`},
		"a whole layer missing": {2, func(c *Checkpoint) {
			c.Files["config.json"] = strings.Replace(c.Files["config.json"], `"num_hidden_layers": 1`, `"num_hidden_layers": 2`, 1)
		}, fault.ErrIncomplete, "layer 1: no tensor, config.json says num_hidden_layers 2"},
		"more layers than the config says": {2, add(Tensor{Name: "model.language_model.layers.7.norm.weight", DType: "BF16", Shape: []int{4}}), fault.ErrCorrupt,
			`tensor "model.language_model.layers.7.norm.weight": is in layer 7, config.json says num_hidden_layers 1`},
		"no experts at all": {2, func(c *Checkpoint) {
			c.Remove("experts")
			add(Tensor{Name: "model.language_model.layers.0.norm.weight", DType: "BF16", Shape: []int{4}})(c)
		}, fault.ErrIncomplete, "layer 0: no experts, config.json says num_experts 2"},
		"stacked experts, too many": {2, func(c *Checkpoint) {
			c.Remove("experts")
			add(Tensor{Name: e + "gate_up_proj", DType: "BF16", Shape: []int{3, 4, 4}}, Tensor{Name: e + "down_proj", DType: "BF16", Shape: []int{3, 4, 2}})(c)
		}, fault.ErrCorrupt, `experts.gate_up_proj": shape is [3 4 4], config.json says num_experts 2`},
		"stacked experts, half of them": {2, func(c *Checkpoint) {
			c.Remove("experts")
			add(Tensor{Name: e + "gate_up_proj", DType: "BF16", Shape: []int{2, 4, 4}})(c)
		}, fault.ErrIncomplete, "layer 0: " + e + "down_proj is in no shard"},
		"an expert number beyond all memory": {2, func(c *Checkpoint) {
			c.Find(e + "1.gate_proj.weight").Name = e + "4000000000000.gate_proj.weight"
			c.Find(e + "1.gate_proj.weight_scale_inv").Name = e + "4000000000000.gate_proj.weight_scale_inv"
		}, fault.ErrIncomplete, "layer 0, gate_proj: expert indices are non-contiguous: 1-3999999999999 are missing (found 0, 4000000000000)"},
		"a number of experts beyond all memory": {2, func(c *Checkpoint) { c.Files["config.json"] = MoeConfig(4000000000000) }, fault.ErrIncomplete,
			"layer 0, gate_proj: experts end at 1, config.json says num_experts 4000000000000"},
		"a layer without its experts": {2, func(c *Checkpoint) {
			c.Files["config.json"] = strings.Replace(c.Files["config.json"], `"num_hidden_layers": 1`, `"num_hidden_layers": 2`, 1)
			add(Tensor{Name: "model.language_model.layers.1.norm.weight", DType: "BF16", Shape: []int{4}})(c)
		}, fault.ErrIncomplete, "layer 1: no experts, config.json says num_experts 2"},
	} {
		t.Run(name, func(t *testing.T) {
			c := Moe(test.experts)
			test.change(c)
			_, _, err := look(t, c, false)
			require.ErrorIs(t, err, test.kind)
			assert.Contains(t, err.Error(), test.want)
		})
	}
}

func TestExpertsMayBeBF16InPartAndUnderScalesOfSeveralTypes(t *testing.T) {
	c := Moe(3)
	const e = "model.language_model.layers.0.mlp.experts."
	c.Find(e + "1.up_proj.weight").DType = "BF16"
	c.Remove("experts.1.up_proj.weight_scale_inv")
	c.Find(e + "2.gate_proj.weight_scale_inv").DType = "F32"
	_, _, err := look(t, c, false)
	require.NoError(t, err)

	// Which has them transposed.
	c.Files["config.json"] = strings.Replace(c.Files["config.json"], "qwen3_5_moe", "qwen3_vl_moe", 1)
	_, _, err = look(t, c, false)
	require.ErrorIs(t, err, fault.ErrCorrupt)
}

func TestFormOf(t *testing.T) {
	stacked := func(c *Checkpoint) {
		c.Remove("mlp.experts.")
		c.Shards["model.safetensors"] = append(c.Shards["model.safetensors"],
			Tensor{Name: "model.language_model.layers.0.mlp.experts.gate_up_proj", DType: "BF16", Shape: []int{2, 4, 4}})
	}
	for name, test := range map[string]struct {
		change func(c *Checkpoint)
		want   string
	}{
		"per expert":                     {func(*Checkpoint) {}, "6 FP8 tensors, one tensor per expert"},
		"stacked":                        {stacked, "no FP8, experts stacked"},
		"saved by MLX, FP8 all the same": {func(*Checkpoint) {}, "6 FP8 tensors, one tensor per expert"},
		"MLX by names": {func(c *Checkpoint) {
			stacked(c)
			c.Find("model.language_model.layers.0.mlp.experts.gate_up_proj").Name = "language_model.model.layers.0.mlp.switch_mlp.gate_proj.weight"
		}, "MLX-native"},
		"MLX, quantized": {func(c *Checkpoint) {
			c.Shards["model.safetensors"] = []Tensor{
				{Name: "language_model.model.layers.0.mlp.gate.weight", DType: "U32", Shape: []int{1, 1}},
				{Name: "language_model.model.layers.0.mlp.gate.scales", DType: "BF16", Shape: []int{1, 1}},
			}
		}, "MLX-native, quantized"},
	} {
		t.Run(name, func(t *testing.T) {
			c := Moe(2)
			test.change(c)
			v := open(t, c)
			f := family.Of(v.Config)
			sites, err := f.Sites(v, family.Options{})
			require.NoError(t, err)
			assert.Equal(t, test.want, f.FormOf(v, sites).String())
		})
	}
}

func TestResolveLayout(t *testing.T) {
	moe, dense, unknown := familyOf(t, "qwen3_5_moe"), familyOf(t, "qwen3_5"), familyOf(t, "something")
	for _, test := range []struct {
		f    *family.Family
		in   family.Layout
		want family.Layout
		kind error
	}{
		{moe, "", family.Stacked, nil}, {moe, family.Auto, family.Stacked, nil}, {moe, family.PerExpert, family.PerExpert, nil},
		{dense, family.Auto, family.PerExpert, nil}, {dense, family.Stacked, "", fault.ErrUnsupported},
		{unknown, "", family.PerExpert, nil}, {unknown, family.Stacked, "", fault.ErrUnsupported},
		{moe, family.MLX, family.MLX, nil}, {familyOf(t, "llama4"), family.MLX, "", fault.ErrUnsupported}, {moe, "flat", "", fault.ErrUsage},
		{familyOf(t, "qwen3_5_moe_text"), "", family.Stacked, nil},
	} {
		got, err := test.f.Resolve(test.in)
		assert.Equal(t, test.want, got)
		require.ErrorIs(t, err, test.kind)
	}
}

func familyOf(t *testing.T, modelType string) *family.Family {
	t.Helper()
	c, err := checkpoint.ParseConfig([]byte(`{"model_type":"` + modelType + `"}`))
	require.NoError(t, err)
	return family.Of(c)
}
