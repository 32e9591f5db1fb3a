package plan

import (
	"slices"
	"strconv"
	"strings"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/family"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/mlxquant"
)

// Quantization asks for weights in one of MLX's formats.
type Quantization struct {
	Format    mlxquant.Format
	Profile   mlxquant.Profile
	Recipe    string     // "", or one of Recipes
	Overrides []Override // of what format and recipe say; the last that matches a module wins
}

// Override chooses the format of some modules.
type Override struct {
	// Of module paths, such as "language_model.model.layers.0.mlp.down_proj"; * stands for anything.
	Pattern string
	Format  *mlxquant.Format // nil: not quantized
}

// Recipes are mlx_lm.convert's mixed ones: bits of most modules, and of those that matter more.
var Recipes = map[string][2]int{"mixed_2_6": {2, 6}, "mixed_3_4": {3, 4}, "mixed_3_6": {3, 6}, "mixed_4_6": {4, 6}}

// router is the format in which mlx-lm keeps the routers of some families.
var router = mlxquant.Format{Mode: mlxquant.Affine, Bits: 8, GroupSize: 64}

// chooser decides how each module of the MLX-native form is quantized, as mlx_lm.convert's
// quantize_model does.
type chooser struct {
	*Quantization
	native *family.Native
	cast   dtype.DType // of everything that floats; Invalid: nothing is cast

	layers  int
	used    []bool
	entries []Exception
	seen    map[string]mlxquant.Format
}

// Exception is a module that config.json names, because its format is not the global one.
type Exception struct {
	Path   string
	Format *mlxquant.Format // nil: not quantized
}

func newChooser(p *Plan, o Options) (*chooser, error) {
	q := o.Quantize
	c := &chooser{Quantization: q, native: p.Family.Native, layers: family.Layers(p.Source.Config), used: make([]bool, len(q.Overrides)), seen: map[string]mlxquant.Format{}}
	if err := q.Format.Check(); err != nil {
		return nil, fault.New(fault.ErrUsage, "-q", "%v", err)
	}
	if q.Recipe != "" {
		if _, ok := Recipes[q.Recipe]; !ok {
			return nil, fault.New(fault.ErrUsage, "--quant-predicate", "%q is not one of mixed_2_6, mixed_3_4, mixed_3_6, mixed_4_6", q.Recipe)
		}
		if q.Format.Mode != mlxquant.Affine {
			return nil, fault.New(fault.ErrUsage, "--quant-predicate", "recipes are affine, --q-mode is %s", q.Format.Mode)
		}
	}
	for _, x := range q.Overrides {
		if x.Format != nil {
			if err := x.Format.Check(); err != nil {
				return nil, fault.New(fault.ErrUsage, "--q-override "+x.Pattern, "%v", err)
			}
		}
	}
	if c.cast = castType(p.Source.Config, o.DType, p.Form.FP8 > 0); c.cast != dtype.Invalid {
		p.DType = c.cast // config.json says it
	}
	return c, nil
}

// castType returns what mlx_lm.convert casts everything that floats to: --dtype, else the config's
// torch_dtype, else its text_config's dtype. A converted FP8 checkpoint says bfloat16 there.
func castType(c *checkpoint.Config, asked dtype.DType, fp8 bool) dtype.DType {
	if asked != dtype.Invalid {
		return asked
	}
	for _, key := range []string{"torch_dtype", "text_config.dtype"} {
		r := c.Get(key)
		switch {
		case !r.Exists():
			continue
		case fp8: // null also becomes bfloat16 there
			return dtype.BF16
		case r.Raw == "null":
			continue
		}
		t, _ := dtype.ByConfigName(r.String())
		return t // Invalid if the name is not one of the three
	}
	return dtype.Invalid
}

// outType returns the type in which a site's elements are quantized, or stay.
func (c *chooser) outType(name string, t dtype.DType) dtype.DType {
	switch {
	case t == dtype.F8E4M3:
		t = dtype.BF16
	case !t.IsFloat():
		return t
	}
	if c.cast == dtype.Invalid || c.native.KeepsType(name) {
		return t
	}
	return c.cast
}

// format decides the format of a tensor of the MLX-native form; nil: it stays as it is.
func (c *chooser) format(name string, shape []int64, t dtype.DType) (*mlxquant.Format, error) {
	path, ok := c.native.Module(name, shape)
	if !ok || !t.IsFloat() {
		return nil, nil
	}
	if f, ok := c.seen[path]; ok { // further pieces of a stack
		if f == (mlxquant.Format{}) {
			return nil, nil
		}
		return &f, nil
	}
	f, err := c.decide(path, shape[len(shape)-1])
	if err != nil {
		return nil, err
	}
	c.seen[path] = mlxquant.Format{}
	if f != nil {
		c.seen[path] = *f
	}
	return f, nil
}

func (c *chooser) decide(path string, cols int64) (*mlxquant.Format, error) {
	f, named := c.Format, c.Recipe != ""
	// mlx_lm checks this for the global group size, whatever the module's.
	divides := cols%int64(c.Format.GroupSize) == 0
	switch {
	case !divides:
	case c.Recipe != "":
		f.Bits = Recipes[c.Recipe][0]
		if c.matters(path) {
			f.Bits = Recipes[c.Recipe][1]
		}
	case c.native.IsRouter(path):
		f, named = router, true
	}
	quantized, overridden := divides, false
	for i, x := range c.Overrides {
		if !matchPath(x.Pattern, path) {
			continue
		}
		c.used[i] = true
		quantized, overridden = x.Format != nil, true
		if quantized {
			f = *x.Format
		}
	}
	if !quantized {
		if overridden && divides {
			c.entries = append(c.entries, Exception{path, nil})
		}
		return nil, nil
	}
	if cols%int64(f.GroupSize) != 0 {
		return nil, fault.Unsupported("module "+path, "rows of %d elements are not whole groups of %d", cols, f.GroupSize).WithHint(
			"--q-override '%s=none' leaves it as it is", path)
	}
	if named || f != c.Format {
		c.entries = append(c.entries, Exception{path, &f})
	}
	return &f, nil
}

// matters reports whether mlx_lm's mixed recipes use more bits for a module.
func (c *chooser) matters(path string) bool {
	parts := strings.Split(path, ".")
	layer := 0
	if at := c.layerPart(parts); at < len(parts) {
		layer, _ = strconv.Atoi(parts[at])
	}
	eighth := c.layers / 8
	more := layer < eighth || layer >= 7*c.layers/8 || (layer-eighth)%3 == 2 && layer >= eighth
	switch {
	case more && (strings.Contains(path, "v_proj") || strings.Contains(path, "v_a_proj") || strings.Contains(path, "v_b_proj")):
		return true
	case more && strings.Contains(path, "down_proj"):
		return true
	}
	return strings.Contains(path, "lm_head")
}

// layerPart is where a layer's number is in a path: "model.layers.0" or
// "language_model.model.layers.0".
func (c *chooser) layerPart(parts []string) int {
	if parts[0] == "language_model" {
		return 3
	}
	return 2
}

// matchPath matches a pattern in which * stands for anything.
func matchPath(pattern, path string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == path
	}
	rest, ok := strings.CutPrefix(path, parts[0])
	if !ok {
		return false
	}
	last := len(parts) - 1
	for _, part := range parts[1:last] {
		at := strings.Index(rest, part)
		if at < 0 {
			return false
		}
		rest = rest[at+len(part):]
	}
	return strings.HasSuffix(rest, parts[last])
}

// Quantized is the result for a model.
type Quantized struct {
	*Quantization
	Exceptions []Exception
	Modules    int // that are quantized
}

// finish refuses overrides that no module matches.
func (c *chooser) finish() (*Quantized, error) {
	for i, used := range c.used {
		if !used {
			return nil, fault.New(fault.ErrUsage, "--q-override "+c.Overrides[i].Pattern, "no module fits").WithHint(
				"module paths are the output's tensor names without .weight; metalcast plan --json lists them")
		}
	}
	slices.SortFunc(c.entries, func(a, b Exception) int { return compareNatural(a.Path, b.Path) })
	q := &Quantized{Quantization: c.Quantization, Exceptions: c.entries}
	for _, f := range c.seen {
		if f != (mlxquant.Format{}) {
			q.Modules++
		}
	}
	return q, nil
}
