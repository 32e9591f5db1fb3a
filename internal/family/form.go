package family

import (
	"fmt"
	"strconv"
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
	form.MLX = form.Quantized
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
	if v.Format == "mlx" && form.FP8 == 0 && !form.PerExpert { // otherwise the file was only saved by MLX
		form.MLX = true
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

// CheckLayers refuses a known family's checkpoint that lacks a whole layer, has more than its config says, or lacks a layer's experts.
func (f *Family) CheckLayers(v *checkpoint.Inventory, groups []*Group) error {
	n := int(v.Config.TextSetting("num_hidden_layers").Int())
	if !f.Known() || n <= 0 || n > 1<<16 {
		return nil
	}
	present := map[string]bool{} // "PREFIX3."
	prefix := ""
	for i := range v.Tensors {
		name := v.Tensors[i].Name
		for _, p := range layerPrefixes {
			rest, ok := strings.CutPrefix(name, p)
			if !ok {
				continue
			}
			number, _, _ := strings.Cut(rest, ".")
			if l, err := strconv.Atoi(number); err == nil && l >= n {
				return fault.Corrupt(v.Tensors[i].String(), "is in layer %d, config.json says num_hidden_layers %d", l, n)
			}
			present[p+number+"."] = true
			prefix = p
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
		layer := fmt.Sprintf("%s%d", prefix, l)
		if !present[layer+"."] {
			return fault.Incomplete(fmt.Sprintf("layer %d", l), "no tensor, config.json says num_hidden_layers %d", n)
		}
		if f.Experts != nil && !withExperts[layer+f.Experts.Infix] {
			if err := f.checkStacked(v, layer, fmt.Sprintf("layer %d", l)); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkStacked looks at a layer that has no experts of its own tensors: they are stacked, as many as the config says, or the layer is dense.
func (f *Family) checkStacked(v *checkpoint.Inventory, layer, where string) error {
	e := f.Experts
	want := f.expertCount(v.Config)
	stacked := []string{e.Infix + e.GateUpName, e.Infix + e.DownName} // Hugging Face's; then MLX's
	if v.Lookup(layer+stacked[0]) == nil {
		stacked = []string{".mlp.switch_mlp." + e.Gate + ".weight", ".mlp.switch_mlp." + e.Up + ".weight", ".mlp.switch_mlp." + e.Down + ".weight"}
	}
	if v.Lookup(layer+stacked[0]) == nil {
		if v.Lookup(layer+".mlp."+e.Gate+".weight") != nil || want == 0 {
			return nil // dense
		}
		return fault.Incomplete(where, "no experts, config.json says num_experts %d", want)
	}
	for _, name := range stacked {
		switch t := v.Lookup(layer + name); {
		case t == nil:
			return fault.Incomplete(where, "%s%s is in no shard", layer, name)
		case want > 0 && (len(t.Shape) != 3 || t.Shape[0] != int64(want)):
			return fault.Corrupt(t.String(), "shape is %v, config.json says num_experts %d", t.Shape, want)
		}
	}
	return nil
}
