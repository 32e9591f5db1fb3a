package metalcast

import (
	"slices"
	"strconv"
	"strings"

	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/mlxquant"
	"github.com/metalcast/metalcast/internal/plan"
)

// Quantize asks for weights in one of MLX's formats, as mlx_lm.convert -q writes them. The zero
// value is its default: affine, 4 bits, groups of 64.
type Quantize struct {
	// Mode is affine (the default), mxfp4, mxfp8 or nvfp4.
	Mode string `json:"mode"`
	// Bits is that of a weight, GroupSize the number of weights that share a scale; 0 is the mode's
	// default.
	Bits      int `json:"bits"`
	GroupSize int `json:"group_size"`
	// Predicate is one of mlx_lm's mixed recipes, which use more bits for some modules: mixed_2_6,
	// mixed_3_4, mixed_3_6 or mixed_4_6.
	Predicate string `json:"predicate,omitempty"`
	// Profile is the MLX backend whose bits are wanted: metal (the default), as mlx_lm.convert writes
	// on a Mac, or cpu, as it writes on Linux.
	Profile string `json:"profile"`
	// Overrides choose the format of some modules: PATTERN=bits[:group[:mode]] or PATTERN=none. The
	// last that matches a module wins. A pattern is a module's path, the name of its tensor in the
	// output without ".weight"; * matches anything.
	Overrides []string `json:"overrides,omitempty"`
}

func (q *Quantize) planned() (*plan.Quantization, error) {
	mode := mlxquant.Affine
	if q.Mode != "" {
		var ok bool
		if mode, ok = mlxquant.ParseMode(q.Mode); !ok {
			return nil, fault.New(ErrUsage, "--q-mode", "%q is not one of affine, mxfp4, mxfp8, nvfp4", q.Mode)
		}
	}
	p := &plan.Quantization{Format: mode.Default(), Recipe: q.Predicate}
	if q.Bits != 0 {
		p.Format.Bits = q.Bits
	}
	if q.GroupSize != 0 {
		p.Format.GroupSize = q.GroupSize
	}
	if err := checkFormat("-q", p.Format); err != nil {
		return nil, err
	}
	switch q.Profile {
	case "", "metal":
		p.Profile = mlxquant.Metal
	case "cpu":
		p.Profile = mlxquant.CPU
	default:
		return nil, fault.New(ErrUsage, "--q-profile", "%q is neither metal nor cpu", q.Profile)
	}
	for _, text := range q.Overrides {
		x, err := parseOverride(text, p.Format)
		if err != nil {
			return nil, err
		}
		p.Overrides = append(p.Overrides, x)
	}
	return p, nil
}

// parseOverride reads PATTERN=bits[:group[:mode]] and PATTERN=none. What is left out is taken from
// global, or from the mode's default if the mode is another.
func parseOverride(text string, global mlxquant.Format) (x plan.Override, err error) {
	where := "--q-override " + text
	at := strings.LastIndexByte(text, '=')
	if at < 1 {
		return x, fault.New(ErrUsage, where, "the form is PATTERN=bits[:group[:mode]], or PATTERN=none")
	}
	x.Pattern = text[:at]
	if text[at+1:] == "none" {
		return x, nil
	}
	parts := strings.Split(text[at+1:], ":")
	f := global
	if len(parts) > 2 {
		mode, ok := mlxquant.ParseMode(parts[2])
		if !ok {
			return x, fault.New(ErrUsage, where, "%q is not one of affine, mxfp4, mxfp8, nvfp4", parts[2])
		}
		if mode != f.Mode {
			f = mode.Default()
		}
	}
	for i, to := range []*int{&f.Bits, &f.GroupSize} {
		if i < len(parts) && parts[i] != "" {
			if *to, err = strconv.Atoi(parts[i]); err != nil {
				return x, fault.New(ErrUsage, where, "%q is no number; the form is PATTERN=bits[:group[:mode]], or PATTERN=none", parts[i])
			}
		}
	}
	if len(parts) > 3 {
		return x, fault.New(ErrUsage, where, "the form is PATTERN=bits[:group[:mode]], or PATTERN=none")
	}
	x.Format = &f
	return x, checkFormat(where, f)
}

// checkFormat refuses what MLX refuses, and one bit, which its runtimes before 0.32.4 refuse.
func checkFormat(where string, f mlxquant.Format) error {
	if err := f.Check(); err != nil {
		return fault.New(ErrUsage, where, "%v", err)
	}
	if f.Bits == 1 {
		return fault.New(ErrUsage, where, "1 bit: only MLX 0.32.4 and later load it; 2, 3, 4, 5, 6 and 8 are written")
	}
	return nil
}

// Quantization is the result of quantizing a model.
type Quantization struct {
	Mode      string `json:"mode"`
	Bits      int    `json:"bits"`
	GroupSize int    `json:"group_size"`
	Profile   string `json:"profile"`
	Modules   int    `json:"modules"` // that are quantized
	// Other modules are quantized differently, or not although their rows divide into groups.
	Other []Module `json:"exceptions,omitempty"`
}

// Module is a module whose format is not the model's.
type Module struct {
	Path   string `json:"path"`
	Format string `json:"format"` // "affine 8/64", or "none"
}

func quantization(q *plan.Quantized) *Quantization {
	if q == nil {
		return nil
	}
	r := &Quantization{Mode: q.Format.Mode.String(), Bits: q.Format.Bits, GroupSize: q.Format.GroupSize, Profile: q.Profile.String(), Modules: q.Modules}
	for _, x := range q.Exceptions {
		format := "none"
		if x.Format != nil {
			format = x.Format.String()
		}
		r.Other = append(r.Other, Module{x.Path, format})
	}
	return r
}

// macs are sizes of unified memory, in GB, and how many bytes of it macOS lets a GPU use, as
// reported by MTLDevice.recommendedMaxWorkingSetSize.
var macs = []struct {
	gb    int
	bytes int64
}{{16, 10_670_000_000}, {32, 26_800_000_000}, {64, 51_500_000_000}, {128, 115_400_000_000}}

// leastMac returns the smallest of these Macs on which weights of this size leave a tenth of the
// GPU's memory free; 0 if none is large enough.
func leastMac(bytes int64) int {
	i := slices.IndexFunc(macs, func(m struct {
		gb    int
		bytes int64
	}) bool {
		return bytes <= m.bytes/10*9
	})
	if i < 0 {
		return 0
	}
	return macs[i].gb
}
