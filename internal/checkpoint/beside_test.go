package checkpoint_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/checkpoint"
	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
)

// beside opens Moe(1) with more files beside it, and gives those that go along and those that do
// not.
func beside(t *testing.T, files map[string]string) (along, leftOut []string) {
	t.Helper()
	dir := Moe(1).Write(t)
	for name, text := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	v, err := checkpoint.Open(t.Context(), dir)
	require.NoError(t, err)
	for _, f := range v.Files {
		along = append(along, f.Name)
	}
	return along, v.LeftOut
}

func TestOpenKeepsTogetherWhatBelongsTogether(t *testing.T) {
	along, leftOut := beside(t, map[string]string{
		"adapter_config.json": "{}", "adapter_model.safetensors": "x",
		"modules.json":          `[{"path":""},{"path":"1_Pooling"},{"path":"2_Dense"},{"path":"../out"},{"path":"gone"}]`,
		"1_Pooling/config.json": "{}", "2_Dense/config.json": "{}", "2_Dense/model.safetensors": "weights", "onnx/model.onnx": "x",
		"config_sentence_transformers.json": "{}",
	})
	assert.Equal(t, []string{"1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors", "config_sentence_transformers.json", "modules.json"}, along)
	assert.Equal(t, []string{"adapter_config.json", "adapter_model.safetensors", "onnx/"}, leftOut)
}

func TestOpenLeavesOutWeightsUnderAnyName(t *testing.T) {
	shard := string(Encode([]Tensor{{Name: "a", DType: "U8", Shape: []int{64}}}))
	files := map[string]string{
		// By their names,
		"model.safetensors.bak": "x", "model.safetensors.old": "x", "a.ckpt": "x", "a.onnx_data": "x", "a.pkl": "x", "optimizer.pt": "x", "training_args.bin": "x", "a.tflite": "x",
		"a.Q4.GGUF": "x", "tf_model.h5": "x", "flax_model.msgpack.index.json": "{}", "pytorch_model.bin.index.json": "{}", "openvino_model.xml": "<x/>", "openvino_model.bin": "x", "rust_model.ot": "x",
		// and by what they hold.
		"weights": shard, "weights.zip": "PK\x03\x04" + strings.Repeat("x", 64), "state.dat": "\x80\x04" + strings.Repeat("x", 64), "llama": "GGUF\x03\x00\x00\x00\x00\x00",
	}
	along, leftOut := beside(t, files)
	assert.Empty(t, along)
	assert.Len(t, leftOut, len(files))
	// Text and tokenizers are not any of them.
	texts := map[string]string{
		"tokenizer.model": "\x0a\x0e\x0a\x05<unk>\x15\x00\x00", "tokenizer.json": "{}", "merges.txt": "#version: 0.2\nĠ t", "odd.json": "       \n{\"a\":1}", "LICENSE": "Permission is hereby", "empty": "",
		"picture.png": "\x89PNG\r\n\x1a\n\x00", "chat_template.jinja": "{% for m in messages %}", "modeling.py": "import torch",
	}
	along, leftOut = beside(t, texts)
	assert.Len(t, along, len(texts))
	assert.Empty(t, leftOut)
}
