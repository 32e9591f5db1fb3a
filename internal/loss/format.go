package loss

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/mlxquant"
)

// quantizedModule is a module of a checkpoint in one of MLX's formats.
type quantizedModule struct {
	format                mlxquant.Format
	shape                 []int64 // of the weights
	codes, scales, biases *checkpoint.Tensor
}

// quantizedModules finds them as MLX's runtimes do: a module is quantized if it has scales, in the
// format that "quantization" of config.json gives for its path, or for all.
func quantizedModules(v *checkpoint.Inventory) (map[string]*quantizedModule, error) {
	formats := map[string]gjson.Result{}
	global := v.Config.Get("quantization")
	if !global.IsObject() {
		global = v.Config.Quantization()
	}
	// Paths have dots, so gjson paths do not find them.
	global.ForEach(func(key, value gjson.Result) bool {
		formats[key.String()] = value
		return true
	})
	modules := map[string]*quantizedModule{}
	for i := range v.Tensors {
		path, ok := strings.CutSuffix(v.Tensors[i].Name, ".scales")
		if !ok {
			continue
		}
		m := &quantizedModule{codes: v.Lookup(path + ".weight"), scales: &v.Tensors[i], biases: v.Lookup(path + ".biases")}
		if m.codes == nil || m.codes.DType != dtype.U32 {
			continue // scales of something else
		}
		f := global
		if x := formats[path]; x.IsObject() {
			f = x
		}
		if err := m.read(f); err != nil {
			return nil, fault.In("module "+path, err)
		}
		modules[path+".weight"] = m
	}
	if len(modules) == 0 {
		return nil, fault.Unsupported("", "is not quantized: no weight has scales beside it").WithHint(
			"metalcast convert SRC DST -q makes a checkpoint that is; without --error every checkpoint is verified")
	}
	return modules, nil
}

// read takes the format from its entry in config.json and checks the tensors against it.
func (m *quantizedModule) read(entry gjson.Result) error {
	if !entry.Get("bits").Exists() || !entry.Get("group_size").Exists() {
		return fault.Corrupt("", "has scales, and %s does not say how it is quantized", checkpoint.ConfigName)
	}
	m.format = mlxquant.Format{Bits: int(entry.Get("bits").Int()), GroupSize: int(entry.Get("group_size").Int())}
	if mode := entry.Get("mode"); mode.Exists() {
		var ok bool
		if m.format.Mode, ok = mlxquant.ParseMode(mode.String()); !ok {
			return fault.Unsupported("", "%s calls its mode %q, which is not one of affine, mxfp4, mxfp8, nvfp4", checkpoint.ConfigName, mode.String())
		}
	}
	if err := m.format.Check(); err != nil {
		return fault.Corrupt("", "%s: %v", checkpoint.ConfigName, err)
	}
	last := len(m.codes.Shape) - 1
	m.shape = slices.Clone(m.codes.Shape)
	sound := last >= 1
	if sound {
		groups := m.codes.Shape[last] * 4 / int64(m.format.GroupBytes())
		m.shape[last] = groups * int64(m.format.GroupSize)
		companion := slices.Clone(m.codes.Shape)
		companion[last] = groups
		sound = groups*int64(m.format.GroupBytes()) == m.codes.Shape[last]*4 && slices.Equal(m.scales.Shape, companion)
		if m.format.Mode == mlxquant.Affine {
			sound = sound && m.scales.DType.IsFloat() && m.biases != nil && m.biases.DType == m.scales.DType && slices.Equal(m.biases.Shape, companion)
		} else {
			sound = sound && m.scales.DType == dtype.U8
		}
	}
	if !sound {
		return fault.Corrupt("", "codes are %v, scales %s%v, biases %s: not what %s makes of a matrix", m.codes.Shape, m.scales.DType, m.scales.Shape, shapeOf(m.biases), m.format)
	}
	if m.format.Mode != mlxquant.Affine {
		m.biases = nil
	}
	return nil
}

func shapeOf(t *checkpoint.Tensor) string {
	if t == nil {
		return "missing"
	}
	return fmt.Sprint(t.DType, t.Shape)
}
