package family

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/dtype"
)

// mlxLMDoes says what mlx-lm does with a checkpoint of a known family; rejects is how many tensors
// it has no place for.
func mlxLMDoes(f *Family, v *checkpoint.Inventory, sites []Site, form Form, rejects int) string {
	q := v.Config.Quantization()
	switch method := q.Get("quant_method").String(); {
	case !f.LoadsInMLX(v.Config):
		return fmt.Sprintf("does not know model_type %q", v.Config.ModelType())
	case form.MLX && form.FP8 == 0:
		return "loads it"
	case form.FP8 > 0 && method == "compressed-tensors":
		return fmt.Sprintf("refuses its quantization_config: unsupported compressed-tensors format %q", q.Get("format").String())
	case form.FP8 > 0 && method == "modelopt":
		return fmt.Sprintf("refuses its quantization_config: unsupported modelopt quant_algo %q", q.Get("quant_algo").String())
	}
	read := form.FP8 > 0 && slices.ContainsFunc(sites, func(s Site) bool { return readByMLXLM(f, &s) })
	if read {
		if s := unreadable(f, sites); s != nil {
			return cannotRead(s)
		}
	}
	switch {
	case rejects > 0:
		return rejectsIt(rejects)
	case read && slices.ContainsFunc(sites, func(s Site) bool { return readByMLXLM(f, &s) && s.Scales.Type == dtype.F8E8M0 }):
		return "loads it without an error and WRONG: it multiplies by the exponents' bytes"
	case read:
		return f.Unconverted.MLXLM
	}
	return "loads it"
}

func rejectsIt(n int) string {
	return fmt.Sprintf("rejects it: Received %d parameters not in model", n)
}

// readByMLXLM reports whether mlx-lm's loader takes the scales of a weight for its own.
func readByMLXLM(f *Family, s *Site) bool {
	return s.Scales != nil && f.Unconverted.MLXLM != "" && strings.HasSuffix(s.Scales.Tensor.Name, "_scale_inv")
}

// unreadable finds a weight whose scales mlx-lm's loader takes and cannot spread over it; nil if
// there is none.
func unreadable(f *Family, sites []Site) *Site {
	for i := range sites {
		s := &sites[i]
		if readByMLXLM(f, s) && !slices.ContainsFunc(f.Unconverted.Reads, func(g Grid) bool { return spreads(g, s) }) {
			return s
		}
	}
	return nil
}

// spreads reports whether scales of their stored shape fit over the weight on a grid.
func spreads(g Grid, s *Site) bool {
	weight, scales := s.Tensor.Shape, s.Scales.Tensor.Shape
	if g == Blocks {
		if len(weight) != 2 || len(scales) != 2 {
			return false
		}
		weight = []int64{(weight[0] + 127) / 128, (weight[1] + 127) / 128}
	}
	if len(scales) > len(weight) {
		return false
	}
	weight = weight[len(weight)-len(scales):]
	for i, n := range scales {
		if n != 1 && n != weight[i] {
			return false
		}
	}
	return true
}

// MLXRejects counts what mlx-lm has no place for: scales that it does not read, experts in a form
// that is not its own, and a multi-token prediction head that it does not drop. It drops vision
// tensors itself.
func (f *Family) MLXRejects(v *checkpoint.Inventory, sites []Site) (n int) {
	layers := Layers(v.Config)
	for i := range sites {
		s := &sites[i]
		name := s.Tensor.Name
		switch {
		case f.IsVision(name), f.IsMTP(name, layers) && f.DropsMTP(layers), ignored(f, name):
		case s.Role == Scale, s.Role == Drop, s.Stray,
			s.Role == Expert && f.Auto == Stacked && !f.LoadsSeparate,
			f.Experts != nil && f.Auto == PerExpert && f.Experts.GateUpName != "" && f.IsStack(s):
			n++
		}
	}
	return n
}

// ignored reports whether mlx-lm's loader consumes a tensor that is not a parameter, or leaves it
// out.
func ignored(f *Family, name string) bool {
	return f.Unconverted.MLXLM != "" && strings.HasSuffix(name, "_scale_inv") ||
		slices.ContainsFunc(f.Unconverted.Ignores, func(ending string) bool { return strings.HasSuffix(name, ending) })
}

// mlxVLMDoes says what mlx-vlm does with FP8 weights of a known family, "" if that has not been
// tried. If it has no model of its own for a family it takes that of mlx-lm, after it has
// transformed the weights by the quantization_config.
func mlxVLMDoes(f *Family, v *checkpoint.Inventory, sites []Site) string {
	if !f.LoadsInMLX(v.Config) && !f.Unconverted.Flat || f.Unconverted.Untried {
		return ""
	}
	q := v.Config.Quantization()
	switch method := q.Get("quant_method").String(); {
	case method == "modelopt":
		return orRejects(f, v, sites, vlmIgnores(f), false, "")
	case method == "compressed-tensors" && q.Get("format").String() == "float-quantized":
		return compressedInVLM(f, v, sites)
	case method == "fp8" && isFineGrained(q):
		return fineGrainedInVLM(f, v, sites)
	case method == "fp8":
		return otherFP8InVLM(f, v, sites)
	}
	return ""
}

// isFineGrained reports whether mlx-vlm makes MXFP8 of the weights.
func isFineGrained(q gjson.Result) bool {
	code, block := q.Get("fmt"), q.Get("weight_block_size").Array()
	return (!code.Exists() || code.String() == "e4m3") && len(block) == 2 && block[0].Int() == 128 && block[1].Int() == 128
}

func fineGrainedInVLM(f *Family, v *checkpoint.Inventory, sites []Site) string {
	read := false
	for i := range sites {
		s := &sites[i]
		if s.Scales == nil || !strings.HasSuffix(s.Scales.Tensor.Name, ".weight_scale_inv") {
			continue
		}
		read = true
		if !spreads(Blocks, s) || s.Scales.Type == dtype.F8E8M0 {
			return cannotRead(s)
		}
		if cols := s.Tensor.Shape[1]; cols%32 != 0 {
			return fmt.Sprintf("fails: the %d columns of %s are not a multiple of 32, MXFP8's group", cols, s.Tensor.Name)
		}
	}
	if read && f.Unconverted.MLXVLM == SplitsMXFP8 {
		return f.Unconverted.MLXVLM
	}
	if f.Wrapper != "" {
		if s := unbroadcast(sites, ".weight_scale_inv"); s != nil {
			return cannotRead(s)
		}
	}
	return orRejects(f, v, sites, append(vlmIgnores(f), ".weight_scale_inv"), true, f.Unconverted.MLXVLM)
}

func compressedInVLM(f *Family, v *checkpoint.Inventory, sites []Site) string {
	for i := range sites {
		if s := &sites[i]; s.Scales != nil && strings.HasSuffix(s.Scales.Tensor.Name, ".weight_scale") && !spreads(Broadcasts, s) {
			return cannotRead(s)
		}
	}
	return orRejects(f, v, sites, []string{".weight_scale", ".input_scale", ".k_scale", ".v_scale"}, false, "dequantizes it while loading")
}

// otherFP8InVLM is about scales that are not 128x128 blocks, which only the models' own loaders
// know.
func otherFP8InVLM(f *Family, v *checkpoint.Inventory, sites []Site) string {
	does := ""
	if f.Wrapper != "" {
		if s := unbroadcast(sites, ""); s != nil {
			return cannotRead(s)
		}
		does = "dequantizes it while loading"
	} else if s := unreadable(f, sites); s != nil {
		return cannotRead(s)
	}
	return orRejects(f, v, sites, vlmIgnores(f), false, does)
}

func cannotRead(s *Site) string {
	return fmt.Sprintf("fails: it does not read the scales of %s, %s", s.Tensor.Name, s.Scales.Form)
}

// unbroadcast finds a weight whose scales, called _scale_inv, a loader multiplies it by and cannot;
// it ignores those called except.
func unbroadcast(sites []Site, except string) *Site {
	for i := range sites {
		s := &sites[i]
		if s.Scales != nil && strings.HasSuffix(s.Scales.Tensor.Name, "_scale_inv") && (except == "" || !strings.HasSuffix(s.Scales.Tensor.Name, except)) &&
			!spreads(Broadcasts, s) {
			return s
		}
	}
	return nil
}

// vlmIgnores returns the endings of names that the family's own loader consumes or leaves out in
// mlx-vlm: the Mistrals have one there, the others use mlx-lm's.
func vlmIgnores(f *Family) []string {
	switch {
	case f.Wrapper != "":
		return []string{"_scale_inv", "activation_scale"}
	case f.Unconverted.MLXLM != "":
		return append([]string{"_scale_inv"}, f.Unconverted.Ignores...)
	}
	return nil
}

// orRejects returns does, unless there are tensors for which mlx-vlm has no place. If all FP8
// becomes MXFP8, a prediction head that is not dropped keeps its scales, in another form.
func orRejects(f *Family, v *checkpoint.Inventory, sites []Site, ignores []string, mxfp8 bool, does string) string {
	layers, n := Layers(v.Config), 0
	for i := range sites {
		s := &sites[i]
		name := s.Tensor.Name
		isMTP := f.IsMTP(name, layers)
		switch {
		case f.IsVision(name), isMTP && f.DropsMTP(layers):
		case slices.ContainsFunc(ignores, func(ending string) bool { return strings.HasSuffix(name, ending) }) && !(isMTP && mxfp8):
		case s.Role == Scale, s.Role == Drop:
			n++
		}
	}
	if n > 0 {
		return rejectsIt(n)
	}
	return does
}
