package family

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// DialectCount is the FP8 weights whose scales have one form.
type DialectCount struct {
	Dialect string // "weight_scale_inv, BF16, blocks of 128x128"
	Weights int
}

// DialectsOf counts the dialects of a checkpoint's scales, the most frequent first.
func DialectsOf(sites []Site) (list []DialectCount) {
	for i := range sites {
		x := sites[i].Scales
		if x == nil {
			continue
		}
		suffix := x.Tensor.Name[strings.LastIndexByte(x.Tensor.Name, '.')+1:]
		// For example experts.gate_up_proj_scale_inv.
		if !strings.HasPrefix(suffix, "weight_scale") && suffix != "scale" {
			_, suffix, _ = strings.Cut(suffix, "proj_")
		}
		name := fmt.Sprintf("%s, %s, %s", suffix, x.Tensor.DType, x.Form)
		k := slices.IndexFunc(list, func(c DialectCount) bool { return c.Dialect == name })
		if k < 0 {
			k = len(list)
			list = append(list, DialectCount{Dialect: name})
		}
		list[k].Weights++
	}
	slices.SortStableFunc(list, func(a, b DialectCount) int { return cmp.Compare(b.Weights, a.Weights) })
	return list
}
