package synth

import (
	"strings"

	"github.com/metalcast/metalcast/internal/dtype"
)

// dialect describes the scales of a family's weights.
type dialect struct {
	suffix     string // suffix of the scale's name, after the weight's
	form       form
	scales     kind
	dtype      dtype.DType
	activation string // name of activation scales; "" if the dialect has none
	static     bool   // activation scales are always present
}

// form is the shape of a weight's scale.
type form uint8

const (
	blocks  form = iota // one per block of a matrix; a stack of matrices has a stack of scales
	channel             // one per row: [O,1]
	whole               // one per matrix: [], and [E,1,1] for a stack
)

// The dialects.
var (
	blocksBF16 = &dialect{"_scale_inv", blocks, scale, dtype.BF16, "activation_scale", false}
	blocksF32  = &dialect{"_scale_inv", blocks, scale, dtype.F32, "activation_scale", false}
	// scale_fmt ue8m0
	blocksPow2 = &dialect{"_scale_inv", blocks, powerOfTwo, dtype.F32, "activation_scale", false}
	wholeInv   = &dialect{"_scale_inv", whole, scale, dtype.BF16, "activation_scale", true}
	// ModelOpt, and the first static checkpoints
	wholeInput = &dialect{"_scale", whole, scale, dtype.F32, "input_scale", true}
	channelF32 = &dialect{"_scale", channel, scale, dtype.F32, "", false} // compressed-tensors
	channelB16 = &dialect{"_scale", channel, scale, dtype.BF16, "", false}
)

// shape returns the shape of a weight's scale.
func (d *dialect) shape(weight []int64, block int64) []int64 {
	stack, rows, cols := weight[:len(weight)-2], weight[len(weight)-2], weight[len(weight)-1]
	switch d.form {
	case blocks:
		rows, cols = (rows+block-1)/block, (cols+block-1)/block
	case channel:
		cols = 1
	default:
		if len(stack) == 0 {
			return []int64{}
		}
		rows, cols = 1, 1
	}
	return append(append(make([]int64, 0, 3), stack...), rows, cols)
}

// activationName returns the name of the activation scale of x.weight or of a parameter x.
func (d *dialect) activationName(weight string) string {
	if module, ok := strings.CutSuffix(weight, ".weight"); ok {
		return module + "." + d.activation
	}
	return weight + "_" + d.activation
}
