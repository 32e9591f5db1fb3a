package family

import (
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/dtype"
)

// reader is a runtime that loads a format as it is, strictly and with the stored values, and its
// conditions. Every row, and what breaks each condition, has been run (consumers/test_foreign.py).
type reader struct {
	format, runtime string
	families        []string // only dense ones, because every format names experts differently
	needs, may      []string // endings of a quantized module's tensors
	settings        func(q gjson.Result) bool
	module          func(v *checkpoint.Inventory, q gjson.Result, module string) bool // shapes
	// Plain modules must be in modules_to_not_convert.
	listed bool
}

var ofNVFP4 = []string{"input_global_scale", "input_scale", "k_scale", "v_scale"}

var readers = []reader{
	{
		format: awq, runtime: MLXLM, families: []string{"qwen3"}, needs: []string{"qweight", "qzeros", "scales"}, module: awqModule,
		settings: func(q gjson.Result) bool {
			return q.Get("quant_method").String() == "awq" && q.Get("bits").Int() == 4 &&
				onlyKeys(q, "quant_method", "bits", "group_size", "zero_point", "version", "backend", "modules_to_not_convert", "do_fuse", "fuse_max_seq_len", "modules_to_fuse", "exllama_config")
		},
	},
	{
		format: bitNet, runtime: MLXLM, families: []string{"qwen3"}, needs: []string{"weight", "weight_scale"}, listed: true,
		settings: func(q gjson.Result) bool {
			return q.Get("quant_method").String() == "bitnet" && onlyKeys(q, "quant_method", "modules_to_not_convert", "linear_class", "quantization_mode")
		},
	},
	{
		format: int4CT, runtime: MLXVLM, families: []string{"qwen3"}, needs: []string{"weight_packed", "weight_scale"}, may: []string{"weight_shape"},
		settings: packQuantized, module: packedModule,
	},
	{
		format: int8CT, runtime: MLXVLM, families: []string{"qwen3"}, needs: []string{"weight_packed", "weight_scale"}, may: []string{"weight_shape"},
		settings: packQuantized, module: packedModule,
	},
	{
		format: nvfp4CT, runtime: MLXVLM, families: []string{"qwen3"}, needs: []string{"weight_packed", "weight_scale", "weight_global_scale"}, may: ofNVFP4,
		settings: func(q gjson.Result) bool {
			return q.Get("format").String() == "nvfp4-pack-quantized" && checkKeys("", q) == nil
		},
		module: nvfp4Module("weight_packed"),
	},
	{
		format: nvfp4, runtime: MLXVLM, families: []string{"qwen3"}, needs: []string{"weight", "weight_scale", "weight_scale_2"}, may: ofNVFP4,
		settings: func(q gjson.Result) bool {
			return q.Get("quant_method").String() == "modelopt" && q.Get("quant_algo").String() == "NVFP4" && checkKeys("", q) == nil
		},
		module: nvfp4Module("weight"),
	},
}

// readerOf returns the runtime that loads the family's weights, all in one format, "" if none was
// seen to.
func (f *Family) readerOf(v *checkpoint.Inventory, format string) string {
	q := v.Config.Quantization()
	for i := range readers {
		r := &readers[i]
		if r.format == format && slices.Contains(r.families, f.Name()) && f.LoadsInMLX(v.Config) && r.settings(q) && r.whole(v, q) {
			return r.runtime
		}
	}
	return ""
}

// whole reports whether the reader knows every tensor (of a quantized module, which has all that it
// needs, or a plain weight), and all layers have the same modules.
func (r *reader) whole(v *checkpoint.Inventory, q gjson.Result) bool {
	listed := map[string]bool{}
	for _, x := range q.Get("modules_to_not_convert").Array() {
		listed[x.String()] = true
	}
	mark := "." + r.needs[0]
	layers := map[string]int{} // how many have a module
	for i := range v.Tensors {
		t := &v.Tensors[i]
		module, last := splitLast(t.Name)
		if _, _, ok := layerOf(t.Name); ok && (last == r.needs[0] || last == "weight") {
			_, rest, _ := strings.Cut(module, ".layers.")
			_, rest, _ = strings.Cut(rest, ".")
			layers[rest]++
		}
		first := v.Lookup(module + mark)
		quantized := first != nil && isInteger(first.DType)
		switch {
		case quantized && t == first:
			if listed[module] || !r.complete(v, module) || r.module != nil && !r.module(v, q, module) {
				return false
			}
		case quantized:
			if !slices.Contains(r.needs, last) && !slices.Contains(r.may, last) {
				return false
			}
		case last != "weight" || isInteger(t.DType):
			return false
		case r.listed && len(t.Shape) == 2 && !strings.HasSuffix(module, "embed_tokens") && !listed[module]:
			return false
		}
	}
	all := Layers(v.Config)
	for _, n := range layers {
		if n != all {
			return false
		}
	}
	return true
}

func (r *reader) complete(v *checkpoint.Inventory, module string) bool {
	return !slices.ContainsFunc(r.needs, func(name string) bool { return v.Lookup(module+"."+name) == nil })
}

// mlxGroup reports whether MLX's affine formats have a group size.
func mlxGroup(n int64) bool { return n == 32 || n == 64 || n == 128 }

// awqModule accepts what AutoAWQ's GEMM kernels accept: words along outputs, [in, out/8].
func awqModule(v *checkpoint.Inventory, _ gjson.Result, module string) bool {
	w, s := v.Lookup(module+".qweight"), v.Lookup(module+".scales")
	return w.DType == dtype.I32 && len(w.Shape) == 2 && len(s.Shape) == 2 && s.Shape[0] > 0 && s.Shape[1] == 8*w.Shape[1] &&
		w.Shape[0]%s.Shape[0] == 0 && mlxGroup(w.Shape[0]/s.Shape[0])
}

// packQuantized accepts one group of modules, whose weights have groups and no zero points.
func packQuantized(q gjson.Result) bool {
	w := q.Get("config_groups.@values.0.weights")
	strategy := w.Get("strategy").String()
	return q.Get("format").String() == "pack-quantized" && len(q.Get("config_groups").Map()) == 1 && (strategy == "group" || strategy == "") &&
		mlxGroup(w.Get("group_size").Int()) && checkKeys("", q) == nil
}

func packedModule(v *checkpoint.Inventory, q gjson.Result, module string) bool {
	weights := q.Get("config_groups.@values.0.weights")
	bits, group := weights.Get("num_bits").Int(), weights.Get("group_size").Int()
	w, s := v.Lookup(module+".weight_packed"), v.Lookup(module+".weight_scale")
	return w.DType == dtype.I32 && len(w.Shape) == 2 && len(s.Shape) == 2 && bits > 0 && w.Shape[1]*(32/bits) == s.Shape[1]*group && w.Shape[0] == s.Shape[0]
}

func nvfp4Module(weight string) func(*checkpoint.Inventory, gjson.Result, string) bool {
	return func(v *checkpoint.Inventory, _ gjson.Result, module string) bool {
		w, s := v.Lookup(module+"."+weight), v.Lookup(module+".weight_scale")
		return w.DType == dtype.U8 && s.DType == dtype.F8E4M3 && len(w.Shape) == 2 && len(s.Shape) == 2 && w.Shape[0] == s.Shape[0] && w.Shape[1] == 8*s.Shape[1]
	}
}

// onlyKeys reports whether every setting that is switched on is one of these.
func onlyKeys(q gjson.Result, keys ...string) bool {
	only := true
	q.ForEach(func(k, v gjson.Result) bool {
		only = off(v) || slices.Contains(keys, k.String())
		return only
	})
	return only
}
