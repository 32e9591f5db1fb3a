package mlxquant

import (
	"fmt"
	"slices"

	"github.com/metalcast/metalcast/internal/dtype"
)

// Mode is a family of formats.
type Mode uint8

// The modes of MLX 0.32.4.
const (
	Affine Mode = iota // q*scale + bias
	MXFP4              // E2M1 elements, E8M0 scales
	MXFP8              // E4M3FN elements, E8M0 scales
	NVFP4              // E2M1 elements, E4M3FN scales, no global scale
)

var modes = [...]struct {
	name       string
	bits       []int // the first is MLX's default
	groupSizes []int
}{
	Affine: {"affine", []int{4, 1, 2, 3, 5, 6, 8}, []int{64, 32, 128}},
	MXFP4:  {"mxfp4", []int{4}, []int{32}},
	MXFP8:  {"mxfp8", []int{8}, []int{32}},
	NVFP4:  {"nvfp4", []int{4}, []int{16}},
}

// ParseMode returns the mode that MLX and config.json call name.
func ParseMode(name string) (Mode, bool) {
	for m := range modes {
		if modes[m].name == name {
			return Mode(m), true
		}
	}
	return 0, false
}

func (m Mode) String() string {
	if int(m) < len(modes) {
		return modes[m].name
	}
	return fmt.Sprintf("Mode(%d)", m)
}

// Default returns the format that MLX uses if only the mode is given.
func (m Mode) Default() Format { return Format{m, modes[m].bits[0], modes[m].groupSizes[0]} }

// Profile selects the MLX backend whose bits are reproduced.
type Profile uint8

// The profiles.
const (
	Metal Profile = iota
	CPU
)

func (p Profile) String() string { return [...]string{"metal", "cpu"}[p] }

// Format describes how a matrix is quantized.
type Format struct {
	Mode      Mode
	Bits      int // of an element's code
	GroupSize int // elements that share a scale
}

func (f Format) String() string { return fmt.Sprintf("%s %d/%d", f.Mode, f.Bits, f.GroupSize) }

// Check returns an error for formats that MLX refuses.
func (f Format) Check() error {
	if int(f.Mode) >= len(modes) {
		return fmt.Errorf("%s: no such mode", f.Mode)
	}
	m := modes[f.Mode]
	if !slices.Contains(m.groupSizes, f.GroupSize) {
		return fmt.Errorf("%s: group size %d, MLX has %s", f.Mode, f.GroupSize, list(m.groupSizes))
	}
	if !slices.Contains(m.bits, f.Bits) {
		return fmt.Errorf("%s: %d bits, MLX has %s", f.Mode, f.Bits, list(m.bits))
	}
	return nil
}

// CheckRow is like Check, for rows of cols elements.
func (f Format) CheckRow(cols int) error {
	if err := f.Check(); err != nil {
		return err
	}
	if cols%f.GroupSize != 0 {
		return fmt.Errorf("%s: rows of %d elements, not a multiple of the group size", f, cols)
	}
	return nil
}

// list returns its numbers sorted, as "2, 3 and 4".
func list(n []int) (s string) {
	for i, v := range slices.Sorted(slices.Values(n)) {
		switch {
		case i == 0:
		case i == len(n)-1:
			s += " and "
		default:
			s += ", "
		}
		s += fmt.Sprint(v)
	}
	return s
}

// Groups returns the number of groups, and so of scales, in a row of cols elements.
func (f Format) Groups(cols int) int { return cols / f.GroupSize }

// GroupBytes returns the size of a group's codes, a multiple of 4.
func (f Format) GroupBytes() int { return f.GroupSize * f.Bits / 8 }

// RowBytes returns the size of the codes of a row of cols elements.
func (f Format) RowBytes(cols int) int { return f.Groups(cols) * f.GroupBytes() }

// ScaleType returns the type of the scales of a matrix of type t.
func (f Format) ScaleType(t dtype.DType) dtype.DType {
	if f.Mode == Affine {
		return t
	}
	return dtype.U8
}

// BiasType returns the type of the biases of a matrix of type t, or Invalid if the mode has none.
func (f Format) BiasType(t dtype.DType) dtype.DType {
	if f.Mode == Affine {
		return t
	}
	return dtype.Invalid
}
