// Package family knows model types: which tensors are experts, which are dropped and why, which
// layouts runtimes load, and where each tensor goes in a layout. It turns an inventory into sites,
// one for each tensor, and sites into places; later steps never look at a name.
package family

import (
	"slices"
	"strconv"
	"strings"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/fault"
)

// Layout is a form of output.
type Layout string

// The layouts.
const (
	Auto Layout = "auto" // the form that every runtime of the family loads
	// experts.gate_up_proj [E,2I,H], gate rows first, and experts.down_proj [E,H,I]; some families
	// have both transposed.
	Stacked   Layout = "stacked"
	PerExpert Layout = "per-expert" // one tensor per expert and projection, names unchanged
	MLX       Layout = "mlx"        // the complete MLX-native form
)

// Family is what metalcast knows of a model type.
type Family struct {
	// Types are the config's model_type; mlx-lm loads each. The first names the family; none: unknown.
	Types      []string
	OtherTypes []string // the same structure, under a model_type that mlx-lm does not know
	// Wrapper is the outer model_type of a multimodal model that contains the language model; Types
	// are then text_config's.
	Wrapper   string
	Experts   *Experts // nil for a dense family
	LayersKey string   // the config's key for the number of layers, if not num_hidden_layers
	// Auto is what Auto means; PerExpert also stands for "unchanged" if the source has stacked
	// experts.
	Auto          Layout
	Head          Head // whether there is an output head
	TiedUnsaid    bool // it is tied if the config does not say
	LoadsSeparate bool // mlx-lm also loads separate experts, where Auto is Stacked
	MTP           MTP
	Vision        []string // prefixes of the vision tower
	KeepF32       []string // name endings that stay F32 whatever --dtype says
	Native        *Native  // the MLX-native form; nil: made in two steps
	// NoTwoSteps is why mlx_lm.convert fails on what metalcast writes of published models; "": it does
	// not.
	NoTwoSteps     string
	DoubtfulScales *DoubtfulScales // weights whose scales are not understood
	Unconverted    Unconverted     // what runtimes do with the family's published FP8 checkpoints
}

// MTP says where the multi-token prediction head is.
type MTP struct {
	Prefixes []string
	Layers   bool   // it is the layers from num_hidden_layers on
	OnlyAt   int    // runtimes drop it only at this num_hidden_layers; 0: at any
	Refused  string // why --keep-mtp is refused, if runtimes reject the tensors
}

// Unconverted is what runtimes do with an FP8 checkpoint of the family before conversion.
// consumers/test_verdicts.py compares what inspect says with them.
type Unconverted struct {
	// MLXLM is what mlx-lm 0.32.2 does with scales that it reads, "dequantizes it while loading"; "":
	// it reads none.
	MLXLM   string
	Reads   []Grid   // the scales that it reads, all called _scale_inv
	Ignores []string // endings of the names of further tensors that its loader leaves out

	// MLXVLM is what mlx-vlm 0.7.10 does with 128x128 blocks of quant_method fp8, if it gets that far;
	// "": not known.
	MLXVLM  string
	Untried bool // what mlx-vlm does with any of it has not been tried
	Flat    bool // mlx-vlm also knows the text model's own types, OtherTypes
}

// Grid is how a loader spreads scales over a weight.
type Grid int

// The grids.
const (
	Blocks Grid = iota // a scale for each 128x128 block of a matrix
	// As numpy broadcasts one array over another: for the tensor, each row or each matrix.
	Broadcasts
)

// DoubtfulScales is a reason not to trust the scales of some FP8 weights.
type DoubtfulScales struct {
	Suffixes []string // of the weights' names
	Why      string
}

// Experts describes the experts of a mixture-of-experts family.
type Experts struct {
	Infix string // between a layer's prefix and the expert index: ".mlp.experts."
	// Alias is another Infix, under which quantizers publish experts that they have separated; they
	// are stacked under Infix.
	Alias    string
	Gate     string // projections of an expert; Gate is "" if there is none
	Up, Down string
	// GateUpName is the name of the stacked tensor after Infix; "" if the family has no such form.
	GateUpName string
	DownName   string
	Transposed bool     // the stacked tensors are [E,H,2I] and [E,I,H]
	CountKeys  []string // config keys that hold the number of experts
	Dense      string   // what a layer without experts has after its prefix; "" if nothing does
}

// projections returns the names of an expert's matrices.
func (e *Experts) projections() []string {
	if e.Gate == "" {
		return []string{e.Up, e.Down}
	}
	return []string{e.Gate, e.Up, e.Down}
}

// Native is how Hugging Face's names and shapes become MLX's, as in the sanitize methods of mlx-lm
// 0.32.2.
type Native struct {
	Prefixes []Rename // of name beginnings; the first that matches is applied
	Tower    []string // prefixes that mlx-lm has no place for: the vision tower
	Switch   string   // between a layer's prefix and a stacked projection: ".mlp.switch_mlp."
	Names    []string // of the projections there, in the order of Experts.projections
	Norms    []string // name endings of vectors that are stored less one
	Conv     bool     // conv1d.weight [C,1,K] becomes [C,K,1]
	MLA      bool     // kv_b_proj becomes embed_q and unembed_out

	// What else mlx_lm.convert does, by endings of names in this form.
	PlainArrays []string // matrices that no module quantizes: routers that are plain arrays
	EightBits   []string // modules that stay at affine, 8 bits, groups of 64: other routers
	KeepType    []string // tensors whose type stays
	// Uncounted are tensors of modules that contain modules; total_parameters leaves them out.
	Uncounted []string
}

// Rename replaces a name's beginning.
type Rename struct{ From, To string }

// families lists what is known. docs/families.md has the facts behind each entry.
var families = slices.Concat(qwen, deepSeek, glm, mistral, others)

// unknown treats every tensor in place: FP8 weights are dequantized under their own names.
var unknown = &Family{Auto: PerExpert}

// Of returns the family of a config, or the unknown family if the model type is not listed.
func Of(c *checkpoint.Config) *Family {
	outer, inner := c.ModelType(), c.Get("text_config.model_type").String()
	for _, f := range families {
		t := outer
		if f.Wrapper != "" && outer == f.Wrapper {
			t = inner
		}
		if slices.Contains(f.Types, t) || slices.Contains(f.OtherTypes, t) {
			return f
		}
	}
	return unknown
}

// All returns the known families by name.
func All() []string {
	var names []string
	for _, f := range families {
		names = append(names, f.Name())
	}
	return names
}

// Known reports whether the family is listed.
func (f *Family) Known() bool { return len(f.Types) > 0 }

// Name returns the family's first model type, or "unknown".
func (f *Family) Name() string {
	if !f.Known() {
		return "unknown"
	}
	return f.Types[0]
}

// LoadsInMLX reports whether mlx-lm knows the config's model type.
func (f *Family) LoadsInMLX(c *checkpoint.Config) bool {
	t := c.ModelType()
	if f.Wrapper != "" && t == f.Wrapper {
		t = c.Get("text_config.model_type").String()
	}
	return slices.Contains(f.Types, t)
}

// Resolve turns Auto into the family's layout, and refuses layouts that the family does not have.
func (f *Family) Resolve(l Layout) (Layout, error) {
	const twoSteps = "in two steps: metalcast convert SRC DST-bf16, then mlx_lm.convert --hf-path DST-bf16 --mlx-path DST"
	switch {
	case l == "" || l == Auto:
		return f.Auto, nil
	case l == MLX && f.Native != nil, l == PerExpert:
		return l, nil
	case l == MLX && f.Known():
		return "", fault.Unsupported("--layout mlx", "is not written for %s", f.Name()).WithHint(twoSteps)
	case l == MLX:
		return "", fault.Unsupported("--layout mlx", "the model type is not one that metalcast knows").WithHint("leave --layout out: names are then unchanged")
	case l == Stacked && !f.Known():
		return "", fault.Unsupported("--layout stacked", "the model type is not one that metalcast knows how to stack")
	case l == Stacked && f.Experts == nil:
		return "", fault.Unsupported("--layout stacked", "%s is a dense family, it has no experts to stack", f.Name()).WithHint("leave --layout out")
	case l == Stacked && f.Experts.GateUpName == "":
		return "", fault.Unsupported("--layout stacked", "no consumer of %s has a stacked form under Hugging Face's names", f.Name()).WithHint("leave --layout out")
	case l == Stacked:
		return l, nil
	}
	return "", fault.New(fault.ErrUsage, "--layout", "%q is not one of auto, stacked, per-expert, mlx", string(l))
}

// ResolveQuantized is Resolve for quantized weights, which only the MLX-native form has.
func (f *Family) ResolveQuantized(l Layout) (Layout, error) {
	const twoSteps = "in two steps: metalcast convert SRC DST-bf16, then mlx_lm.convert --hf-path DST-bf16 --mlx-path DST -q"
	switch {
	case l != "" && l != Auto && l != MLX:
		return "", fault.New(fault.ErrUsage, "-q", "quantized weights have the MLX-native layout, not %s", l)
	case f.Native == nil && f.Known():
		return "", fault.Unsupported("-q", "the MLX-native form of %s is not written", f.Name()).WithHint(twoSteps)
	case f.Native == nil:
		return "", fault.Unsupported("-q", "the model type is not one that metalcast knows").WithHint(
			"leave -q out; mlx_lm.convert -q quantizes the result where mlx-lm has the model")
	}
	return MLX, nil
}

// IsMTP reports whether a tensor belongs to the multi-token prediction head; layers is the config's
// number of hidden layers.
func (f *Family) IsMTP(name string, layers int) bool {
	if hasPrefix(name, f.MTP.Prefixes) {
		return true
	}
	_, l, ok := layerOf(name)
	return f.MTP.Layers && layers > 0 && ok && l >= layers
}

// Needless returns a function that reports whether an output lacks a tensor unless it is asked for,
// or can do without it: the multi-token prediction head, the rotary frequencies that older tools
// stored, the head of a model that is tied to its embeddings.
func Needless(c *checkpoint.Config) func(name string) bool {
	f, layers, tied := Of(c), Layers(c), c.TextSetting("tie_word_embeddings").Bool()
	return func(name string) bool {
		return f.IsMTP(name, layers) || hasPrefix(name, []string{"mtp.", "model.mtp."}) || strings.HasSuffix(name, ".rotary_emb.inv_freq") || tied && isHead(name)
	}
}

// DropsMTP reports whether runtimes themselves leave out the multi-token prediction head.
func (f *Family) DropsMTP(layers int) bool {
	return f.MTP.Refused == "" || f.MTP.OnlyAt != 0 && f.MTP.OnlyAt == layers
}

// IsVision reports whether a tensor belongs to the vision tower.
func (f *Family) IsVision(name string) bool { return hasPrefix(name, f.Vision) }

// StaysF32 reports whether runtimes need a tensor in float32.
func (f *Family) StaysF32(name string) bool { return hasSuffix(name, f.KeepF32) }

// Layers returns the config's number of hidden layers, 0 if it has none.
func Layers(c *checkpoint.Config) int { return layerCount(c).n }

// layerCount returns Layers and the key that says so.
func layerCount(c *checkpoint.Config) count {
	keys := []string{"num_hidden_layers", "num_layers"}
	if key := Of(c).LayersKey; key != "" {
		keys = slices.Insert(keys, 0, key)
	}
	for _, key := range keys {
		if n := c.TextSetting(key).Int(); n > 0 && n <= 1<<16 {
			return count{int(n), key}
		}
	}
	return count{}
}

// layerPrefixes are where a language model's layers are: in Hugging Face's multimodal classes, in
// text-only ones, in wrapped ones (and MLX-native names), in Nemotron-H.
var layerPrefixes = []string{"model.language_model.layers.", "model.layers.", "language_model.model.layers.", "backbone.layers.", "layers."}

// layerOf splits "model.layers.3.mlp.gate.weight" into "model.layers.", 3.
func layerOf(name string) (prefix string, layer int, ok bool) {
	for _, p := range layerPrefixes {
		if rest, found := strings.CutPrefix(name, p); found {
			number, _, _ := strings.Cut(rest, ".")
			l, err := strconv.Atoi(number)
			return p, l, err == nil && strconv.Itoa(l) == number && l >= 0
		}
	}
	return "", 0, false
}

func hasPrefix(name string, list []string) bool {
	return slices.ContainsFunc(list, func(p string) bool { return strings.HasPrefix(name, p) })
}

func hasSuffix(name string, list []string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.HasSuffix(name, s) })
}
