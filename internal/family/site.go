package family

import (
	"fmt"
	"strings"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/fault"
)

// Role is what happens to a tensor.
type Role uint8

// The roles.
const (
	Move   Role = iota + 1 // passes as it is, or cast
	Weight                 // FP8 with a scale: dequantized under its own name
	Expert                 // one expert's projection, FP8 or not
	Scale                  // the companion of an FP8 weight, used up with it
	Drop                   // not in the output, for Reason
)

// Block is the rectangle of elements that shares one scale.
type Block struct{ Rows, Cols int64 }

// Site is one source tensor and its role.
type Site struct {
	Tensor *checkpoint.Tensor
	Role   Role
	Scale  *checkpoint.Tensor // of a Weight, or an Expert in FP8
	Block  Block              // of Scale
	Proj   string             // of an Expert: the projection's name
	Group  string             // of an Expert: everything before the expert's index, "model.layers.3.mlp.experts."
	Index  int                // of an Expert
	Reason string             // of a Drop
}

// scaleSuffix is added to a weight's name to name its scale (quant_method fp8).
const scaleSuffix = "_scale_inv"

// otherScales are the dialects that this version does not read; each is refused with its name.
var otherScales = []string{"_scale", "_scale_2", "_global_scale", "_scales"}

// activationScales belong to static activation quantization, which the output does not have.
var activationScales = []string{".activation_scale", "_activation_scale", ".input_scale", "_input_scale", ".act_scale"}

// Sites gives every tensor its role, in the inventory's order.
func (f *Family) Sites(v *checkpoint.Inventory, keepMTP bool) ([]Site, error) {
	rows, cols, given, err := v.Config.BlockSize()
	if err != nil {
		return nil, err
	}
	if !given {
		rows, cols = 128, 128
	}
	c := classifier{f, v, Block{rows, cols}, keepMTP}
	sites := make([]Site, len(v.Tensors))
	for i := range v.Tensors {
		if sites[i], err = c.site(&v.Tensors[i]); err != nil {
			return nil, err
		}
	}
	return sites, nil
}

type classifier struct {
	*Family
	inv     *checkpoint.Inventory
	block   Block
	keepMTP bool
}

func (c *classifier) site(t *checkpoint.Tensor) (Site, error) {
	s := Site{Tensor: t}
	drop := func(reason string) (Site, error) {
		s.Role, s.Reason = Drop, reason
		return s, nil
	}
	switch {
	case !c.keepMTP && c.IsMTP(t.Name):
		return drop("multi-token prediction head; --keep-mtp keeps it")
	case isActivationScale(t.Name):
		return drop("activation scale; activations of the output are not quantized")
	}
	if weight, ok := strings.CutSuffix(t.Name, scaleSuffix); ok {
		s.Role = Scale
		return s, c.checkScaleHasWeight(t, weight)
	}
	s.Role = Move
	var err error
	switch t.DType {
	case dtype.F8E4M3:
		s.Role = Weight
		s.Scale, s.Block, err = c.scaleOf(t)
	case dtype.F8E5M2, dtype.F8E4M3FNUZ, dtype.F8E5M2FNUZ:
		err = fault.Unsupported(t.String(), "is %s, of the FP8 types only F8_E4M3 is converted", t.DType)
	}
	if err != nil {
		return s, err
	}
	return s, c.expert(&s)
}

func isActivationScale(name string) bool {
	for _, suffix := range activationScales {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

func (c *classifier) checkScaleHasWeight(t *checkpoint.Tensor, weight string) error {
	switch w := c.inv.Lookup(weight); {
	case w == nil:
		return fault.Incomplete(t.String(), "a scale without its weight: %q is in no shard", weight)
	case w.DType != dtype.F8E4M3:
		return fault.Corrupt(t.String(), "a scale of %q, which is %s and needs none", weight, w.DType)
	}
	return nil
}

// scaleOf finds an FP8 weight's scale in any shard and checks its type and grid.
func (c *classifier) scaleOf(w *checkpoint.Tensor) (*checkpoint.Tensor, Block, error) {
	s := c.inv.Lookup(w.Name + scaleSuffix)
	if s == nil {
		for _, suffix := range otherScales {
			if c.inv.Lookup(w.Name+suffix) != nil {
				return nil, Block{}, fault.Unsupported(w.String(), "its scale is called %q; only %q is read so far", w.Name+suffix, w.Name+scaleSuffix)
			}
		}
		return nil, Block{}, fault.Incomplete(w.String(), "is FP8 (%s) and has no scale: %q is in no shard", w.DType, w.Name+scaleSuffix)
	}
	if s.DType != dtype.F32 && s.DType != dtype.BF16 {
		return nil, Block{}, fault.Unsupported(s.String(), "is %s, scales in F32 or BF16 are read so far", s.DType)
	}
	if len(w.Shape) < 2 {
		return nil, Block{}, fault.Unsupported(w.String(), "FP8 of shape %v, a matrix was expected", w.Shape)
	}
	rows, cols := w.Shape[len(w.Shape)-2], w.Shape[len(w.Shape)-1]
	if n := len(s.Shape); len(w.Shape) == 2 && (n == 0 || n == 1 && s.Shape[0] == 1) {
		return s, Block{max(rows, 1), max(cols, 1)}, nil // one scale for the whole matrix
	}
	want := append(append([]int64{}, w.Shape[:len(w.Shape)-2]...), ceilDiv(rows, c.block.Rows), ceilDiv(cols, c.block.Cols))
	if fmt.Sprint(want) != fmt.Sprint(s.Shape) {
		return nil, Block{}, fault.Corrupt(s.String(), "scale grid is %v, want %v for a weight of %v in blocks of %dx%d",
			s.Shape, want, w.Shape, c.block.Rows, c.block.Cols)
	}
	return s, c.block, nil
}

func ceilDiv(a, b int64) int64 { return (a + b - 1) / b }
