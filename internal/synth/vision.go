package synth

import (
	"slices"
	"strconv"
)

// vision are the dimensions of the small vision towers.
var vision = struct{ depth, hidden, intermediate, heads, channels, patch, frames, positions, merge int }{
	depth: 2, hidden: 64, intermediate: 128, heads: 4, channels: 3, patch: 16, frames: 2, positions: 16, merge: 2,
}

// qwenTower is the vision tower of the Qwen models; the first deep of its blocks have mergers of
// their own. Mergers produce vectors of the language model's hidden size.
func qwenTower(d dims, deep int) part {
	v := vision
	merged := v.hidden * v.merge * v.merge
	rows := []spec{
		row("patch_embed.proj.weight", kernel, v.hidden, v.channels, v.frames, v.patch, v.patch),
		row("patch_embed.proj.bias", bias, v.hidden),
		row("pos_embed.weight", matrix, v.positions, v.hidden),
	}
	for b := range v.depth {
		rows = slices.Concat(rows, under("blocks."+strconv.Itoa(b)+".", layerNormed("norm1", v.hidden), layerNormed("norm2", v.hidden),
			linear("attn.qkv", 3*v.hidden, v.hidden), linear("attn.proj", v.hidden, v.hidden),
			linear("mlp.linear_fc1", v.intermediate, v.hidden), linear("mlp.linear_fc2", v.hidden, v.intermediate)))
	}
	merger := func(prefix string, normed int) []spec {
		return under(prefix, layerNormed("norm", normed), linear("linear_fc1", merged, merged), linear("linear_fc2", d.hidden, merged))
	}
	rows = append(rows, merger("merger.", v.hidden)...)
	for i := range deep {
		rows = append(rows, merger("deepstack_merger_list."+strconv.Itoa(i)+".", merged)...)
	}
	return once("model.visual.", rows)
}

// pixtralTower is the vision tower of the Mistral models, with the projection of its output.
func pixtralTower(d dims) []part {
	v := vision
	attention := []spec{
		row("attention.q_proj.weight", matrix, v.hidden, v.hidden), row("attention.k_proj.weight", matrix, v.hidden, v.hidden),
		row("attention.v_proj.weight", matrix, v.hidden, v.hidden), row("attention.o_proj.weight", matrix, v.hidden, v.hidden),
		row("attention_norm.weight", layerNorm, v.hidden), row("ffn_norm.weight", layerNorm, v.hidden),
	}
	return []part{
		once("vision_tower.", []spec{
			row("patch_conv.weight", kernel, v.hidden, v.channels, v.patch, v.patch),
			row("ln_pre.weight", layerNorm, v.hidden),
		}),
		span("vision_tower.transformer.layers.@.", 0, v.depth, attention, under("feed_forward.", dims{hidden: v.hidden}.gated(matrix, v.intermediate))),
		once("multi_modal_projector.", []spec{
			row("norm.weight", layerNorm, v.hidden),
			row("patch_merger.merging_layer.weight", matrix, v.hidden, v.hidden*v.merge*v.merge),
			row("linear_1.weight", matrix, d.hidden, v.hidden),
			row("linear_2.weight", matrix, d.hidden, d.hidden),
		}),
	}
}

// llamaTower is the vision tower of Llama 4. Its adapter shuffles merge*merge patches into one.
func llamaTower(d dims) []part {
	v := vision
	layer := slices.Concat(layerNormed("input_layernorm", v.hidden), layerNormed("post_attention_layernorm", v.hidden),
		linear("self_attn.q_proj", v.hidden, v.hidden), linear("self_attn.k_proj", v.hidden, v.hidden),
		linear("self_attn.v_proj", v.hidden, v.hidden), linear("self_attn.o_proj", v.hidden, v.hidden),
		linear("mlp.fc1", v.intermediate, v.hidden), linear("mlp.fc2", v.hidden, v.intermediate))
	return []part{
		once("vision_model.", []spec{
			row("class_embedding", bias, v.hidden),
			row("positional_embedding_vlm", matrix, v.positions+1, v.hidden),
			row("patch_embedding.linear.weight", matrix, v.hidden, v.channels*v.patch*v.patch),
			row("vision_adapter.mlp.fc1.weight", matrix, v.hidden, v.intermediate),
			row("vision_adapter.mlp.fc2.weight", matrix, v.hidden, v.hidden),
		}, layerNormed("layernorm_pre", v.hidden), layerNormed("layernorm_post", v.hidden)),
		span("vision_model.model.layers.@.", 0, v.depth, layer),
		once("multi_modal_projector.", []spec{row("linear_1.weight", matrix, d.hidden, v.hidden)}),
	}
}
