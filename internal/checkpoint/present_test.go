package checkpoint_test

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/checkpoint"
	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
	"github.com/metalcast/metalcast/internal/fault"
)

// Directories that people give for a checkpoint's, as their tools leave them.
func TestOpenNamesWhatIsThere(t *testing.T) {
	const (
		config  = "config.json"
		adapter = "adapter_config.json"
	)
	for name, test := range map[string]struct {
		files      []string // and, with config, config.json
		text       string   // of each
		kind       error
		want, hint string
		withConfig bool // the same message where there is a config.json too
	}{
		"Mistral":         {[]string{"consolidated.safetensors", "params.json", "tekken.json"}, "{}", fault.ErrUnsupported, "Mistral's own format", "model*.safetensors", true},
		"Mistral, shards": {[]string{"consolidated-00001-of-00002.safetensors"}, "", fault.ErrUnsupported, "Mistral's own names", "model*.safetensors", true},
		"Llama":           {[]string{"consolidated.00.pth", "params.json"}, "", fault.ErrUnsupported, "consolidated weights", "Hugging Face form", true},
		"GGUF":            {[]string{"model-Q4_K_M.gguf", "README.md"}, "GGUF", fault.ErrUnsupported, "GGUF", "made from", true},
		"pickle":          {[]string{"pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"}, "PK", fault.ErrUnsupported, "pickles (pytorch_model.bin)", "save it as safetensors first", true},
		"bare pickle":     {[]string{"model.pt"}, "PK", fault.ErrUnsupported, "pickles (.pt)", "save it as safetensors first", true},
		"ckpt":            {[]string{"last.ckpt"}, "PK", fault.ErrUnsupported, "pickles (.ckpt)", "save it as safetensors first", true},
		"vLLM":            {[]string{"model-rank-0-part-0.safetensors", "model-rank-1-part-0.safetensors"}, "", fault.ErrUnsupported, "vLLM's sharded state", "made from", true},
		"Flax":            {[]string{"flax_model.msgpack"}, "", fault.ErrUnsupported, "Flax", "save it as safetensors first", true},
		"MLX npz":         {[]string{"weights.npz"}, "", fault.ErrUnsupported, "MLX's older one", "made from", true},
		"diffusers":       {[]string{"model_index.json"}, "{}", fault.ErrUnsupported, "a diffusers pipeline", "text_encoder", false},
		"PEFT":            {[]string{adapter, "adapter_model.safetensors"}, `{"base_model_name_or_path":"Org/Base"}`, fault.ErrUnsupported, "an adapter (adapter_config.json) of Org/Base", "merge it", true},
		"mlx-lm's LoRA":   {[]string{adapter, "adapters.safetensors"}, `{"model":"Org/Base"}`, fault.ErrUnsupported, "an adapter (adapter_config.json) of Org/Base", "merge it", true},
		"odd adapter":     {[]string{adapter}, "[", fault.ErrUnsupported, "an adapter (adapter_config.json) of its base model", "merge it", true},
		"nothing":         {[]string{".gitattributes"}, "", fault.ErrIncomplete, "an empty directory", "config.json", false},
		"interrupted":     {[]string{"metalcast.lock", "metalcast.journal"}, "", fault.ErrIncomplete, "a conversion that has not ended", "same metalcast convert again", false},
		"a parent":        {[]string{"Tiny-FP8/config.json"}, "{}", fault.ErrIncomplete, "no config.json", "Tiny-FP8 has one: give that", false},
		"cache":           {[]string{"models--Org--Tiny/snapshots/x/config.json"}, "{}", fault.ErrIncomplete, "in the hub cache", "give its id: Org/Tiny", false},
		"code":            {[]string{"setup.py"}, "", fault.ErrIncomplete, "no config.json: not a checkpoint's directory", "give the directory that holds", false},
	} {
		for _, configured := range []bool{false, true} {
			if configured && !test.withConfig {
				continue
			}
			t.Run(name, func(t *testing.T) {
				dir := t.TempDir()
				files := test.files
				for _, file := range files {
					path := filepath.Join(dir, file)
					require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
					require.NoError(t, os.WriteFile(path, []byte(test.text), 0o644))
				}
				if configured {
					require.NoError(t, os.WriteFile(filepath.Join(dir, config), []byte(`{"model_type":"qwen3"}`), 0o644))
				}
				if name == "cache" {
					dir = filepath.Join(dir, "models--Org--Tiny")
				}
				_, err := checkpoint.Open(t.Context(), dir)
				require.ErrorIs(t, err, test.kind)
				assert.ErrorContains(t, err, test.want)
				assert.Contains(t, fault.Hint(err), test.hint)
			})
		}
	}
}

// A checkpoint that has another form beside its shards is still one.
func TestOpenTakesShardsBesideOtherForms(t *testing.T) {
	c := Moe(1)
	maps.Copy(c.Files, map[string]string{"params.json": "{}", "consolidated.safetensors": "x", "pytorch_model.bin": "PK", "adapter_config.json": "{}", "a.gguf": "GGUF"})
	_, err := checkpoint.Open(t.Context(), c.Write(t))
	assert.NoError(t, err)
}

func TestOpenNamesAFile(t *testing.T) {
	for file, want := range map[string]string{"m-Q4.gguf": "GGUF", "pytorch_model.bin": "pickles", "m.onnx": "ONNX"} {
		path := filepath.Join(t.TempDir(), file)
		require.NoError(t, os.WriteFile(path, nil, 0o644))
		_, err := checkpoint.Open(t.Context(), path)
		require.ErrorIs(t, err, fault.ErrUnsupported)
		assert.ErrorContains(t, err, want)
	}
	path := filepath.Join(t.TempDir(), "model.safetensors")
	require.NoError(t, os.WriteFile(path, nil, 0o644))
	_, err := checkpoint.Open(t.Context(), path)
	require.ErrorIs(t, err, fault.ErrIncomplete)
	assert.Contains(t, fault.Hint(err), "give "+filepath.Dir(path))
}
