package family

import (
	"slices"
	"strings"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/fault"
)

// companions are small tensors, of quantized activations and caches for the most part, which the
// output has no use for, by the last part of their names or the last but one. The spellings are
// those of vLLM's maybe_remap_kv_scale_name, text-generation-inference, compressed-tensors,
// ModelOpt, Quark, fbgemm (transformers) and Mistral.
var companions = []struct {
	names, modules []string
	endings        []string // of the whole name
	reason         string
}{
	{
		names: []string{
			"input_scale", "input_scale_inv", "input_scale_ub", "input_scale_2", "input_global_scale", "input_zero_point", "input_amax", "activation_scale", "activation_scale_inv", "act_scale",
			"output_scale", "output_scale_inv", "output_zero_point", "output_amax",
		},
		modules: []string{"input_quantizer", "output_quantizer", "act_quant", "act_quantizer", "activation_quantizer"},
		endings: []string{"_activation_scale", "_input_scale"},
		reason:  "activation scale; activations of the output are not quantized",
	},
	{
		names: []string{
			"k_scale", "v_scale", "q_scale", "kv_scale", "_k_scale", "_v_scale", "_q_scale", "k_scale_inv", "v_scale_inv", "q_scale_inv", "kv_cache_scale", "k_cache_scale", "v_cache_scale",
			"prob_scale", "_prob_scale", "prob_output_scale", "p_scale", "k_zero_point", "v_zero_point", "q_zero_point", "kv_zero_point", "k_zp", "v_zp", "k_amax", "v_amax",
		},
		modules: []string{
			"k_cache", "v_cache", "kv_cache", "k_bmm_quantizer", "v_bmm_quantizer", "q_bmm_quantizer", "p_bmm_quantizer", "softmax_quantizer", "k_fake_quantizer", "v_fake_quantizer", "q_fake_quantizer",
			"kv_fake_quantizer",
		},
		reason: "scale of an FP8 key/value cache; runtimes choose the cache's type themselves",
	},
	{endings: []string{"rotary_emb.inv_freq"}, reason: "rotary frequencies; runtimes compute them from config.json"},
}

// companion returns the reason to drop a companion, "" for other tensors. A matrix is never one,
// whatever its name.
func companion(t *checkpoint.Tensor) string {
	name := t.Name
	if n := len(t.Shape); n > 1 && t.Shape[n-1] > 2 && product(t.Shape) > t.Shape[n-1] {
		return ""
	}
	module, last := splitLast(name)
	_, parent := splitLast(module)
	for _, x := range companions {
		if slices.Contains(x.names, last) || slices.Contains(x.modules, parent) && measures(last) || hasSuffix(name, x.endings) {
			return x.reason
		}
	}
	return ""
}

// measures reports whether a quantizer's tensor only describes the range of values. What values are
// multiplied by beforehand, such as ModelOpt's _pre_quant_scale, is part of what the weight means.
func measures(last string) bool {
	return hasSuffix(last, []string{"scale", "scale_inv", "amax", "zero_point", "zp", "qscale_act", "qzero_act"}) &&
		!strings.Contains(last, "pre_quant") && !strings.Contains(last, "smooth")
}

// checkStray refuses a tensor inside a module whose weight is converted that is neither its weight
// nor its bias: a rotation, a zero point, a smoothing factor or an adapter would change what the
// weight means.
func (c *classifier) checkStray(t *checkpoint.Tensor) error {
	if strings.Count(t.Name, ".") > mostParts {
		return nil
	}
	for name := t.Name; ; {
		at := strings.LastIndexByte(name, '.')
		if at < 0 {
			return nil
		}
		name = name[:at]
		w := c.inv.Lookup(name + ".weight")
		if w == nil || w.DType != dtype.F8E4M3 || w == t {
			continue
		}
		if rest := t.Name[at+1:]; rest != "bias" {
			return stranger(t, w)
		}
		return nil
	}
}

// checkStackStray is checkStray for what is beside a stack of experts:
// experts.gate_up_proj_pre_quant_scale.
func (c *classifier) checkStackStray(t *checkpoint.Tensor) error {
	for name := t.Name; ; {
		at := strings.LastIndexByte(name, '_')
		if at < 0 || strings.IndexByte(name[at:], '.') >= 0 {
			return nil
		}
		name = name[:at]
		if w := c.inv.Lookup(name); w != nil && w.DType == dtype.F8E4M3 && t.Name[at+1:] != "bias" {
			return stranger(t, w)
		}
	}
}

func stranger(t, w *checkpoint.Tensor) error {
	return fault.Unsupported(t.String(), "belongs to %q, which is FP8, and is nothing that metalcast knows there: it may change what the weight means", w.Name)
}

// isStrayScale recognises a scale, zero point or range of an attention, or of its key and value
// projections, that no table lists. It is not a parameter of a model that runtimes have. Deeper
// down only single numbers count: the vector of a norm may also be called scale.
func (c *classifier) isStrayScale(t *checkpoint.Tensor) bool {
	module, last := splitLast(t.Name)
	if !hasSuffix(last, []string{"scale", "scales", "scale_inv", "scale_ub", "zero_point", "zero_points", "_zp", "amax"}) {
		return false
	}
	for depth := 0; module != "" && depth < mostDepth; depth++ {
		if depth > 0 && product(t.Shape) != 1 {
			return false
		}
		for _, p := range []string{".k_proj", ".v_proj", ".qkv_proj"} {
			if strings.HasSuffix(module, p) || c.inv.Lookup(module+p+".weight") != nil {
				return true
			}
		}
		module, _ = splitLast(module)
	}
	return false
}

// mostDepth is how far below an attention its scales are looked for.
const mostDepth = 4

// splitLast splits a name before its last part; module is "" if it has only one part.
func splitLast(name string) (module, last string) {
	if at := strings.LastIndexByte(name, '.'); at >= 0 {
		return name[:at], name[at+1:]
	}
	return "", name
}
