package family

import (
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/fault"
)

// Form is the state of a checkpoint, by its names and types.
type Form struct {
	FP8 int // tensors in F8_E4M3 that are not dropped
	// Companions are tensors of quantized activations and caches, which stop runtimes from loading
	// otherwise plain checkpoints.
	Companions int
	PerExpert  bool      // one tensor per expert and projection
	Stacked    bool      // experts.gate_up_proj, or stacks under the family's own names
	MLX        bool      // MLX-native names or shapes
	Quantized  bool      // MLX quantization: packed weights with scales
	Foreign    []Foreign // as returned by ForeignOf
}

// FormOf examines every tensor that is not dropped. A checkpoint that has sites has nothing
// Foreign.
func (f *Family) FormOf(v *checkpoint.Inventory, sites []Site) Form {
	form := Form{Quantized: v.Config.Get("quantization").IsObject()}
	form.MLX = form.Quantized
	for i := range sites {
		s := &sites[i]
		if s.Role == Drop {
			// Some loaders leave these out.
			if companion(s.Tensor) != "" && !strings.HasSuffix(s.Tensor.Name, "inv_freq") {
				form.Companions++
			}
			continue
		}
		name := s.Tensor.Name
		if s.Tensor.DType == dtype.F8E4M3 {
			form.FP8++
		}
		form.PerExpert = form.PerExpert || s.Role == Expert
		form.Stacked = form.Stacked || f.IsStack(s)
		form.MLX = form.MLX || f.isNative(s)
		if weight, ok := strings.CutSuffix(name, ".scales"); ok {
			if w := v.Lookup(weight + ".weight"); w != nil && w.DType == dtype.U32 {
				form.MLX, form.Quantized = true, true
			}
		}
	}
	// Otherwise the file was only saved by MLX.
	if v.Format == "mlx" && form.FP8 == 0 && !form.PerExpert {
		form.MLX = true
	}
	return form
}

// IsStack reports whether a tensor is a stack of experts, under Hugging Face's names or the
// family's own; of a layer's two or three stacks it is true for the first.
func (f *Family) IsStack(s *Site) bool {
	e := f.Experts
	if e == nil || len(s.Tensor.Shape) != 3 {
		return false
	}
	if e.GateUpName != "" {
		return strings.HasSuffix(s.Tensor.Name, e.Infix+e.GateUpName)
	}
	return strings.HasSuffix(s.Tensor.Name, e.Infix+e.Up+".weight")
}

// ExpertLayout describes the layout of the experts, "" if there are none.
func (f *Family) ExpertLayout(sites []Site) string {
	for i := range sites {
		switch s := &sites[i]; {
		case s.Role == Expert:
			return "one tensor per expert"
		case s.Role == Drop:
		case f.IsStack(s) && f.Experts.Transposed:
			return "stacked, transposed"
		case f.IsStack(s):
			return "stacked"
		}
	}
	return ""
}

// isNative recognises names and shapes that only MLX has.
func (f *Family) isNative(s *Site) bool {
	name, shape := s.Tensor.Name, s.Tensor.Shape
	switch n := f.Native; {
	case strings.Contains(name, ".switch_mlp.") || strings.HasSuffix(name, ".embed_q.weight"):
		return true
	case n == nil:
		return false
	case n.Conv && strings.HasSuffix(name, "conv1d.weight"):
		return len(shape) == 3 && shape[1] != 1 && shape[2] == 1
	default:
		return len(n.Prefixes) > 0 && f.Wrapper == "" && strings.HasPrefix(name, "language_model.model.")
	}
}

// String describes the form in words.
func (f Form) String() string {
	switch {
	case f.Quantized:
		return "MLX-native, quantized"
	case f.MLX:
		return "MLX-native"
	}
	s := "no FP8"
	if len(f.Foreign) > 0 {
		s = f.Foreign[0].String()
		for _, x := range f.Foreign[1:] {
			s += ", " + x.String()
		}
		if f.FP8 == 0 {
			return s
		}
		s += ", "
	} else if f.FP8 > 0 {
		s = ""
	}
	if f.FP8 > 0 {
		s += humanize.Comma(int64(f.FP8)) + " FP8 tensors"
	}
	switch {
	case f.PerExpert:
		s += ", one tensor per expert"
	case f.Stacked:
		s += ", experts stacked"
	}
	return s
}

// CheckLayers refuses a known family's checkpoint that lacks a whole layer, has more than its
// config says, or lacks a layer's experts.
func (f *Family) CheckLayers(v *checkpoint.Inventory, groups []*Group) error {
	want := layerCount(v.Config)
	n := want.n
	if !f.Known() || n == 0 {
		return nil
	}
	present := map[int]bool{}
	prefix := ""
	for i := range v.Tensors {
		p, l, ok := layerOf(v.Tensors[i].Name)
		if !ok {
			continue
		}
		if l >= n && !f.MTP.Layers {
			return fault.Corrupt(v.Tensors[i].String(), "is in layer %d, config.json says %v", l, want)
		}
		present[l] = true
		prefix = p
	}
	if prefix == "" {
		return fault.Incomplete(v.Dir, "no tensor of any layer; names begin with %q and the like in %s", layerPrefixes[0], f.Name())
	}
	withExperts := map[string]bool{}
	for _, g := range groups {
		withExperts[g.Name] = true
	}
	for l := range n {
		layer := fmt.Sprintf("%s%d", prefix, l)
		if !present[l] {
			return fault.Incomplete(fmt.Sprintf("layer %d", l), "no tensor, config.json says %v", want)
		}
		if f.Experts != nil && !withExperts[layer+f.Experts.Infix] {
			if err := f.checkStacked(v, layer, fmt.Sprintf("layer %d", l)); err != nil {
				return err
			}
		}
	}
	return nil
}

// stacks returns the names that a layer's stacked experts may have after the layer's: Hugging
// Face's, MLX's, the family's own.
func (f *Family) stacks() (forms [][]string) {
	e := f.Experts
	if e.GateUpName != "" {
		forms = append(forms, []string{e.Infix + e.GateUpName, e.Infix + e.DownName})
	}
	under := func(infix string, names []string) {
		var form []string
		for _, name := range names {
			form = append(form, infix+name+".weight")
		}
		forms = append(forms, form)
	}
	if f.Native != nil {
		under(f.Native.Switch, f.Native.Names)
	}
	under(e.Infix, e.projections())
	return forms
}

// checkStacked checks a layer without separate experts: they are stacked, as many as the config
// says, or the layer is dense.
func (f *Family) checkStacked(v *checkpoint.Inventory, layer, where string) error {
	e := f.Experts
	want := f.expertCount(v.Config)
	for _, form := range f.stacks() {
		if v.Lookup(layer+form[0]) == nil {
			continue
		}
		for _, name := range form {
			switch t := v.Lookup(layer + name); {
			case t == nil:
				return fault.Incomplete(where, "%s%s is in no shard", layer, name)
			case want.n > 0 && (len(t.Shape) != 3 || t.Shape[0] != int64(want.n)):
				return fault.Corrupt(t.String(), "shape is %v, config.json says %v", t.Shape, want)
			}
		}
		return nil
	}
	if want.n == 0 || e.Dense == "" || v.Lookup(layer+e.Dense) != nil {
		return nil // dense
	}
	return fault.Incomplete(where, "no experts, config.json says %v", want)
}
