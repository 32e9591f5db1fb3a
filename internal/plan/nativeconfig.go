package plan

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/tidwall/gjson"

	"github.com/metalcast/metalcast/internal/mlxquant"
)

const nativeIndent = "    "

// nativeConfig returns a config as mlx_lm saves it: keys sorted at top level, without
// vision_config, with the generation config's eos_token_id, and with the quantization as
// "quantization" and as "quantization_config".
func (p *Plan) nativeConfig(text []byte) ([]byte, error) {
	type member struct{ key, raw, value string }
	var members []member
	set := func(key, value string) {
		members = slices.DeleteFunc(members, func(m member) bool { return m.key == key })
		members = append(members, member{key, `"` + key + `"`, value})
	}
	gjson.ParseBytes(text).ForEach(func(key, value gjson.Result) bool {
		if k := key.String(); k != "_name_or_path" && k != "vision_config" {
			members = append(members, member{k, key.Raw, value.Raw})
		}
		return true
	})
	if eos := p.generationEOS(); eos != "" {
		set("eos_token_id", eos)
	}
	if p.Quantized != nil {
		q, err := p.Quantized.config()
		if err != nil {
			return nil, err
		}
		set("quantization", string(q))
		set("quantization_config", string(q))
	}
	if err := indents(text, nativeIndent); err != nil {
		return nil, err
	}
	slices.SortFunc(members, func(a, b member) int { return cmp.Compare(a.key, b.key) })
	var b bytes.Buffer
	for _, m := range members {
		b.WriteString("," + m.raw + ":" + m.value)
	}
	return indented([]byte("{"+strings.TrimPrefix(b.String(), ",")+"}"), nativeIndent)
}

// generationEOS returns generation_config.json's eos_token_id, which mlx_lm prefers to the
// config's; "" if there is none.
func (p *Plan) generationEOS() string {
	if p.Source.Generation == nil {
		return ""
	}
	switch r := p.Source.Generation.Get("eos_token_id"); {
	case r.Type == gjson.Number && r.Num != 0, r.IsArray() && len(r.Array()) > 0:
		return r.Raw
	}
	return ""
}

// config returns the value of "quantization": the global format, then every module with another
// one.
func (q *Quantized) config() (jsontext.Value, error) {
	var b bytes.Buffer
	e := jsontext.NewEncoder(&b)
	tokens := append([]jsontext.Token{jsontext.BeginObject}, formatTokens(q.Format)...)
	for _, x := range q.Exceptions {
		tokens = append(tokens, jsontext.String(x.Path))
		if x.Format == nil {
			tokens = append(tokens, jsontext.False)
			continue
		}
		tokens = append(append(append(tokens, jsontext.BeginObject), formatTokens(*x.Format)...), jsontext.EndObject)
	}
	for _, t := range append(tokens, jsontext.EndObject) {
		if err := e.WriteToken(t); err != nil {
			return nil, err
		}
	}
	return jsontext.Value(bytes.TrimSpace(b.Bytes())), nil
}

func formatTokens(f mlxquant.Format) []jsontext.Token {
	return []jsontext.Token{
		jsontext.String("group_size"), jsontext.Int(int64(f.GroupSize)),
		jsontext.String("bits"), jsontext.Int(int64(f.Bits)),
		jsontext.String("mode"), jsontext.String(f.Mode.String()),
	}
}
