package checkpoint_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/checkpoint"
	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
	"github.com/metalcast/metalcast/internal/fault"
)

// memoryDir is a new directory, in memory where there is room for one.
func memoryDir(f *testing.F) string {
	parent := ""
	if st, err := os.Stat("/dev/shm"); err == nil && st.IsDir() {
		parent = "/dev/shm"
	}
	dir, err := os.MkdirTemp(parent, "fuzz")
	require.NoError(f, err)
	f.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// plainError demands an error of a kind, with a text of one line that a person can read.
func plainError(t *testing.T, err error) {
	t.Helper()
	var e *fault.Error
	require.ErrorAs(t, err, &e)
	require.NotNil(t, e.Kind, "%v", err)
	for _, text := range []string{err.Error(), fault.Hint(err)} {
		require.Less(t, len(text), 4096)
		require.NotRegexp(t, Misprint, text)
		require.False(t, strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7F }), "%q", text)
	}
}

// FuzzIndex opens a directory with any index. What is accepted has only shards that are files of
// the directory itself, and every tensor that the index names.
func FuzzIndex(f *testing.F) {
	for _, text := range []string{
		`{"metadata":{"total_size":1},"weight_map":{"a":"model.safetensors","b":"b.safetensors"}}`,
		`{"weight_map":{"a":"model.safetensors"}}`, `{"weight_map":{"a":"../model.safetensors"}}`, `{"weight_map":{"a":"/etc/passwd"}}`, `{"weight_map":{"a":"a\\b"}}`,
		`{"weight_map":{"a":"b.safetensors\n"}}`, `{"weight_map":{"a":"link.safetensors"}}`, `{"weight_map":{"a":"dir"}}`, `{"weight_map":{"a":"config.json"}}`,
		`{"weight_map":{"a":1}}`, `{"weight_map":null}`, `{"weight_map":{"a":null}}`, `{"weight_map":{"a":"x","a":"y"}}`, `{"weight_map":{}}`, `[]`, `{`, "", "\xEF\xBB\xBF{}",
		`{"weight_map":{"a":""}}`, `{"weight_map":{"a":"."}}`, `{"weight_map":{"a":".."}}`, `{"weight_map":{"a":"model.safetensors","nothing":"model.safetensors"}}`,
		`{"Weight_Map":{"a":"model.safetensors"}}`, `{"weight_map":{"a":"model.safetensors","b":"model.safetensors"}}`, strings.Repeat(`{"weight_map":`, 10001),
	} {
		f.Add([]byte(text))
	}
	parent := memoryDir(f)
	dir := filepath.Join(parent, "src")
	require.NoError(f, os.MkdirAll(filepath.Join(dir, "dir"), 0o755))
	write := func(path string, data []byte) { require.NoError(f, os.WriteFile(path, data, 0o644)) }
	write(filepath.Join(parent, "outside.safetensors"), Encode([]Tensor{{Name: "a", DType: "U8", Shape: []int{1}}}))
	write(filepath.Join(dir, "config.json"), []byte("{}"))
	write(filepath.Join(dir, "model.safetensors"), Encode([]Tensor{{Name: "a", DType: "U8", Shape: []int{1}}}))
	write(filepath.Join(dir, "b.safetensors"), Encode([]Tensor{{Name: "b", DType: "U8", Shape: []int{1}}}))
	require.NoError(f, os.Symlink("../outside.safetensors", filepath.Join(dir, "link.safetensors")))
	f.Fuzz(func(t *testing.T, text []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, checkpoint.IndexName), text, 0o644))
		v, err := checkpoint.Open(t.Context(), dir)
		if err != nil {
			plainError(t, err)
			return
		}
		for _, s := range v.Shards {
			require.True(t, slices.Contains([]string{"model.safetensors", "b.safetensors"}, s.Name), s.Name)
		}
		require.Len(t, v.Tensors, len(v.Shards)) // a in one, b in the other
	})
}

// FuzzNames opens a directory of files of any names, two of them shards of one tensor. What is
// accepted is a whole set of shards; other files are copied, left out or hidden.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"model.safetensors", "model-00001-of-00002.safetensors|model-00002-of-00002.safetensors", "model-00001-of-00000.safetensors", "model-00000-of-00001.safetensors|x",
		"model-00003-of-00002.safetensors|model-00001-of-00002.safetensors|model-00002-of-00002.safetensors", "model-00001-of-00001.safetensors|model.safetensors",
		"tokenizer.json|model.safetensors|a.gguf|.hidden|._model.safetensors|README.md|\x01\x1b[|metalcast.lock|Config.json"} {
		f.Add(s)
	}
	parent := memoryDir(f)
	f.Fuzz(func(t *testing.T, s string) {
		dir := filepath.Join(parent, "src")
		require.NoError(t, os.RemoveAll(dir))
		require.NoError(t, os.Mkdir(dir, 0o755))
		names := map[string]bool{}
		for i, name := range strings.Split(s, "|") {
			if i == 8 {
				break
			}
			// Names alone: no file is written elsewhere.
			if name == "config.json" || name == checkpoint.IndexName || strings.ContainsAny(name, `/\`) {
				continue
			}
			data := Encode([]Tensor{{Name: string(rune('a' + i)), DType: "U8", Shape: []int{1}}})
			if os.WriteFile(filepath.Join(dir, name), data, 0o644) == nil {
				names[filepath.Base(name)] = true
			}
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, "config.json"), []byte("{}"), 0o644))
		v, err := checkpoint.Open(t.Context(), dir)
		if err != nil {
			plainError(t, err)
			return
		}
		require.Equal(t, len(v.Shards), len(v.Tensors))
		for _, s := range v.Shards {
			require.True(t, names[s.Name])
		}
		for _, x := range v.Files {
			require.True(t, filepath.IsLocal(x.Name) && !strings.HasPrefix(x.Name, "."), x.Name)
			_, err := v.ReadFile(x.Name, 1<<20)
			require.NoError(t, err)
		}
		if set := numberedShard.FindStringSubmatch(v.Shards[0].Name); set != nil || len(v.Shards) > 1 {
			for i, s := range v.Shards {
				require.Equal(t, fmt.Sprintf("%s-%05d-of-%05d.safetensors", set[1], i+1, len(v.Shards)), s.Name)
			}
		}
		if names["model.safetensors"] {
			require.Equal(t, "model.safetensors", v.Shards[0].Name)
		}
	})
}

var numberedShard = regexp.MustCompile(`(?s)^(.+)-\d{5}-of-\d{5}\.safetensors$`)

// FuzzConfig reads any config.json. What is accepted is one object, and its settings are numbers
// that make sense or an error.
func FuzzConfig(f *testing.F) {
	for _, text := range []string{
		MoeConfig(2), `{}`, `{"quantization_config":{"weight_block_size":[128,128]}}`, `{"quantization_config":{"weight_block_size":"128x64"}}`, `{"quantization_config":{"weight_block_size":[1e9,1]}}`,
		`{"text_config":{"quantization_config":{"config_groups":{"a":{"weights":{"block_structure":[1,32]}}}}}}`, `{"quantization_config":[],"text_config":"x"}`, `{"model_type":1}`,
		`{"a":1}{}`, `[]`, "\xEF\xBB\xBF{}", `{"a":"\ud800"}`, `{"a":1,"\u0061":2}`, `{"num_experts":NaN,"num_hidden_layers":[Infinity,-Infinity]}`, `{"a":{"b":1,"b":2},"a":{"b":3}}`, `{"model_type":NaN,"model_type":"x"}`, strings.Repeat("[", 20000), strings.Repeat(`{"a":`, 9999) + "1" + strings.Repeat("}", 9999),
		`{"quantization_config":{"weight_block_size":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := checkpoint.ParseConfig(text)
		if err != nil {
			plainError(t, fault.In(checkpoint.ConfigName, err))
			return
		}
		require.True(t, c.Get("@this").IsObject())
		standard, restore := checkpoint.Standard(c.Text)
		require.True(t, jsontext.Value(standard).IsValid(jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(bytes.Contains(c.Text, []byte(`\u`)))), "%q", standard)
		require.Equal(t, c.Text, restore(standard))
		again, err := checkpoint.ParseConfig(c.Text)
		require.NoError(t, err)
		require.Equal(t, c.Text, again.Text)
		require.Empty(t, again.Notes)
		_, _ = c.ModelType(), c.Quantization()
		for _, key := range []string{"num_experts", "num_hidden_layers", "tie_word_embeddings"} {
			_, _ = c.TextSetting(key).Int(), c.TextSetting(key).Bool()
		}
		sizes, err := c.BlockSizes()
		if err != nil {
			var e *fault.Error
			require.True(t, errors.As(err, &e))
			plainError(t, err)
		}
		for _, s := range sizes {
			require.True(t, s[0] > 0 && s[1] > 0 && s[0] < 1<<31 && s[1] < 1<<31, "%v", s)
		}
	})
}
