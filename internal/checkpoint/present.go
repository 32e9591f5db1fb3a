package checkpoint

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/metalcast/metalcast/internal/fault"
)

// otherForm is a form of model other than Hugging Face's checkpoints, known by the names of its
// files.
type otherForm struct {
	name  string
	files []string // patterns of filepath.Match; each must match an entry
	hint  string
}

// The hints that several forms share.
const (
	takeSource = "convert the checkpoint that it was made from: config.json and .safetensors files"
	takeHub    = "take the Hugging Face form, config.json and model*.safetensors, where the publisher has one"
	saveFirst  = "save it as safetensors first, as transformers' save_pretrained does; a pickle can run code, so metalcast reads none"
)

// otherForms lists them; the first that matches names a directory.
var otherForms = []otherForm{
	{"a diffusers pipeline (model_index.json)", []string{"model_index.json"}, "metalcast converts language models; give the directory of one, such as text_encoder"},
	{"Mistral's own format (params.json and consolidated weights)", []string{"params.json", "consolidated*"}, takeHub},
	{"Mistral's own names (consolidated weights)", []string{"consolidated*.safetensors"}, takeHub},
	{"Meta's own format (pickles: consolidated.*.pth)", []string{"consolidated*.pth"}, takeHub},
	{"vLLM's sharded state (model-rank-*-part-*)", []string{"model-rank-*-part-*.safetensors"}, takeSource},
	{"GGUF, which is llama.cpp's", []string{"*.gguf"}, takeSource},
	{"GGML, which is llama.cpp's older one", []string{"ggml-*.bin"}, takeSource},
	{"MLC's (ndarray-cache.json)", []string{"ndarray-cache.json"}, takeSource},
	{"TensorRT-LLM's (rank*.engine)", []string{"rank*.engine"}, takeSource},
	{"NeMo's", []string{"*.nemo"}, takeHub},
	{"a distributed checkpoint of PyTorch's (.distcp)", []string{"*.distcp"}, "gather it into a checkpoint with transformers' save_pretrained first"},
	{"pickles (pytorch_model.bin)", []string{"pytorch_model*.bin"}, saveFirst},
	{"pickles (.pt)", []string{"*.pt"}, saveFirst},
	{"pickles (.pth)", []string{"*.pth"}, saveFirst},
	{"pickles (.ckpt)", []string{"*.ckpt"}, saveFirst},
	{"pickles (.bin)", []string{"*model*.bin"}, saveFirst},
	{"TensorFlow's (.h5)", []string{"*.h5"}, saveFirst},
	{"TensorFlow's (saved_model.pb)", []string{"saved_model.pb"}, saveFirst},
	{"Flax's (.msgpack)", []string{"*.msgpack"}, saveFirst},
	{"MLX's older one (.npz)", []string{"*.npz"}, takeSource},
	{"ONNX", []string{"*.onnx"}, takeSource},
	{"ONNX", []string{"onnx"}, takeSource},
	{"Core ML's", []string{"*.ml[mp]*"}, takeSource},
	{"OpenVINO's", []string{"openvino_*.xml"}, takeSource},
	{"a data set (.parquet)", []string{"*.parquet"}, "give a model's directory"},
}

func (f *otherForm) fits(names []string) bool {
	for _, pattern := range f.files {
		fits := func(name string) bool {
			ok, _ := filepath.Match(pattern, name)
			return ok
		}
		if !slices.ContainsFunc(names, fits) {
			return false
		}
	}
	return true
}

// otherFile describes a single file that was given instead of a directory, "" if it is unknown.
func otherFile(name string) *otherForm {
	for i := range otherForms {
		if f := &otherForms[i]; len(f.files) == 1 && f.fits([]string{filepath.Base(name)}) {
			return f
		}
	}
	return nil
}

// present says what a directory holds that has no config.json, or a config.json and no shard. It
// returns nil if it recognises nothing.
func (l *listing) present(shown string) *fault.Error {
	names := slices.DeleteFunc(slices.Clone(l.names), func(name string) bool { return strings.HasPrefix(name, ".") })
	switch {
	case len(names) == 0:
		return fault.Incomplete(shown, "an empty directory").WithHint("give the directory that holds config.json and the .safetensors files")
	case l.has(LockName) || l.has(JournalName):
		return fault.Incomplete(shown, "a conversion that has not ended, not a checkpoint").WithHint(
			"run the same metalcast convert again: it goes on there")
	case l.has(adapterName):
		return l.adapter(shown)
	}
	if repo, _ := hubIdentity(filepath.Join(l.dir, "snapshots", "x")); repo != "" && l.dirs["snapshots"] {
		return fault.Incomplete(shown, "a model's directory in the hub cache, not a checkpoint's").WithHint("give its id: %s", repo)
	}
	for i := range otherForms {
		if f := &otherForms[i]; f.fits(names) {
			return f.refuse(shown)
		}
	}
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(l.dir, name, ConfigName)); err == nil && l.dirs[name] && !l.has(ConfigName) {
			return fault.Incomplete(shown, "no %s: not a checkpoint's directory", ConfigName).WithHint("%s has one: give that", filepath.Join(shown, name))
		}
	}
	return nil
}

func (f *otherForm) refuse(where string) *fault.Error {
	return fault.Unsupported(where, "what is there is %s, not a checkpoint in safetensors", f.name).WithHint("%s", f.hint)
}

// adapter refuses the weights of a fine-tuning adapter, and names the base model if the adapter
// does.
func (l *listing) adapter(shown string) *fault.Error {
	base := "its base model"
	if text, err := l.read(adapterName, maxConfig); err == nil {
		for _, key := range []string{"base_model_name_or_path", "model"} { // as peft and mlx-lm call it
			if name := gjson.GetBytes(text, key); name.Type == gjson.String && name.String() != "" {
				base = name.String()
				break
			}
		}
	}
	return fault.Unsupported(shown, "an adapter (adapter_config.json) of %s, not a model", base).WithHint("merge it into that model first, then convert the result")
}
