package synth

import "encoding/json"

// qwen35Config returns config.json, as complete as mlx-lm, mlx-vlm and transformers need it.
func qwen35Config(m *model) object {
	class := map[string]string{MoE: "Qwen3_5Moe", Dense: "Qwen3_5"}[m.Family]
	text := m.textConfig()
	c := object{
		"architectures":         []string{class + "ForConditionalGeneration"},
		"dtype":                 "bfloat16",
		"image_token_id":        imagePad,
		"model_type":            m.Family,
		"text_config":           text,
		"tie_word_embeddings":   false,
		"transformers_version":  transformersVersion,
		"video_token_id":        videoPad,
		"vision_end_token_id":   visionEnd,
		"vision_start_token_id": visionStart,
	}
	if m.Flat {
		c = text
		c["architectures"] = []string{class + "ForCausalLM"}
		c["transformers_version"] = transformersVersion
	}
	if m.Vision {
		c["vision_config"] = m.visionConfig()
	}
	if m.isFP8() {
		c["quantization_config"] = m.quantizationConfig()
	}
	return c
}

func (m *model) textConfig() object {
	layerTypes := make([]string, m.layers)
	for l := range layerTypes {
		layerTypes[l] = "linear_attention"
		if isFull(l) {
			layerTypes[l] = "full_attention"
		}
	}
	mtpLayers := 0
	if m.MTP {
		mtpLayers = 1
	}
	c := object{
		"attention_bias":               false,
		"attention_dropout":            json.Number("0.0"),
		"attn_output_gate":             true,
		"dtype":                        "bfloat16",
		"eos_token_id":                 endOfText,
		"full_attention_interval":      fullAttentionEvery,
		"head_dim":                     m.headDim,
		"hidden_act":                   "silu",
		"hidden_size":                  m.hidden,
		"initializer_range":            json.Number("0.02"),
		"layer_types":                  layerTypes,
		"linear_conv_kernel_dim":       m.conv,
		"linear_key_head_dim":          m.linKeyDim,
		"linear_num_key_heads":         m.linKeyHeads,
		"linear_num_value_heads":       m.linValueHeads,
		"linear_value_head_dim":        m.linValueDim,
		"mamba_ssm_dtype":              "float32",
		"max_position_embeddings":      262144,
		"mlp_only_layers":              []int{},
		"model_type":                   m.Family + "_text",
		"mtp_num_hidden_layers":        mtpLayers,
		"mtp_use_dedicated_embeddings": false,
		"num_attention_heads":          m.heads,
		"num_hidden_layers":            m.layers,
		"num_key_value_heads":          m.kvHeads,
		"partial_rotary_factor":        json.Number("0.25"),
		"rms_norm_eps":                 json.Number("1e-06"),
		"rope_parameters":              m.ropeParameters(),
		"tie_word_embeddings":          false,
		"use_cache":                    true,
		"vocab_size":                   m.vocab,
	}
	if m.experts == 0 {
		c["intermediate_size"] = m.intermediate
		return c
	}
	c["moe_intermediate_size"] = m.intermediate
	c["num_experts"] = m.experts
	c["num_experts_per_tok"] = m.topK
	c["output_router_logits"] = false
	c["router_aux_loss_coef"] = json.Number("0.001")
	c["shared_expert_intermediate_size"] = m.intermediate
	return c
}

// ropeParameters rotates a quarter of each head.
func (m *model) ropeParameters() object {
	return object{
		"mrope_interleaved":     true,
		"mrope_section":         ropeSection(m.headDim / 8),
		"partial_rotary_factor": json.Number("0.25"),
		"rope_theta":            10_000_000,
		"rope_type":             "default",
	}
}

// ropeSection divides the frequencies among time, height and width: 11, 11 and 10 of 32 in the
// Qwen3.5 releases.
func ropeSection(frequencies int) []int {
	time := (frequencies + 2) / 3
	height := (frequencies - time + 1) / 2
	return []int{time, height, frequencies - time - height}
}

func (m *model) visionConfig() object {
	v := vision
	return object{
		"deepstack_visual_indexes": []int{},
		"depth":                    v.depth,
		"hidden_act":               "gelu_pytorch_tanh",
		"hidden_size":              v.hidden,
		"in_channels":              v.channels,
		"initializer_range":        json.Number("0.02"),
		"intermediate_size":        v.intermediate,
		"model_type":               m.Family,
		"num_heads":                v.heads,
		"num_position_embeddings":  v.positions,
		"out_hidden_size":          m.hidden,
		"patch_size":               v.patch,
		"spatial_merge_size":       v.merge,
		"temporal_patch_size":      v.frames,
	}
}

func (m *model) quantizationConfig() object {
	scheme := "dynamic"
	if m.ActivationScales {
		scheme = "static"
	}
	return object{
		"activation_scheme":      scheme,
		"fmt":                    "e4m3",
		"modules_to_not_convert": m.unquantized(),
		"quant_method":           "fp8",
		"weight_block_size":      []int{m.BlockSize, m.BlockSize},
	}
}
