package family

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/fault"
)

// Block is the rectangle of elements that shares one scale.
type Block struct{ Rows, Cols int64 }

// Scales are the companions of an FP8 weight: a grid for each of its matrices. A weight of shape
// [..., rows, cols] is a stack of matrices.
type Scales struct {
	Tensor *checkpoint.Tensor
	Type   dtype.DType // F32, BF16, F16 or F8E8M0 (which is also stored as U8)
	Block  Block
	Cols   int64  // scales in a row of blocks
	Stride int64  // scales from one matrix to the next; 0: all share one grid
	Form   string // "blocks of 128x128", "one for each row", ...
}

// scaleNames lists the names of a weight's scale in quant_method fp8, compressed-tensors and
// ModelOpt, DeepSeek-V4, and ModelOpt's stacked experts.
func scaleNames(weight string) []string {
	names := []string{weight + "_scale_inv", weight + "_scale"}
	if stem, ok := strings.CutSuffix(weight, ".weight"); ok {
		return append(names, stem+".scale")
	}
	return append(names, weight+"_weight_scale")
}

// scaledBy returns the name of the weight that a tensor called name would scale, "" if it cannot be
// a scale. sure: nothing else has such a name.
func scaledBy(name string) (weight string, sure bool) {
	for _, suffix := range []string{"_scale_inv", "_weight_scale"} {
		if stem, ok := strings.CutSuffix(name, suffix); ok {
			return stem, true
		}
	}
	if stem, ok := strings.CutSuffix(name, "_scale"); ok {
		return stem, strings.HasSuffix(stem, ".weight")
	}
	if stem, ok := strings.CutSuffix(name, ".scale"); ok {
		return stem + ".weight", false
	}
	return "", false
}

func findScales(v *checkpoint.Inventory, w *checkpoint.Tensor) (list []*checkpoint.Tensor) {
	for _, name := range scaleNames(w.Name) {
		if s := v.Lookup(name); s != nil {
			list = append(list, s)
		}
	}
	return list
}

// found is how many scales a tensor has by their names, and one of them.
type found struct {
	scale *checkpoint.Tensor
	n     int
}

// findAllScales does for all tensors of the inventory what findScales does for one. It goes from
// scale to weight, whose name is usually a prefix of the scale's; the other way would build three
// names for each weight.
func findAllScales(v *checkpoint.Inventory) []found {
	all := make([]found, len(v.Tensors))
	for i := range v.Tensors {
		s := &v.Tensors[i]
		add := func(weight string) {
			if w, ok := v.Index(weight); ok {
				all[w] = found{s, all[w].n + 1}
			}
		}
		if weight, ok := strings.CutSuffix(s.Name, "_scale_inv"); ok {
			add(weight)
		} else if weight, ok := strings.CutSuffix(s.Name, "_scale"); ok {
			add(weight)
			if weight, ok := strings.CutSuffix(weight, "_weight"); ok && !strings.HasSuffix(weight, ".weight") {
				add(weight)
			}
		} else if stem, ok := strings.CutSuffix(s.Name, ".scale"); ok {
			add(stem + ".weight")
		}
	}
	return all
}

// scalesOf finds the scales of the inventory's ith tensor, an FP8 weight, in any shard and derives
// their grid from shapes; the config only names block sizes.
func (c *classifier) scalesOf(i int) (*Scales, error) {
	w, x := &c.inv.Tensors[i], c.scales[i]
	switch {
	case x.n == 0 && c.inv.Lookup(w.Name+"_zero_point") != nil:
		return nil, fault.Unsupported(w.String(), "is FP8 with a zero point and no scale")
	case x.n == 0:
		for _, name := range scaleNames(w.Name) {
			if file := c.inv.Unlisted(name); file != "" {
				return nil, fault.Incomplete(w.String(), "is FP8 (%s) and its scale is in %s, which %s does not name", w.DType, file, checkpoint.IndexName).WithHint(
					"add the tensors of %s to the weight_map of %s", file, checkpoint.IndexName)
			}
		}
		return nil, fault.Incomplete(w.String(), "is FP8 (%s) and has no scale: %q is in no shard", w.DType, w.Name+"_scale_inv").WithHint(
			"metalcast also looks for %s", strings.Join(quoted(scaleNames(w.Name)[1:]), " and "))
	case x.n > 1:
		list := findScales(c.inv, w)
		return nil, fault.Corrupt(w.String(), "has two scales, %q and %q", list[0].Name, list[1].Name)
	case len(w.Shape) < 2:
		return nil, fault.Unsupported(w.String(), "FP8 of shape %v, a matrix was expected", w.Shape)
	case slices.Max(w.Shape[len(w.Shape)-2:]) > math.MaxInt32: // as kernels count
		return nil, fault.Unsupported(w.String(), "FP8 of shape %v, a matrix of less than 2^31 rows and columns was expected", w.Shape)
	}
	s := &Scales{Tensor: x.scale, Type: x.scale.DType}
	switch s.Type {
	case dtype.F32, dtype.BF16, dtype.F16, dtype.F8E8M0:
	case dtype.U8:
		s.Type = dtype.F8E8M0
	default:
		return nil, fault.Unsupported(s.Tensor.String(), "is %s; scales are read in F32, BF16, F16, F8_E8M0 and U8 (as E8M0)", s.Type)
	}
	if doubt := c.DoubtfulScales; doubt != nil && hasSuffix(w.Name, doubt.Suffixes) && !c.opts.TrustScales {
		return nil, fault.Unsupported(w.String(), "%s", doubt.Why).WithHint("--trust-scales reads it as plain rows of blocks, as mlx-lm does")
	}
	return s, c.grid(w, s)
}

// grid recognises the form of a scale tensor.
func (c *classifier) grid(w *checkpoint.Tensor, s *Scales) error {
	lead, rows, cols := w.Shape[:len(w.Shape)-2], w.Shape[len(w.Shape)-2], w.Shape[len(w.Shape)-1]
	shape := s.Tensor.Shape
	whole := Block{max(rows, 1), max(cols, 1)}
	if len(shape) < 2 && product(shape) == 1 {
		s.Block, s.Cols, s.Form = whole, 1, "one for the whole tensor"
		return nil
	}
	if len(lead) > 0 && len(shape) > 0 && shape[0] == lead[0] && len(shape) <= len(w.Shape) && slices.Equal(trimOnes(shape), trimOnes(lead)) {
		s.Block, s.Cols, s.Stride, s.Form = whole, 1, 1, "one for each matrix"
		return nil
	}
	fits := 0
	for i, b := range c.blocks {
		down, across := ceilDiv(rows, b.Rows), ceilDiv(cols, b.Cols)
		surplus := c.opts.TrustScales && len(lead) == 0 && len(shape) == 2 && shape[0] > down && shape[1] == across
		form := c.forms[i]
		switch {
		case equal(shape, lead, down, across) || surplus:
		case equal(shape, lead, down, 1, across, 1):
			form += ", in four dimensions"
		default:
			continue
		}
		if fits++; fits > 1 {
			return fault.Corrupt(s.Tensor.String(), "fits %s and %s, both of which config.json names", s.Form, form)
		}
		s.Block, s.Cols, s.Stride, s.Form = b, across, down*across, form
	}
	if fits == 1 {
		return nil
	}
	switch {
	case !c.named && product(shape) == 1 && len(shape) <= len(w.Shape):
		s.Block, s.Cols, s.Form = whole, 1, "one for the whole tensor"
	case equal(shape, lead, rows, 1), equal(shape, lead, rows) && len(lead) == 0:
		s.Block, s.Cols, s.Stride, s.Form = Block{1, whole.Cols}, 1, rows, "one for each row"
	case equal(shape, lead, 1, cols):
		s.Block, s.Cols, s.Stride, s.Form = Block{whole.Rows, 1}, cols, cols, "one for each column"
	case isMX(w.Shape, s.Tensor):
		s.Block, s.Cols, s.Stride, s.Form = Block{1, 32}, ceilDiv(cols, 32), rows*ceilDiv(cols, 32), "blocks of 1x32"
	default:
		return c.badGrid(w, s, lead, rows, cols)
	}
	return nil
}

// badGrid says what was expected.
func (c *classifier) badGrid(w *checkpoint.Tensor, s *Scales, lead []int64, rows, cols int64) error {
	b := c.blocks[0]
	want := append(slices.Clone(lead), ceilDiv(rows, b.Rows), ceilDiv(cols, b.Cols))
	shape := s.Tensor.Shape
	err := fault.Corrupt(s.Tensor.String(), "scale grid is %v, want %v for a weight of %v in blocks of %dx%d", shape, want, w.Shape, b.Rows, b.Cols)
	if len(lead) == 0 && len(shape) == 2 && shape[0] > want[0] && shape[1] == want[1] {
		return err.WithHint("--trust-scales reads the first %d rows of it and ignores the rest, as mlx-lm does for MiMo", want[0])
	}
	return err
}

// equal compares a shape with lead and further dimensions.
func equal(shape, lead []int64, more ...int64) bool {
	return len(shape) == len(lead)+len(more) && slices.Equal(shape[:len(lead)], lead) && slices.Equal(shape[len(lead):], more)
}

func trimOnes(shape []int64) []int64 {
	for len(shape) > 0 && shape[len(shape)-1] == 1 {
		shape = shape[:len(shape)-1]
	}
	return shape
}

func product(shape []int64) int64 {
	n := int64(1)
	for _, d := range shape {
		n *= d
	}
	return n
}

func quoted(names []string) []string {
	list := make([]string, len(names))
	for i, n := range names {
		list[i] = fmt.Sprintf("%q", n)
	}
	return list
}

func ceilDiv(a, b int64) int64 { return (a + b - 1) / b }
