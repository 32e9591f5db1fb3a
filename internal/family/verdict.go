package family

import (
	"fmt"
	"slices"
	"strings"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/fault"
)

// transformers is the third runtime whose behaviour docs/families.md and docs/compatibility.md
// record.
const transformers = "transformers 5.24 on a Mac"

// Verdict is what a runtime does with a checkpoint.
type Verdict struct {
	Runtime string // "mlx-lm 0.32.2"
	Does    string // "loads it"
}

// Verdicts says what runtimes do with a checkpoint as it is, as far as it is known. rejects is
// MLXRejects.
func (f *Family) Verdicts(v *checkpoint.Inventory, sites []Site, form Form, rejects int) (list []Verdict) {
	if !f.Known() {
		return nil
	}
	say := func(runtime, format string, args ...any) {
		list = append(list, Verdict{runtime, fmt.Sprintf(format, args...)})
	}
	method := v.Config.Quantization().Get("quant_method").String()
	say(MLXLM, "%s", mlxLMDoes(f, v, sites, form, rejects))
	if form.FP8 == 0 {
		return list
	}
	if does := mlxVLMDoes(f, v, sites); does != "" {
		say(MLXVLM, "%s", does)
	}
	if method != "fp8" {
		return list // others are read by libraries of their own
	}
	if s := firstPartial(sites, false); s != nil {
		say(transformers, "raises: %d rows of %s are not a multiple of %d scale rows", s.Tensor.Shape[0], s.Tensor.Name, s.Scales.Tensor.Shape[0])
	} else if s := firstPartial(sites, true); s != nil {
		say(transformers, "is silently WRONG: it cuts the %d rows of %s into blocks of %d", s.Tensor.Shape[0], s.Tensor.Name, s.Tensor.Shape[0]/s.Scales.Tensor.Shape[0])
	} else if f.Experts != nil && f.Experts.Transposed && form.PerExpert {
		say(transformers, "has no place for experts that are apart")
	} else if f.Experts != nil && f.Experts.Transposed {
		say(transformers, "fails: its loader does not take the scales of stacked experts (transformers issue 44230)")
	} else {
		say(transformers, "dequantizes it while loading, all in memory")
	}
	return list
}

// ForeignVerdicts names the runtime that loads weights in another format; nothing has been tried
// for the others.
func ForeignVerdicts(list []Foreign) []Verdict {
	if len(list) == 1 && list[0].ReadBy != "" {
		return []Verdict{{list[0].ReadBy, "loads it"}}
	}
	return nil
}

// firstPartial finds a matrix whose last row of blocks is partial. transformers divides the rows
// evenly all the same or, if it cannot, raises.
func firstPartial(sites []Site, divides bool) *Site {
	for i := range sites {
		s := &sites[i]
		if s.Scales == nil || len(s.Tensor.Shape) != 2 || len(s.Scales.Tensor.Shape) != 2 || s.Tensor.Shape[0]%s.Scales.Block.Rows == 0 {
			continue
		}
		if rows := s.Scales.Tensor.Shape[0]; rows > 1 && (s.Tensor.Shape[0]%rows == 0) == divides {
			return s
		}
	}
	return nil
}

// SkipListNotes compares what the quantization claims to have skipped with what the tensors are.
func SkipListNotes(v *checkpoint.Inventory) (notes []string) {
	q := v.Config.Quantization()
	modules := map[string]bool{} // every module's name, and those above it
	fp8 := map[string]bool{}
	for i := range v.Tensors {
		t := &v.Tensors[i]
		name := t.Name
		for range 64 { // parts; no model has as many
			at := strings.LastIndexByte(name, '.')
			if at < 0 {
				break
			}
			name = name[:at]
			if modules[name] && t.DType != dtype.F8E4M3 {
				break
			}
			modules[name] = true
			if t.DType == dtype.F8E4M3 && name == strings.TrimSuffix(t.Name, ".weight") {
				fp8[name] = true
			}
		}
	}
	var missing, converted []string
	for _, key := range []string{"modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules"} {
		for _, entry := range q.Get(key).Array() {
			name := entry.String()
			switch {
			case name == "" || strings.ContainsAny(name, ":*"): // a pattern
			case fp8[name]:
				converted = append(converted, name)
			case !modules[name] && strings.Contains(name, ".") && len(missing) < 64 && !isPart(v, name):
				missing = append(missing, name)
			}
		}
	}
	if len(converted) > 0 {
		notes = append(notes, fmt.Sprintf("quantization_config says that %s not quantized, for example %s; the tensors are FP8, and that counts", fault.Plural(len(converted), "module is", "modules are"), converted[0]))
	}
	if len(missing) > 0 {
		notes = append(notes, fmt.Sprintf("quantization_config excludes %s that the checkpoint does not have, for example %s", fault.Plural(len(missing), "module", "modules"), missing[0]))
	}
	return notes
}

func isPart(v *checkpoint.Inventory, name string) bool {
	return slices.ContainsFunc(v.Tensors, func(t checkpoint.Tensor) bool { return strings.Contains("."+t.Name, "."+name) })
}
