package family

import (
	"slices"

	"github.com/tidwall/gjson"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/fault"
)

// describing are the keys of a quantization_config that say how weights were quantized or what a
// runtime does to activations and its cache; tensors, or nothing, decide what the output has of
// that. From the configs of transformers (FineGrainedFP8Config, FbgemmFp8Config,
// CompressedTensorsConfig, QuarkConfig, TorchAoConfig), compressed-tensors (QuantizationConfig),
// NVIDIA's ModelOpt and vLLM, and from published releases.
var describing = []string{
	"quant_method", "quant_algo", "quant_type", "quant_mode", "fmt", "format", "activation_scheme", "activation_scale_ub", "weight_block_size", "block_structure", "group_size",
	"modules_to_not_convert", "modules_to_convert", "ignored_layers", "ignore", "exclude", "exclude_modules", "quantized_layers", "packed_modules_mapping", "targets",
	"dequantize", "scale_fmt", "scale_format", "scale_dtype", "expert_dtype", "store_dtype", "weight_dtype", "weight_format", "activation_format", "is_checkpoint_fp8_serialized",
	"kv_cache_scheme", "kv_cache_quant_algo", "kv_cache_quant_config", "kv_cache_group", "kv_cache_post_rope", "min_kv_scale", "softmax_quant_spec", "quantization_status", "global_compression_ratio",
	"version", "producer", "export", "run_compressed", "use_optimized_inference", "global_quant_config", "layer_quant_config", "layer_type_quant_config", "bits", "num_bits",
	"input_activations", "output_activations", "include_input_output_embeddings", "untie_embedding_weights", "quant_type_kwargs", "load_in_8bit", "load_in_4bit",
}

// ofWeights are the keys of compressed-tensors' QuantizationArgs that only describe; weightSettings
// has the rest.
var ofWeights = []string{
	"num_bits", "type", "strategy", "group_size", "block_structure", "dynamic", "observer", "observer_kwargs", "scale_dtype", "zp_dtype", "symmetric", "targets",
}

// checkQuantization refuses settings that change what the stored weights mean, or may: those that
// are unknown and switched on. What a conversion deletes with quantization_config must not have
// mattered.
func checkQuantization(c *checkpoint.Config) error {
	if c.Get("quantization").IsObject() {
		return nil // MLX's own, whose keys are modules
	}
	for _, path := range c.QuantizationPaths() {
		if err := checkKeys(path, c.Get(path)); err != nil {
			return err
		}
	}
	return nil
}

func checkKeys(where string, q gjson.Result) (err error) {
	q.ForEach(func(k, v gjson.Result) bool {
		key := k.String()
		place := where + "." + key
		switch {
		case off(v) || slices.Contains(describing, key):
		case key == "transform_config":
			err = meaning(place, "describes rotations of the weights that a runtime has to undo; the output would lack them")
		case key == "sparsity_config":
			if format := v.Get("format").String(); format != "" && format != "dense" {
				err = meaning(place, "says that weights are stored as "+format)
			}
		case key == "quantization": // as hf_quant_config.json nests it
			err = checkKeys(place, v)
		case key == "weights":
			err = weightSettings(place, v)
		case key == "config_groups":
			v.ForEach(func(name, group gjson.Result) bool {
				if group.IsObject() {
					err = checkKeys(place+"."+name.String(), group)
				}
				return err == nil
			})
		default:
			err = meaning(place, "is "+compact(v)+", a setting that metalcast does not know: it may change what the weights mean")
		}
		return err == nil
	})
	return err
}

// weightSettings checks how the weights of a group are quantized.
func weightSettings(where string, w gjson.Result) (err error) {
	if s := w.Get("symmetric"); s.Exists() && s.Type == gjson.False {
		return meaning(where+".symmetric", "is false: weights with a zero point are not converted")
	}
	w.ForEach(func(k, v gjson.Result) bool {
		if !off(v) && !slices.Contains(ofWeights, k.String()) {
			err = meaning(where+"."+k.String(), "is "+compact(v)+", a setting that metalcast does not know: it may change what the weights mean")
		}
		return err == nil
	})
	return err
}

// off reports whether a setting is null, false or empty.
func off(v gjson.Result) bool {
	switch v.Type {
	case gjson.Null, gjson.False:
		return true
	case gjson.String:
		return v.Str == ""
	case gjson.JSON:
		return v.IsArray() && len(v.Array()) == 0 || v.IsObject() && len(v.Map()) == 0
	}
	return false
}

// compact returns a setting's text on one line.
func compact(v gjson.Result) string { return v.Get("@ugly").Raw }

func meaning(key, what string) error {
	return fault.Unsupported(checkpoint.ConfigName, "%s %s", key, what).WithHint(
		"convert the checkpoint that it was made from; where the setting only describes, remove it from config.json in a copy")
}
