package family

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/dtype"
)

// The runtimes that verdicts speak of. consumers runs these releases.
const (
	MLXLM  = "mlx-lm 0.32.2"
	MLXVLM = "mlx-vlm 0.7.10"
)

// Foreign is a quantization of weights that metalcast does not convert.
type Foreign struct {
	Format  string // "NVFP4 (ModelOpt)"
	Tensors int
	// The runtime that loads such weights of this family as they are, with their values; "" where
	// none was seen to.
	ReadBy string
}

func (f Foreign) String() string {
	if f.Tensors == 1 {
		return "1 tensor in " + f.Format
	}
	return fmt.Sprintf("%s tensors in %s", humanize.Comma(int64(f.Tensors)), f.Format)
}

// The formats by name.
const (
	awq        = "AWQ"
	gptq       = "GPTQ"
	autoRound  = "AutoRound's packing"
	bnb4       = "bitsandbytes (4 bits)"
	bnb8       = "bitsandbytes (8 bits)"
	hqq        = "HQQ"
	quanto     = "quanto"
	eetq       = "EETQ"
	torchao    = "torchao"
	comfy      = "Comfy's (comfy_quant, scale_weight)"
	aqlm       = "AQLM"
	exl2       = "EXL2"
	exl3       = "EXL3"
	bitNet     = "BitNet"
	mxfp4      = "MXFP4 (_blocks and _scales)"
	mxfp4CT    = "MXFP4 (compressed-tensors)"
	mxfp4Plain = "MXFP4"
	nvfp4CT    = "NVFP4 (compressed-tensors)"
	nvfp4      = "NVFP4 (ModelOpt)"
	fp4        = "FP4 packed in I8"
	int4CT     = "int4 (compressed-tensors pack-quantized)"
	int8CT     = "int8 (compressed-tensors pack-quantized)"
	packedCT   = "packed integers (compressed-tensors pack-quantized)"
	int8Scaled = "int8 with scales (w8a8)"
	fp8Bytes   = "FP8 whose bytes were saved as U8"
	sparse     = "compressed-tensors' sparse form"
)

// ForeignOf returns the formats of a checkpoint's weights that are neither plain nor FP8 with
// scales, those of most tensors first. They are recognised by names, types and shapes; the config
// settles what remains open.
func (f *Family) ForeignOf(v *checkpoint.Inventory) (list []Foreign) {
	d := detector{v, v.Config.Quantization().Get("quant_method").String()}
	counts := map[string]int{}
	for i := range v.Tensors {
		if format := d.format(&v.Tensors[i]); format != "" {
			counts[format]++
		}
	}
	for format, n := range counts {
		list = append(list, Foreign{format, n, f.readerOf(v, format)})
	}
	slices.SortFunc(list, func(a, b Foreign) int {
		return cmp.Or(cmp.Compare(b.Tensors, a.Tensors), cmp.Compare(a.Format, b.Format))
	})
	return list
}

// ScaledFP8 returns how many of a checkpoint's tensors are FP8 with scales, which a conversion
// dequantizes.
func ScaledFP8(v *checkpoint.Inventory) (n int) {
	for i, x := range findAllScales(v) {
		if x.n > 0 && v.Tensors[i].DType == dtype.F8E4M3 {
			n++
		}
	}
	return n
}

// detector recognises formats.
type detector struct {
	inv    *checkpoint.Inventory
	method string // the config's quant_method
}

// endings identify a format by themselves: no other tool writes tensors with these names.
var endings = []struct{ ending, format string }{
	{".W_q", hqq}, {".weight._data", quanto}, {"_weight_qdata", torchao}, {".weight:qdata", torchao}, {".comfy_quant", comfy}, {".scale_weight", comfy},
	{".codebooks", aqlm}, {".q_weight", exl2}, {".trellis", exl3}, {".SCB", bnb8}, {".absmax", bnb4}, {".weight_scales", eetq}, {".bitmask", sparse},
}

// format returns the format of a tensor, "" for one that is plain, FP8, or a companion.
func (d *detector) format(t *checkpoint.Tensor) string {
	for _, x := range endings {
		if strings.HasSuffix(t.Name, x.ending) {
			return x.format
		}
	}
	stem, isWeight := strings.CutSuffix(t.Name, ".weight")
	switch {
	case strings.HasSuffix(t.Name, ".qweight"):
		return d.qweight(t)
	case strings.HasSuffix(t.Name, ".weight_packed"):
		return d.packed(t)
	case isInteger(t.DType) && strings.HasSuffix(t.Name, "_blocks") && d.find(strings.TrimSuffix(t.Name, "_blocks")+"_scales") != nil:
		return mxfp4
	case !isInteger(t.DType) || len(t.Shape) < 2 || !isWeight && !isStackName(t.Name):
		return ""
	case d.find(stem+".SCB") != nil || d.find(stem+".weight_scales") != nil || d.find(t.Name+".absmax") != nil:
		return "" // counted at its companion
	case t.DType == dtype.U32 && d.find(stem+".scales") != nil:
		return "" // MLX's own
	}
	return d.integers(t, stem)
}

// isStackName reports whether a tensor without ".weight" is a stack of experts' matrices:
// experts.gate_up_proj.
func isStackName(name string) bool { return strings.HasSuffix(name, "_proj") }

func isInteger(t dtype.DType) bool {
	switch t {
	case dtype.I8, dtype.U8, dtype.I16, dtype.U16, dtype.I32, dtype.U32, dtype.I64, dtype.U64:
		return true
	}
	return false
}

func (d *detector) find(name string) *checkpoint.Tensor { return d.inv.Lookup(name) }

// qweight distinguishes the tools that name packed weights so: AutoAWQ packs along outputs, [in,
// out/8], AutoGPTQ along inputs.
func (d *detector) qweight(t *checkpoint.Tensor) string {
	switch {
	case strings.Contains(d.method, "auto-round") || strings.Contains(d.method, "auto_round"):
		return autoRound
	case d.method == "awq" || d.method == "gptq":
		return map[string]string{"awq": awq, "gptq": gptq}[d.method]
	}
	stem := strings.TrimSuffix(t.Name, ".qweight")
	scales := d.find(stem + ".scales")
	if scales != nil && len(t.Shape) == 2 && len(scales.Shape) == 2 && scales.Shape[1] == 8*t.Shape[1] {
		return awq
	}
	return gptq
}

// packed distinguishes compressed-tensors' packed formats.
func (d *detector) packed(t *checkpoint.Tensor) string {
	stem := strings.TrimSuffix(t.Name, "_packed")
	scale := d.find(stem + "_scale")
	switch {
	case t.DType == dtype.U8 && scale != nil && (scale.DType == dtype.U8 || scale.DType == dtype.F8E8M0):
		return mxfp4CT
	case t.DType == dtype.U8:
		return nvfp4CT
	}
	bits := d.inv.Config.Quantization().Get("config_groups.@values.0.weights.num_bits").Int()
	switch bits {
	case 4:
		return int4CT
	case 8:
		return int8CT
	}
	return packedCT
}

// integers distinguishes matrices of integers by their scales.
func (d *detector) integers(t *checkpoint.Tensor, stem string) string {
	var scale *checkpoint.Tensor
	for _, name := range []string{t.Name + "_scale", t.Name + "_scale_inv", stem + ".scale", t.Name + "_weight_scale"} {
		if scale = d.find(name); scale != nil {
			break
		}
	}
	switch {
	case scale == nil:
		return fmt.Sprintf("%s without scales", t.DType)
	case t.DType == dtype.U8 && scale.DType == dtype.F8E4M3:
		return nvfp4
	case t.DType == dtype.U8 && (scale.DType == dtype.U8 || scale.DType == dtype.F8E8M0):
		if isMX(t.Shape, scale) {
			return "MXFP8 whose bytes were saved as U8"
		}
		if d.method == "quark" {
			return mxfp4Plain + " (Quark)"
		}
		return mxfp4Plain
	case t.DType == dtype.I8 && (scale.DType == dtype.F8E8M0 || scale.DType == dtype.U8):
		return fp4
	case t.DType == dtype.U8 && d.method == "bitnet":
		return bitNet
	case t.DType == dtype.U8:
		return fp8Bytes
	case t.DType == dtype.I8:
		return int8Scaled
	}
	return fmt.Sprintf("%s with scales", t.DType)
}

// isMX reports whether there is one power of two for each 32 elements of a row (OCP Microscaling
// Formats specification v1.0).
func isMX(weight []int64, s *checkpoint.Tensor) bool {
	n := len(weight)
	return n >= 2 && (s.DType == dtype.U8 || s.DType == dtype.F8E8M0) && len(s.Shape) == n && weight[n-1] > 32 &&
		slices.Equal(s.Shape[:n-1], weight[:n-1]) && s.Shape[n-1] == ceilDiv(weight[n-1], 32)
}
