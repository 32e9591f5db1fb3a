// Package checkpoint lists what a checkpoint directory holds: its config, the tensors of all its shards, and the files beside them.
// It reads headers and small files, never a weight.
package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/safetensors"
)

// The names that the Hugging Face layout fixes.
const (
	ConfigName = "config.json"
	IndexName  = "model.safetensors.index.json"
	CardName   = "README.md"
)

// Tensor is an entry of a shard's header.
type Tensor struct {
	Name   string
	DType  dtype.DType
	Shape  []int64
	Shard  int   // index into Inventory.Shards
	Offset int64 // of the first byte, from the start of the shard's file
	Size   int64 // bytes
}

// String is the form in which messages name a tensor.
func (t *Tensor) String() string { return fmt.Sprintf("tensor %q", t.Name) }

// Shard is one .safetensors file.
type Shard struct {
	Name string
	Size int64
}

// File is a file of the checkpoint that is no shard.
type File struct {
	Name string
	Size int64
}

// Inventory is everything that later steps know of a checkpoint.
type Inventory struct {
	Dir      string
	Repo     string // "org/name" where Dir is a snapshot in a hub cache, else ""
	Revision string // its commit, else ""
	Config   *Config
	Shards   []Shard
	Tensors  []Tensor // by shard, then offset
	Format   string   // "format" of the first shard's __metadata__: pt, mlx, or ""
	Files    []File   // to be copied: tokenizer, chat template, licence, code
	LeftOut  []string // files that a converted checkpoint must not carry: other weights, stale quantization settings
	Notes    []string // harmless oddities, such as an index that places a tensor elsewhere

	byName map[string]*Tensor
}

// Lookup finds a tensor by name, over all shards; nil if there is none.
func (v *Inventory) Lookup(name string) *Tensor { return v.byName[name] }

// Bytes is the length of all tensors' data.
func (v *Inventory) Bytes() (n int64) {
	for i := range v.Tensors {
		n += v.Tensors[i].Size
	}
	return n
}

// Open lists the checkpoint in directory dir.
func Open(dir string) (*Inventory, error) {
	st, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fault.Incomplete(dir, "no such directory").WithHint(
			"give a checkpoint's directory, or the id of a model in the hub cache (see \"hf cache ls\")")
	case err != nil:
		return nil, err
	case !st.IsDir():
		return nil, fault.Incomplete(dir, "a file, a checkpoint's directory was expected")
	}
	v := &Inventory{Dir: dir}
	v.Repo, v.Revision = hubIdentity(dir)
	listing, err := list(dir)
	if err != nil {
		return nil, err
	}
	text, err := listing.read(ConfigName, maxJSON)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Incomplete(dir, "no %s: not a checkpoint's directory", ConfigName)
	} else if err != nil {
		return nil, err
	}
	if v.Config, err = ParseConfig(text); err != nil {
		return nil, fault.In(ConfigName, err)
	}
	index, err := listing.readIndex()
	if err != nil {
		return nil, err
	}
	names, err := listing.shardNames(index)
	if err != nil {
		return nil, err
	}
	if err := v.readHeaders(listing, names); err != nil {
		return nil, err
	}
	if err := v.compareIndex(index); err != nil {
		return nil, err
	}
	return v, v.sortFiles(listing)
}

// readHeaders fills Shards and Tensors.
func (v *Inventory) readHeaders(l *listing, names []string) error {
	for i, name := range names {
		size, h, err := l.readHeader(name)
		if err != nil {
			return fault.In(name, err)
		}
		if i == 0 {
			v.Format = h.Metadata["format"]
		}
		v.Shards = append(v.Shards, Shard{name, size})
		for _, t := range h.Tensors {
			v.Tensors = append(v.Tensors, Tensor{t.Name, t.DType, t.Shape, i, h.DataStart + t.Begin, t.Size()})
		}
	}
	v.byName = make(map[string]*Tensor, len(v.Tensors))
	for i := range v.Tensors {
		t := &v.Tensors[i]
		if o := v.byName[t.Name]; o != nil {
			return fault.Corrupt(t.String(), "in %s and again in %s", v.Shards[o.Shard].Name, v.Shards[t.Shard].Name)
		}
		v.byName[t.Name] = t
	}
	if len(v.Tensors) == 0 {
		return fault.Incomplete(v.Dir, "its shards hold no tensor")
	}
	return nil
}

func (l *listing) readHeader(name string) (int64, *safetensors.Header, error) {
	f, size, err := l.open(name)
	if err != nil {
		return 0, nil, err
	}
	defer f.Close()
	if err := refusePointer(f, size); err != nil {
		return 0, nil, err
	}
	h, err := safetensors.Read(f, size)
	return size, h, err
}

const pointerPrefix = "version https://git-lfs.github.com/spec/"

// refusePointer recognises the small text that git checks out for a large file when Git LFS is not installed.
func refusePointer(f *os.File, size int64) error {
	if size > 1024 || size < int64(len(pointerPrefix)) {
		return nil
	}
	head := make([]byte, len(pointerPrefix))
	if _, err := f.ReadAt(head, 0); err != nil || string(head) != pointerPrefix {
		return nil //nolint:nilerr // what cannot be read is reported by its reader
	}
	return fault.Incomplete("", "%d bytes, a Git LFS pointer, not the file itself", size).WithHint(
		`run "git lfs pull" in the checkpoint, or download it with "hf download"`)
}

// sortFiles decides which of the other files go along. Weights in other formats and settings of a quantization that is gone stay behind.
func (v *Inventory) sortFiles(l *listing) error {
	shard := map[string]bool{}
	for _, s := range v.Shards {
		shard[s.Name] = true
	}
	for _, name := range l.names {
		switch {
		case shard[name] || name == ConfigName || name == IndexName:
		case strings.HasPrefix(name, "."):
		case l.dirs[name]:
			v.LeftOut = append(v.LeftOut, name+string(filepath.Separator))
		case staysBehind(name):
			v.LeftOut = append(v.LeftOut, name)
		default:
			f, size, err := l.open(name)
			if err != nil {
				return fault.In(name, err)
			}
			err = refusePointer(f, size)
			f.Close()
			if err != nil {
				return fault.In(name, err)
			}
			v.Files = append(v.Files, File{name, size})
		}
	}
	return nil
}

func staysBehind(name string) bool {
	if name == "hf_quant_config.json" || strings.HasSuffix(name, ".safetensors.index.json") || name == "pytorch_model.bin.index.json" {
		return true
	}
	switch filepath.Ext(name) {
	case ".safetensors", ".pt", ".pth", ".bin", ".gguf", ".onnx", ".h5", ".msgpack", ".npz":
		return true
	}
	return false
}
