package synth

import (
	"bytes"
	"encoding/json"
	"maps"
	"strings"
)

// object is a JSON object. encoding/json writes its keys sorted, as Hugging Face's libraries do.
type object map[string]any

// The special tokens of files/tokenizer.json.
const (
	endOfText = 256 + iota
	imStart
	imEnd
	visionStart
	visionEnd
	imagePad
	videoPad
)

// transformersVersion is the version that the releases name.
const transformersVersion = "4.57.1"

// configJSON returns config.json, as complete as mlx-lm, mlx-vlm and transformers need it.
func (m *model) configJSON() (object, error) {
	if m.family.config != nil {
		return m.family.config(m), nil
	}
	c, err := m.filled(m.family.name + ".json")
	if err == nil && !m.isFP8() {
		delete(c, "quantization_config")
	}
	return c, err
}

// filled returns a template of files/config with its values: in the JSON a string "$name" stands
// for a value.
func (m *model) filled(name string) (object, error) {
	text, err := files.ReadFile("files/config/" + name)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber() // 1e-06 keeps its spelling
	var c object
	if err := d.Decode(&c); err != nil {
		return nil, err
	}
	replace(c, m.values())
	return c, nil
}

// replace substitutes values for their names.
func replace(c map[string]any, values map[string]any) {
	for key, v := range c {
		switch v := v.(type) {
		case map[string]any:
			replace(v, values)
		case string:
			if name, ok := strings.CutPrefix(v, "$"); ok {
				value, known := values[name]
				if !known {
					panic("synth: internal error: no value for " + v)
				}
				c[key] = value
			}
		}
	}
}

// values returns what templates name: sizes and values derived from them.
func (m *model) values() map[string]any {
	d, scheme := m.dims, "dynamic"
	if m.ActivationScales {
		scheme = "static"
	}
	v := map[string]any{
		"layers": d.layers, "experts": d.experts, "top_k": d.topK,
		"hidden": d.hidden, "intermediate": d.intermediate, "vocab": d.vocab,
		"dense": d.dense, "first_dense": d.firstDense, "shared": d.shared,
		"heads": d.heads, "kv_heads": d.kvHeads, "head_dim": d.head(),
		"q_lora": d.qLora, "kv_lora": d.kvLora, "nope": d.nope, "rope": d.rope, "value_dim": d.valueDim,
		"qk_head_dim": d.nope + d.rope, "index_heads": d.indexHeads, "index_dim": d.indexDim,
		"conv": d.conv, "lin_key_heads": d.linKeyHeads, "lin_value_heads": d.linValueHeads,
		"lin_key_dim": d.linKeyDim, "lin_value_dim": d.linValueDim,
		"mamba_heads": d.mambaHeads, "mamba_dim": d.mambaDim, "state": d.state, "groups": d.groups,
		"scheme": scheme, "block": []int{m.BlockSize, m.BlockSize}, "unquantized": m.unquantized(),
		"end": endOfText, "image": imagePad, "video": videoPad, "vision_start": visionStart, "vision_end": visionEnd,
		"vision": m.visionConfig(),
	}
	if m.family.values != nil {
		maps.Copy(v, m.family.values(m))
	}
	return v
}

// unquantized lists the modules whose matrices are not quantized.
func (m *model) unquantized() []string {
	left := []string{}
	for i := range m.tensors {
		if t := &m.tensors[i]; t.kind == matrix || t.kind == kernel || t.kind == router {
			left = append(left, strings.TrimSuffix(t.Name, ".weight"))
		}
	}
	return left
}

// times returns a list with n copies of the value.
func times[T any](n int, value T) []T {
	list := make([]T, n)
	for i := range list {
		list[i] = value
	}
	return list
}
