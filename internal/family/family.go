// Package family knows model types: which tensors are experts, which are dropped and why, and which layout the consumers of a family load. It turns an
// inventory into sites, one for each tensor; later steps look at a site's role and never at a name.
package family

import (
	"slices"
	"strings"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/fault"
)

// Layout is a form of output.
type Layout string

// The layouts.
const (
	Auto      Layout = "auto"       // the form that every consumer of the family loads
	Stacked   Layout = "stacked"    // experts.gate_up_proj [E,2I,H], gate rows first, and experts.down_proj [E,H,I]
	PerExpert Layout = "per-expert" // one tensor for each expert's projection, names unchanged
	MLX       Layout = "mlx"        // the complete MLX-native form
)

// Family is what metalcast knows of a model type.
type Family struct {
	ModelType string   // the config's model_type, as mlx-lm knows it; "" for an unknown family
	FlatTypes []string // the text-only model_type that published derivatives carry; mlx-lm does not know these
	Experts   *Experts // nil for a dense family
	Auto      Layout   // what Auto means
	MTP       []string // prefixes of multi-token prediction tensors
	Vision    []string // prefixes of the vision tower
	KeepF32   []string // name endings that stay F32 whatever --dtype says
}

// Experts describes the experts of a mixture-of-experts family.
type Experts struct {
	Infix      string // between a layer's prefix and the expert index: ".mlp.experts."
	Gate, Up   string // projections that one stacked tensor takes together
	Down       string
	GateUpName string // what the stacked tensors are called after Infix
	DownName   string
	CountKeys  []string // config keys that hold the number of experts
}

var qwenExperts = &Experts{
	Infix: ".mlp.experts.", Gate: "gate_proj", Up: "up_proj", Down: "down_proj",
	GateUpName: "gate_up_proj", DownName: "down_proj", CountKeys: []string{"num_experts"},
}

// families lists what is known. The facts behind each entry are in docs/families.md.
var families = []*Family{
	{
		ModelType: "qwen3_5_moe", FlatTypes: []string{"qwen3_5_moe_text"}, Experts: qwenExperts, Auto: Stacked,
		MTP: []string{"mtp."}, Vision: []string{"model.visual."}, KeepF32: []string{".A_log", ".dt_bias"},
	},
	{
		ModelType: "qwen3_5", FlatTypes: []string{"qwen3_5_text"}, Auto: PerExpert,
		MTP: []string{"mtp."}, Vision: []string{"model.visual."}, KeepF32: []string{".A_log", ".dt_bias"},
	},
}

// unknown treats every tensor in place: FP8 weights are dequantized under their own names.
var unknown = &Family{Auto: PerExpert}

// Of gives the family of a config, and the unknown family where the model type is not listed.
func Of(c *checkpoint.Config) *Family {
	for _, f := range families {
		if t := c.ModelType(); t == f.ModelType || slices.Contains(f.FlatTypes, t) {
			return f
		}
	}
	return unknown
}

// Known tells whether the family is listed.
func (f *Family) Known() bool { return f.ModelType != "" }

// Name is the family's model type, or "unknown".
func (f *Family) Name() string {
	if !f.Known() {
		return "unknown"
	}
	return f.ModelType
}

// Resolve turns Auto into the family's layout and refuses layouts that the family does not have.
func (f *Family) Resolve(l Layout) (Layout, error) {
	switch {
	case l == "" || l == Auto:
		return f.Auto, nil
	case l == Stacked && f.Experts == nil && f.Known():
		return "", fault.Unsupported("--layout stacked", "%s is a dense family, it has no experts to stack", f.ModelType).WithHint("leave --layout out")
	case l == Stacked && f.Experts == nil:
		return "", fault.Unsupported("--layout stacked", "the model type is not one that metalcast knows how to stack")
	case l == MLX:
		return "", fault.Unsupported("--layout mlx", "not written yet").WithHint(
			"convert without --layout, then: mlx_lm.convert --hf-path DST --mlx-path DST-mlx")
	case l == Stacked || l == PerExpert:
		return l, nil
	}
	return "", fault.New(fault.ErrUsage, "--layout", "%q is none of auto, stacked, per-expert, mlx", string(l))
}

// IsMTP tells tensors of the multi-token prediction head.
func (f *Family) IsMTP(name string) bool { return hasPrefix(name, f.MTP) }

// IsVision tells tensors of the vision tower.
func (f *Family) IsVision(name string) bool { return hasPrefix(name, f.Vision) }

// StaysF32 tells tensors that consumers need in float32.
func (f *Family) StaysF32(name string) bool {
	return slices.ContainsFunc(f.KeepF32, func(s string) bool { return strings.HasSuffix(name, s) })
}

func hasPrefix(name string, list []string) bool {
	return slices.ContainsFunc(list, func(p string) bool { return strings.HasPrefix(name, p) })
}
