package plan

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/family"
	"github.com/metalcast/metalcast/internal/fault"
)

// FuzzCard puts the note on top of any README.md: what the source says stays below it, front matter
// that is not understood stays as it is, and a second note takes the place of the first.
func FuzzCard(f *testing.F) {
	for _, front := range []string{
		"", "license: mit", "base_model: a/b\ntags:\n- x", "tags: mlx", "tags: [a, b]\nbase_model:\n- a\n- b", "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\ntags: *a", "{", "\t", "? a\n: b",
		"a: |\n  b\nbase_model: >-\n  c", "!!binary x", strings.Repeat("[", 500), strings.Repeat("a:\n ", 50), "a: b\r\ntags: c\r", "a: b\n...", "---\n---", "tags: {a: b}", "tags: [[1], 2.5, ~, yes]",
		"library_name: \"x\"\npipeline_tag: 'y'", "# comment\na: b # c\n\n\nd: e", "base_model: &x a", "tags:\n  - a\n  -\n  - b: c", "\"base_model\" : a", "base_model", "a: [", "%YAML 1.2\n---\na: b", "<<: {a: b}\ntags: !!set {a, b}", "a: b\r\nc: d", "a\n--- \nb: c",
	} {
		f.Add(front, "# Model\n", true)
		f.Add(front, "\n\n---\nx\n", false)
	}
	f.Fuzz(func(t *testing.T, front, body string, mlx bool) {
		p := &Plan{Source: &checkpoint.Inventory{Repo: "org/name", Revision: "abc"}, DType: dtype.BF16, Layout: family.Stacked, Family: &family.Family{}}
		if mlx {
			p.Layout = family.MLX
		}
		text := body
		if front != "" {
			text = "---\n" + front + "\n---\n" + body
		}
		got := string(p.card(text, "metalcast fuzz"))
		_, below, ok := strings.Cut(got, "> Converted from `org/name` (revision abc) to bfloat16, ")
		require.True(t, ok)
		_, source, _ := strings.Cut(below, "\n")
		require.True(t, strings.HasSuffix(text, strings.TrimLeft(source, "\n")), "%q", got)
		again, _ := strings.CutPrefix(string(p.card(got, "metalcast fuzz")), "\uFEFF")
		require.Equal(t, strings.Count(got, "\n> Converted from `org/name`"), strings.Count(again, "\n> Converted from `org/name`"), "%q", again)
		require.LessOrEqual(t, len(got), 20*len(text)+1000)
	})
}

// FuzzConvertedConfig rewrites any config.json: the quantization goes, the type is said, everything
// else stays, and the result is one object that a strict parser takes.
func FuzzConvertedConfig(f *testing.F) {
	for _, text := range []string{
		`{}`, `{"model_type":"x","dtype":"float8","quantization_config":{}}`, "{\n  \"a\": 1,\n  \"text_config\": {\"torch_dtype\": null, \"quantization_config\": {\"a\": [1]}}\n}\n",
		`{"quantization_config":1,"compression_config":[],"text_config":[]}`, `{"text_config":{"dtype":{"a":1}}}`, `{"a.b":1,"text_config.dtype":2,"dtype ":3,"":4}`, `{"\u0064type":"x"}`,
		`{"quantization_config" : {"a":"}"} , "b":1}`, `{"a":"\"","dtype":"x"}`, `{"@this":1,"*":2,"#":3,"a|b":4,"..0":5}`, `{"vision_config":{},"_name_or_path":"x","eos_token_id":[1,2]}`, `{"text_config":{"text_config":{"dtype":1}}}`, `{"llm_config":{"quantization_config":{}},"thinker_config":{"text_config":{"compression_config":1,"a":2}},"a_config":[1],"Config":{"quantization_config":1}}`, `{"config":{"config":{"config":{"config":{"quantization_config":1,"config":{"quantization_config":1}}}}}}`, `{"a":[NaN,-Infinity],"dtype":Infinity}`, `{"a":1,"a":2,"text_config":{"dtype":1,"dtype":NaN}}`, `{"\ud800":1,"\ud801":"\udc00"}`,
		`{"a":` + strings.Repeat("[", 9999) + strings.Repeat("]", 9999) + `}`, "{\n\t\"dtype\": 1e400}", `{"0":1e700}`, "{\"a\":1.0,\"b\":-0,\"c\":1E5,\"d\":12345678901234567890}",
	} {
		f.Add([]byte(text), "")
		f.Add([]byte(text), "qwen3_5_moe")
	}
	f.Fuzz(func(t *testing.T, text []byte, modelType string) {
		c, err := checkpoint.ParseConfig(text)
		if err != nil {
			return
		}
		got, err := convertedConfig(c, dtype.BF16, strings.ToValidUTF8(modelType, ""))
		if errors.Is(err, fault.ErrUnsupported) { // too deep
			return
		}
		require.NoError(t, err, "%s", text)
		changed(t, c, got, modelType != "")
		p := &Plan{Source: &checkpoint.Inventory{}}
		native, err := p.nativeConfig(got)
		if errors.Is(err, fault.ErrUnsupported) {
			return
		}
		require.NoError(t, err, "%s", got)
		d, err := checkpoint.ParseConfig(native)
		require.NoError(t, err, "%s", native)
		require.False(t, d.Get("vision_config").Exists())
		require.False(t, d.Get("quantization_config").Exists())
	})
}

// exactJSON keeps numbers as they are spelt: 1e700 fits no float64.
func exactJSON(t *testing.T, text []byte) (v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	require.NoError(t, d.Decode(&v), "%s", text)
	return v
}

// plain is a value without what it says of a quantization: at key, and in the configs of the models
// inside.
func plain(key string, v any, depth int) any {
	in, ok := v.(map[string]any)
	if !ok || depth > 4 || !strings.HasSuffix(key, "config") || strings.Trim(key, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		return v
	}
	delete(in, "quantization_config")
	delete(in, "compression_config")
	for key, inner := range in {
		in[key] = plain(key, inner, depth+1)
	}
	return in
}

// changed compares with another parser's reading.
func changed(t *testing.T, c *checkpoint.Config, got []byte, typed bool) {
	t.Helper()
	_, err := checkpoint.ParseConfig(got)
	require.NoError(t, err, "%s", got)
	var before, after map[string]json.RawMessage
	if json.Unmarshal(c.Text, &before) != nil {
		return // deeper than that parser goes
	}
	require.NoError(t, json.Unmarshal(got, &after))
	for _, key := range []string{"quantization_config", "compression_config"} {
		require.NotContains(t, after, key)
		delete(before, key)
	}
	var inner map[string]json.RawMessage
	if json.Unmarshal(after["text_config"], &inner) == nil {
		require.NotContains(t, inner, "quantization_config")
		require.NotContains(t, inner, "compression_config")
		for _, key := range []string{"dtype", "torch_dtype"} {
			if v, ok := inner[key]; ok {
				require.Equal(t, `"bfloat16"`, string(v))
			}
		}
	}
	said := inner["dtype"] != nil || inner["torch_dtype"] != nil
	for _, key := range []string{"dtype", "torch_dtype"} {
		if v, ok := after[key]; ok {
			require.Equal(t, `"bfloat16"`, string(v))
			said = true
		}
	}
	require.True(t, said)
	for key, v := range before {
		if key == "dtype" || key == "torch_dtype" || key == "text_config" || key == "model_type" && typed {
			continue
		}
		require.Equal(t, plain(key, exactJSON(t, v), 1), exactJSON(t, after[key]), key)
		delete(after, key)
	}
	for _, key := range []string{"dtype", "torch_dtype", "text_config", "model_type"} {
		delete(after, key)
	}
	require.Empty(t, after)
}
