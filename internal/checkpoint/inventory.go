// Package checkpoint lists what a checkpoint directory holds: its config, the tensors of all its
// shards, and the files beside them. It reads headers and small files, never weights.
package checkpoint

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/safetensors"
)

// The names that the Hugging Face layout fixes.
const (
	ConfigName = "config.json"
	IndexName  = "model.safetensors.index.json"
	CardName   = "README.md"
	// GenerationName is what runtimes read about sampling, and about the tokens that end a text.
	GenerationName = "generation_config.json"
	// LockName is metalcast's own: it marks a directory that is being made.
	LockName = "metalcast.lock"
	// ProvenanceName and JournalName are also its own: where a converted checkpoint comes from, and
	// how far the conversion has come.
	ProvenanceName = "metalcast.json"
	JournalName    = "metalcast.journal"
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

// String returns the form in which messages name a tensor.
func (t *Tensor) String() string { return fmt.Sprintf("tensor %q", t.Name) }

// Shard is one .safetensors file.
type Shard struct {
	Name      string
	Size      int64
	HeaderSum [sha256.Size]byte // of the header's JSON text
	Written   time.Time         // the file's time when its header was read

	seen os.FileInfo // when its header was read
}

// File is a file of the checkpoint that is not a shard.
type File struct {
	Name string
	Size int64
}

// Inventory is everything that later steps know of a checkpoint.
type Inventory struct {
	Dir        string
	Repo       string // "org/name" where Dir is a snapshot in a hub cache, else ""
	Revision   string // its commit, else ""
	Config     *Config
	Generation *Config // generation_config.json; nil if there is none, or it is not JSON
	Shards     []Shard
	Tensors    []Tensor // by shard, then offset
	Format     string   // "format" of the first shard's __metadata__: pt, mlx, or ""
	Files      []File   // to be copied: tokenizer, chat template, licence, code
	// Files that a converted checkpoint must not have: other weights, stale quantization settings.
	LeftOut []string
	Absent  []string // tensors that the index names, no shard holds, and nobody needs
	Notes   []string // harmless oddities, such as an index that places a tensor elsewhere

	byName  map[string]int32 // index into Tensors
	listing *listing         // opens all of its files
}

// Lookup returns a tensor by name, over all shards; nil if there is none.
func (v *Inventory) Lookup(name string) *Tensor {
	if i, ok := v.byName[name]; ok {
		return &v.Tensors[i]
	}
	return nil
}

// Index returns a tensor's index into Tensors by its name.
func (v *Inventory) Index(name string) (int, bool) {
	i, ok := v.byName[name]
	return int(i), ok
}

// Names returns those of all tensors.
func (v *Inventory) Names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range v.Tensors {
			if !yield(v.Tensors[i].Name) {
				return
			}
		}
	}
}

// Bytes returns the length of all tensors' data.
func (v *Inventory) Bytes() (n int64) {
	for i := range v.Tensors {
		n += v.Tensors[i].Size
	}
	return n
}

// Open returns the checkpoint in directory dir. It stops between shards when ctx ends.
func Open(ctx context.Context, dir string) (*Inventory, error) {
	return open(ctx, dir, false, none)
}

func none(*Config) func(string) bool { return func(string) bool { return false } }

func open(ctx context.Context, dir string, byID bool, needless func(c *Config) func(tensor string) bool) (*Inventory, error) {
	st, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fault.Incomplete(dir, "no such directory").WithHint(
			"give a checkpoint's directory, or the id of a model in the hub cache (see \"hf cache ls\")")
	case err != nil:
		return nil, err
	case !st.IsDir():
		if f := otherFile(dir); f != nil {
			return nil, f.refuse(dir)
		}
		return nil, fault.Incomplete(dir, "a file, a checkpoint's directory was expected").WithHint("give %s", filepath.Dir(dir))
	}
	v := &Inventory{Dir: dir}
	listing, err := list(dir, byID)
	if err != nil {
		return nil, err
	}
	v.listing = listing
	v.Repo, v.Revision = hubIdentity(listing.dir)
	text, err := listing.read(ConfigName, maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		if what := listing.present(dir); what != nil {
			return nil, what
		}
		return nil, fault.Incomplete(dir, "no %s: not a checkpoint's directory", ConfigName).WithHint("give the directory that holds config.json and the .safetensors files")
	} else if err != nil {
		return nil, err
	}
	if v.Config, err = ParseConfig(text); err != nil {
		return nil, fault.In(ConfigName, err)
	}
	v.noteConfig(ConfigName, v.Config)
	index, err := listing.readIndex()
	if err != nil {
		return nil, err
	}
	spare := needless(v.Config)
	names, err := listing.shardNames(index, spare)
	if errors.Is(err, errNoShard) {
		if what := listing.present(dir); what != nil {
			return nil, what
		}
	}
	if err != nil {
		return nil, err
	}
	if stem := numbered.FindStringSubmatch(names[0]); index == nil && names[0] != "model.safetensors" && (stem == nil || stem[1] != "model") {
		v.Notes = append(v.Notes, fmt.Sprintf("no %s and no model.safetensors; %s read for the model", IndexName, cmp.Or(map[int]string{1: names[0] + " is"}[len(names)], fmt.Sprintf("the %d shards from %s on are", len(names), names[0]))))
	}
	if err := v.readHeaders(ctx, listing, names, index); err != nil {
		return nil, err
	}
	if err := v.compareIndex(index, spare); err != nil {
		return nil, err
	}
	if err := v.sortFiles(listing); err != nil {
		return nil, err
	}
	if text, err := listing.read(GenerationName, maxConfig); err == nil {
		// Runtimes do without one that they cannot read, so it is only copied.
		if v.Generation, err = ParseConfig(text); err == nil {
			v.noteConfig(GenerationName, v.Generation)
		}
	}
	return v, nil
}

func (v *Inventory) noteConfig(name string, c *Config) {
	for _, note := range c.Notes {
		v.Notes = append(v.Notes, name+" "+note)
	}
}

// readHeaders fills Shards and Tensors, of which there are about as many as the index has.
func (v *Inventory) readHeaders(ctx context.Context, l *listing, names []string, x *index) error {
	if x != nil {
		v.Tensors = make([]Tensor, 0, len(x.WeightMap.entries))
	}
	var headers, all int64
	for i, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		seen, h, err := l.readHeader(name)
		if err != nil {
			return withDownloadHint(fault.In(name, err))
		}
		if headers += h.DataStart; headers > maxHeaders {
			return fault.Unsupported(v.Dir, "the headers of its shards are longer than %d bytes together", maxHeaders)
		}
		if seen.Size() > maxShards-all {
			return fault.Unsupported(v.Dir, "its shards are longer than 2^50 bytes together")
		}
		all += seen.Size()
		if len(v.Tensors)+len(h.Tensors) > safetensors.MaxTensors {
			return fault.Unsupported(v.Dir, "its shards hold more than %d tensors together", safetensors.MaxTensors)
		}
		if i == 0 {
			v.Format = h.Metadata["format"]
		}
		v.Shards = append(v.Shards, Shard{name, seen.Size(), h.Sum, seen.ModTime(), seen})
		for _, t := range h.Tensors {
			v.Tensors = append(v.Tensors, Tensor{t.Name, t.DType, t.Shape, i, h.DataStart + t.Begin, t.Size()})
		}
	}
	v.byName = make(map[string]int32, len(v.Tensors))
	for i := range v.Tensors {
		t := &v.Tensors[i]
		if o := v.Lookup(t.Name); o != nil {
			return fault.Corrupt(t.String(), "in %s and again in %s", v.Shards[o.Shard].Name, v.Shards[t.Shard].Name)
		}
		v.byName[t.Name] = int32(i)
	}
	if len(v.Tensors) == 0 {
		return fault.Incomplete(v.Dir, "its shards hold no tensor")
	}
	return nil
}

// withDownloadHint suggests what to do about a truncated shard, unless the error already has a
// hint.
func withDownloadHint(err error) error {
	var e *fault.Error
	if errors.Is(err, fault.ErrIncomplete) && errors.As(err, &e) && e.Hint == "" {
		return e.WithHint(`download it again, for example with "hf download"`)
	}
	return err
}

func (l *listing) readHeader(name string) (os.FileInfo, *safetensors.Header, error) {
	f, size, err := l.open(name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	if err := refusePointer(f, size); err != nil {
		return nil, nil, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, nil, cause(err)
	}
	h, err := safetensors.Read(f, st.Size())
	return st, h, err
}

const pointerPrefix = "version https://git-lfs.github.com/spec/"

// refusePointer recognises the small text that git checks out in place of a large file if Git LFS
// is not installed.
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
