package checkpoint

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/metalcast/metalcast/internal/fault"
)

// sortFiles decides which of the other files are copied. Weights in other formats, and settings of
// a quantization that is removed, stay behind.
func (v *Inventory) sortFiles(l *listing) error {
	shard := map[string]bool{}
	for _, s := range v.Shards {
		shard[s.Name] = true
	}
	modules := l.modules()
	for _, name := range l.names {
		switch {
		case shard[name] || name == ConfigName || name == IndexName:
		case strings.HasPrefix(name, "."):
		case l.dirs[name] && (name == chatTemplates || slices.Contains(modules, name)):
			if err := v.addDirectory(l, name); err != nil {
				return err
			}
		case l.dirs[name]:
			v.LeftOut = append(v.LeftOut, name+string(filepath.Separator))
		case staysBehind(name):
			v.LeftOut = append(v.LeftOut, name)
		default:
			if err := v.addFile(l, name); err != nil {
				return err
			}
		}
	}
	return nil
}

const (
	// chatTemplates is the one directory that transformers reads beside the files.
	chatTemplates = "additional_chat_templates"
	// modulesName lists the parts of a sentence-transformers model: itself, and directories with a
	// config each.
	modulesName = "modules.json"
	adapterName = "adapter_config.json"
)

// modules returns the directories that modules.json names: pooling and the like. They belong to the
// model and are small, including the weights of a dense layer.
func (l *listing) modules() (dirs []string) {
	text, err := l.read(modulesName, maxConfig)
	if err != nil || !gjson.ValidBytes(text) {
		return nil
	}
	for _, path := range gjson.GetBytes(text, "#.path").Array() {
		if plainName(path.String()) {
			dirs = append(dirs, path.String())
		}
	}
	return dirs
}

func (v *Inventory) addDirectory(l *listing, name string) error {
	entries, err := os.ReadDir(filepath.Join(l.dir, name))
	if err != nil {
		return fault.In(name, cause(err))
	}
	for _, e := range entries {
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if err := v.addFile(l, filepath.Join(name, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// addFile copies a file, unless its content is a model's weights, whatever its name.
func (v *Inventory) addFile(l *listing, name string) error {
	f, size, err := l.open(name)
	if err != nil {
		return fault.In(name, err)
	}
	defer f.Close()
	if err := refusePointer(f, size); err != nil {
		return fault.In(name, err)
	}
	if !strings.ContainsRune(name, filepath.Separator) && holdsWeights(f, size) {
		v.LeftOut = append(v.LeftOut, name)
		return nil
	}
	v.Files = append(v.Files, File{name, size})
	return nil
}

// HasTokenizer reports whether a copied file holds a tokenizer's vocabulary, under the names that
// transformers and mistral_common use. tokenizer_config.json alone does not.
func (v *Inventory) HasTokenizer() bool {
	return slices.ContainsFunc(v.Files, func(f File) bool {
		switch f.Name {
		case "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "tekken.json":
			return true
		}
		return strings.HasSuffix(f.Name, ".tiktoken") || strings.HasSuffix(f.Name, "tiktoken.model") || strings.HasPrefix(f.Name, "tokenizer.model.")
	})
}

// holdsWeights recognises safetensors, pickles (bare, and in PyTorch's zip archives), GGUF and HDF5
// by their first bytes. A backup or a rename often hides the name's ending.
func holdsWeights(f *os.File, size int64) bool {
	head := make([]byte, 9)
	if n, _ := f.ReadAt(head, 0); n < len(head) {
		return false
	}
	for _, magic := range []string{"PK\x03\x04", "GGUF", "\x89HDF\r\n\x1a\n", "\x80\x02", "\x80\x03", "\x80\x04", "\x80\x05"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return true
		}
	}
	return head[8] == '{' && binary.LittleEndian.Uint64(head) <= uint64(size)-8
}

// staysBehind reports whether a file has a name of weights in other formats, of settings of a
// quantization that the output does not have, or of an adapter whose weights stay behind.
func staysBehind(name string) bool {
	switch {
	case slices.Contains([]string{"hf_quant_config.json", LockName, ProvenanceName, JournalName, adapterName}, name),
		// Their weights stay behind.
		strings.HasPrefix(name, "openvino_"), strings.HasSuffix(name, ".index.json"),
		strings.Contains(name, ".safetensors"), strings.Contains(name, ".onnx"), strings.Contains(name, ".data-0"):
		return true
	}
	return slices.Contains([]string{
		".pt", ".pth", ".pt2", ".ckpt", ".bin", ".bak", ".pkl", ".pickle", ".gguf", ".ggml", ".llamafile", ".h5", ".hdf5", ".msgpack", ".npz", ".npy", ".tflite", ".pb", ".pdparams",
		".distcp", ".nemo", ".mlmodel", ".engine", ".ot", ".params", ".mnn", ".keras",
	}, strings.ToLower(filepath.Ext(name)))
}
