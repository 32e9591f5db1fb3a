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

// Foreign is a quantization of weights that metalcast does not take apart.
type Foreign struct {
	Format  string // "NVFP4"
	Tensors int
	InMLX   bool // MLX has the format, so that its runtimes can take such weights as they are
}

func (f Foreign) String() string {
	if f.Tensors == 1 {
		return "1 tensor in " + f.Format
	}
	return fmt.Sprintf("%s tensors in %s", humanize.Comma(int64(f.Tensors)), f.Format)
}

// The formats by name.
const (
	MXFP8 = "MXFP8"

	mxfp4 = "MXFP4"
	nvfp4 = "NVFP4"
	int4  = "int4 (pack-quantized)"
	fp4   = "FP4 packed in I8"
	gptq  = "GPTQ or AWQ"
	bnb   = "bitsandbytes"
)

// ForeignOf lists the formats of a checkpoint's weights that are neither plain nor FP8 with scales, most tensors first. They are told by names and types.
func ForeignOf(v *checkpoint.Inventory) (list []Foreign) {
	counts := map[string]int{}
	mayBeMX := false
	for i := range v.Tensors {
		t := &v.Tensors[i]
		mayBeMX = mayBeMX || t.DType == dtype.U8 || t.DType == dtype.F8E8M0
		if format := foreign(v, t); format != "" {
			counts[format]++
		}
	}
	if mayBeMX {
		for i, x := range findAllScales(v) {
			if t := &v.Tensors[i]; x.n == 1 && t.DType == dtype.F8E4M3 && isMX(t.Shape, x.scale) && foreign(v, t) == "" {
				counts[MXFP8]++
			}
		}
	}
	for format, n := range counts {
		list = append(list, Foreign{format, n, slices.Contains([]string{MXFP8, mxfp4, nvfp4, int4}, format)})
	}
	slices.SortFunc(list, func(a, b Foreign) int {
		return cmp.Or(cmp.Compare(b.Tensors, a.Tensors), cmp.Compare(a.Format, b.Format))
	})
	return list
}

// foreign is the format of a tensor that its own name and type give away, "" where they do not.
func foreign(v *checkpoint.Inventory, t *checkpoint.Tensor) string {
	is := func(name string, types ...dtype.DType) bool {
		s := v.Lookup(name)
		return s != nil && slices.Contains(types, s.DType)
	}
	stem, isWeight := strings.CutSuffix(t.Name, ".weight")
	switch {
	case strings.HasSuffix(t.Name, ".qweight"):
		return gptq
	case strings.HasSuffix(t.Name, ".absmax"):
		return bnb
	case strings.HasSuffix(t.Name, ".weight_packed") && t.DType == dtype.U8:
		return nvfp4
	case strings.HasSuffix(t.Name, ".weight_packed"):
		return int4
	case isWeight && t.DType == dtype.U8 && is(t.Name+"_scale", dtype.F8E4M3):
		return nvfp4
	case isWeight && t.DType == dtype.I8 && is(stem+".scale", dtype.F8E8M0, dtype.U8):
		return fp4
	case t.DType == dtype.U8 && strings.HasSuffix(t.Name, "_blocks") && is(strings.TrimSuffix(t.Name, "_blocks")+"_scales", dtype.U8, dtype.F8E8M0):
		return mxfp4
	}
	return ""
}

// isMX tells one power of two for each 32 elements of a row (OCP Microscaling Formats specification v1.0).
func isMX(weight []int64, s *checkpoint.Tensor) bool {
	n := len(weight)
	return n >= 2 && (s.DType == dtype.U8 || s.DType == dtype.F8E8M0) && len(s.Shape) == n && weight[n-1] > 32 &&
		slices.Equal(s.Shape[:n-1], weight[:n-1]) && s.Shape[n-1] == ceilDiv(weight[n-1], 32)
}
