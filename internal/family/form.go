package family

import (
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/fault"
)

// Form is the state a checkpoint is in, as its names and types tell.
type Form struct {
	FP8       int  // tensors in F8_E4M3 that are not dropped
	PerExpert bool // one tensor for each expert's projection
	Stacked   bool // experts.gate_up_proj
	MLX       bool // MLX-native names: switch_mlp, or the language_model.model. prefix
	Quantized bool // MLX quantization: packed weights with scales
}

// FormOf looks at every tensor that is not dropped.
func (f *Family) FormOf(v *checkpoint.Inventory, sites []Site) Form {
	form := Form{Quantized: v.Config.Get("quantization").IsObject()}
	form.MLX = form.Quantized || v.Format == "mlx"
	for i := range sites {
		s := &sites[i]
		if s.Role == Drop {
			continue
		}
		name := s.Tensor.Name
		if s.Tensor.DType == dtype.F8E4M3 {
			form.FP8++
		}
		form.PerExpert = form.PerExpert || s.Role == Expert
		form.Stacked = form.Stacked || f.Experts != nil && strings.HasSuffix(name, f.Experts.Infix+f.Experts.GateUpName)
		form.MLX = form.MLX || strings.Contains(name, ".switch_mlp.") || strings.HasPrefix(name, "language_model.model.")
		if weight, ok := strings.CutSuffix(name, ".scales"); ok {
			if w := v.Lookup(weight + ".weight"); w != nil && w.DType == dtype.U32 {
				form.MLX, form.Quantized = true, true
			}
		}
	}
	return form
}

// String says the form in words.
func (f Form) String() string {
	switch {
	case f.Quantized:
		return "MLX-native, quantized"
	case f.MLX:
		return "MLX-native"
	}
	s := "no FP8"
	if f.FP8 > 0 {
		s = humanize.Comma(int64(f.FP8)) + " FP8 tensors"
	}
	switch {
	case f.PerExpert:
		s += ", one tensor per expert"
	case f.Stacked:
		s += ", experts stacked"
	}
	return s
}

// layerPrefixes are where the language model's layers live: in Hugging Face's multimodal classes, in text-only ones, in MLX-native names.
var layerPrefixes = []string{"model.language_model.layers.", "model.layers.", "language_model.model.layers."}

// CheckLayers refuses a known family's checkpoint that lacks a whole layer, or a layer's experts while other layers have theirs.
func (f *Family) CheckLayers(v *checkpoint.Inventory, groups []*Group) error {
	n := int(v.Config.TextSetting("num_hidden_layers").Int())
	if !f.Known() || n <= 0 || n > 1<<16 {
		return nil
	}
	present := map[string]bool{} // "PREFIX3."
	prefix := ""
	for i := range v.Tensors {
		for _, p := range layerPrefixes {
			if rest, ok := strings.CutPrefix(v.Tensors[i].Name, p); ok {
				number, _, _ := strings.Cut(rest, ".")
				present[p+number+"."] = true
				prefix = p
			}
		}
	}
	if prefix == "" {
		return fault.Incomplete(v.Dir, "no tensor of any layer; names begin with %q and the like in %s", layerPrefixes[0], f.ModelType)
	}
	withExperts := map[string]bool{}
	for _, g := range groups {
		withExperts[g.Name] = true
	}
	for l := range n {
		layer := fmt.Sprintf("%s%d.", prefix, l)
		if !present[layer] {
			return fault.Incomplete(fmt.Sprintf("layer %d", l), "no tensor, config.json says num_hidden_layers %d", n)
		}
		if len(groups) > 0 && !withExperts[strings.TrimSuffix(layer, ".")+f.Experts.Infix] && v.Lookup(layer+"mlp.gate_proj.weight") == nil {
			return fault.Incomplete(fmt.Sprintf("layer %d", l), "no experts, other layers have them")
		}
	}
	return nil
}
