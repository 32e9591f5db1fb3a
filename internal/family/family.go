// Package family knows model types: which tensors are experts, which are dropped and why, which layouts their consumers load, and where each tensor goes in a
// layout. It turns an inventory into sites, one for each tensor, and sites into places; later steps never look at a name.
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
	Auto      Layout = "auto"       // the form that every consumer of the family loads
	Stacked   Layout = "stacked"    // experts.gate_up_proj [E,2I,H], gate rows first, and experts.down_proj [E,H,I]; some families have both transposed
	PerExpert Layout = "per-expert" // one tensor for each expert's projection, names unchanged
	MLX       Layout = "mlx"        // the complete MLX-native form
)

// Family is what metalcast knows of a model type.
type Family struct {
	Types      []string // the config's model_type; mlx-lm loads each. The first names the family; none: unknown
	OtherTypes []string // the same structure under a model_type that mlx-lm does not know
	Wrapper    string   // where the language model sits in a multimodal one: the outer model_type; Types are then text_config's
	Experts    *Experts // nil for a dense family
	LayersKey  string   // the config's key for the number of layers, where it is not num_hidden_layers
	Auto       Layout   // what Auto means; PerExpert also says "unchanged" for experts that are stacked in the source
	Head       Head     // whether there is an output head
	TiedUnsaid bool     // it is tied where the config says nothing
	TakesApart bool     // mlx-lm also loads experts that are apart, where Auto is Stacked
	MTP        MTP
	Vision     []string // prefixes of the vision tower
	KeepF32    []string // name endings that stay F32 whatever --dtype says
	Native     *Native  // the MLX-native form; nil: made in two steps
	NoTwoSteps string   // why mlx_lm.convert fails on what metalcast writes of published models; "": it does not
	Doubt      *Doubt   // weights whose scales are not understood
	Raw        Raw      // what runtimes do with the family's FP8 checkpoints as they are published
}

// MTP says where the multi-token prediction head is.
type MTP struct {
	Prefixes []string
	Layers   bool   // it is the layers from num_hidden_layers on
	OnlyAt   int    // consumers drop it at this num_hidden_layers only; 0: at any
	Refused  string // why --keep-mtp is no choice, where consumers reject the tensors
}

// Raw is what runtimes do with an FP8 checkpoint of the family that nobody converted. consumers/test_verdicts.py holds what inspect says of it against them.
type Raw struct {
	MLXLM   string   // what mlx-lm 0.32.2 does with scales that it reads, "dequantizes it while loading"; "": it reads none
	Reads   []Grid   // the scales that it reads, all called _scale_inv
	Ignores []string // endings of the names of further tensors that its loader leaves out

	MLXVLM  string // what mlx-vlm 0.7.10 does with 128x128 blocks of quant_method fp8, where it gets as far as that; "": not known
	Untried bool   // what mlx-vlm does with any of it has not been tried
	Flat    bool   // mlx-vlm knows the text model's own types too, OtherTypes
}

// Grid is how a loader spreads scales over a weight.
type Grid int

// The grids.
const (
	Blocks     Grid = iota // a scale for each 128x128 block of a matrix
	Broadcasts             // as numpy broadcasts one array over another: for the tensor, each row or each matrix
)

// Doubt is a reason not to trust the scales of some FP8 weights.
type Doubt struct {
	Suffixes []string // of the weights' names
	Why      string
}

// Experts describes the experts of a mixture-of-experts family.
type Experts struct {
	Infix      string // between a layer's prefix and the expert index: ".mlp.experts."
	Alias      string // another Infix, under which quantizers publish experts that they took apart; they are stacked under Infix
	Gate       string // projections of an expert; Gate is "" where there is none
	Up, Down   string
	GateUpName string // what the stacked tensors are called after Infix; "" where the family has no such form
	DownName   string
	Transposed bool     // the stacked tensors are [E,H,2I] and [E,I,H]
	CountKeys  []string // config keys that hold the number of experts
	Dense      string   // what a layer without experts has after its prefix; "" where nothing tells
}

// projections lists the names of an expert's matrices.
func (e *Experts) projections() []string {
	if e.Gate == "" {
		return []string{e.Up, e.Down}
	}
	return []string{e.Gate, e.Up, e.Down}
}

// Native is how Hugging Face's names and shapes become MLX's, as the sanitize methods of mlx-lm 0.32.2 do it.
type Native struct {
	Prefixes []Rename // of name beginnings; the first that fits is applied
	Tower    []string // prefixes that mlx-lm has no place for: the vision tower
	Switch   string   // between a layer's prefix and a stacked projection: ".mlp.switch_mlp."
	Names    []string // of the projections there, in the order of Experts.projections
	Norms    []string // name endings of vectors that are stored less one
	Conv     bool     // conv1d.weight [C,1,K] becomes [C,K,1]
	MLA      bool     // kv_b_proj becomes embed_q and unembed_out

	// What mlx_lm.convert does beside, by endings of names in this form.
	Arrays []string // matrices that no module quantizes: routers that are plain arrays
	Eight  []string // modules that stay at affine, 8 bits, groups of 64: the others' routers
	Uncast []string // tensors whose type stays
	Loose  []string // tensors of modules that have modules of their own; total_parameters does not count them
}

// Rename replaces a name's beginning.
type Rename struct{ From, To string }

// families lists what is known. The facts behind each entry are in docs/families.md.
var families = slices.Concat(qwen, deepSeek, glm, mistral, others)

// unknown treats every tensor in place: FP8 weights are dequantized under their own names.
var unknown = &Family{Auto: PerExpert}

// Of gives the family of a config, and the unknown family where the model type is not listed.
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

// All lists the known families by name.
func All() []string {
	var names []string
	for _, f := range families {
		names = append(names, f.Name())
	}
	return names
}

// Known tells whether the family is listed.
func (f *Family) Known() bool { return len(f.Types) > 0 }

// Name is the family's first model type, or "unknown".
func (f *Family) Name() string {
	if !f.Known() {
		return "unknown"
	}
	return f.Types[0]
}

// LoadsInMLX tells whether mlx-lm knows the config's model type.
func (f *Family) LoadsInMLX(c *checkpoint.Config) bool {
	t := c.ModelType()
	if f.Wrapper != "" && t == f.Wrapper {
		t = c.Get("text_config.model_type").String()
	}
	return slices.Contains(f.Types, t)
}

// Resolve turns Auto into the family's layout and refuses layouts that the family does not have.
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

// IsMTP tells tensors of the multi-token prediction head; layers is the config's number of hidden layers.
func (f *Family) IsMTP(name string, layers int) bool {
	if hasPrefix(name, f.MTP.Prefixes) {
		return true
	}
	_, l, ok := layerOf(name)
	return f.MTP.Layers && layers > 0 && ok && l >= layers
}

// Needless gives what reports that no output has a tensor unless it is asked for, or can do without it: the multi-token
// prediction head, the rotary frequencies that older tools stored, the head of a model that is tied to its embeddings.
func Needless(c *checkpoint.Config) func(name string) bool {
	f, layers, tied := Of(c), Layers(c), c.TextSetting("tie_word_embeddings").Bool()
	return func(name string) bool {
		return f.IsMTP(name, layers) || hasPrefix(name, []string{"mtp.", "model.mtp."}) || strings.HasSuffix(name, ".rotary_emb.inv_freq") || tied && isHead(name)
	}
}

// DropsMTP reports whether consumers leave the multi-token prediction head out themselves.
func (f *Family) DropsMTP(layers int) bool {
	return f.MTP.Refused == "" || f.MTP.OnlyAt != 0 && f.MTP.OnlyAt == layers
}

// IsVision tells tensors of the vision tower.
func (f *Family) IsVision(name string) bool { return hasPrefix(name, f.Vision) }

// StaysF32 tells tensors that consumers need in float32.
func (f *Family) StaysF32(name string) bool { return hasSuffix(name, f.KeepF32) }

// Layers is the config's number of hidden layers, 0 where it gives none.
func Layers(c *checkpoint.Config) int { return layerCount(c).n }

// layerCount is Layers and the key that says so.
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

// layerPrefixes are where a language model's layers live: in Hugging Face's multimodal classes, in text-only ones, in wrapped ones (and MLX-native names), in
// Nemotron-H.
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
