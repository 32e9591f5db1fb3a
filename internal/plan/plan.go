// Package plan decides, from headers alone, everything that a conversion writes: which tensors, of which type and shape, at which offset of which
// shard, and which piece of the source becomes which part of them. Later steps move and compute bytes and decide nothing.
package plan

import (
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/family"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/kernel"
)

// DefaultShardSize is mlx_lm's and Hugging Face's: 5 GiB of tensor data.
const DefaultShardSize = 5 << 30

// Align is the granularity of a shard's header and of its first tensors, in bytes: the page size of Apple silicon, which uncached
// writes and mapped reads want.
const Align = 16 << 10

// LockName marks a directory in the making; no file of the output is called so.
const LockName = checkpoint.LockName

// Options are the choices that the output's bytes depend on.
type Options struct {
	Layout    family.Layout // "" is Auto
	DType     dtype.DType   // F16, BF16 or F32: of everything that floats; Invalid: FP8 becomes BF16, the rest stays
	KeepMTP   bool
	ShardSize int64  // at most this many bytes of data in a shard; 0 is DefaultShardSize
	Tool      string // name and version, for the model card
}

// asked tells whether the user wants a certain form, so that a usable source is no reason to stop.
func (o Options) asked() bool {
	return o.DType != dtype.Invalid || o.Layout != "" && o.Layout != family.Auto
}

// Plan is the output, to the byte, and where it comes from.
type Plan struct {
	Source      *checkpoint.Inventory
	Family      *family.Family
	Form        family.Form // of the source
	Layout      family.Layout
	DType       dtype.DType // what FP8 weights become
	Tensors     []Tensor    // by shard, then offset
	Shards      []Shard
	Pieces      []Piece // in the source's order: by shard, then offset
	Dropped     []Dropped
	Files       []checkpoint.File // copied byte for byte
	Texts       []Text            // files that the plan writes itself; config.json and the index come last
	Notes       []string          // what a person should know
	SourceNotes []string          // those that hold for the source as it is

	scaleBytes int64 // data of the scales that are used up
}

// Tensor is a tensor of the output.
type Tensor struct {
	Name   string
	DType  dtype.DType
	Shape  []int64
	Shard  int   // index into Plan.Shards
	Offset int64 // from the start of the shard's file
	Size   int64 // bytes
}

// Shard is a file of the output: Header, then the tensors' data up to Size.
type Shard struct {
	Name   string
	Header []byte
	Size   int64
}

// Piece is one source matrix on its way to its place.
type Piece struct {
	Source *checkpoint.Tensor
	Matrix int64         // which matrix of Source, where it has leading dimensions
	Params kernel.Params // Op is 0 where bytes only move
	// Rows x Cols elements of Params.From, row-major. Where bytes only move, and in casts, one row of all bytes or elements.
	Rows, Cols int64
	Code       int64 // offset of the first element in the source shard's file
	Scale      *checkpoint.Tensor
	Scales     int64 // offset of the first scale in the file of Scale's shard
	ScaleCols  int64 // scales in a row of blocks
	Target     int   // index into Plan.Tensors
	Out        int64 // offset of the result in the target shard's file; rows follow each other without a gap
}

// InBytes is what the piece reads of its source tensor.
func (p *Piece) InBytes() int64 {
	if p.Params.Op == 0 {
		return p.Cols
	}
	return p.Rows * p.Cols * p.Params.From.Size()
}

// OutBytes is what it writes.
func (p *Piece) OutBytes() int64 {
	if p.Params.Op == 0 {
		return p.Cols
	}
	return p.Rows * p.Cols * p.Params.To.Size()
}

// Dropped is a source tensor that the output does not have.
type Dropped struct {
	Tensor *checkpoint.Tensor
	Reason string
}

// Text is a small file that the plan holds whole.
type Text struct {
	Name string
	Data []byte
}

// DiskBytes is the room that the output takes.
func (p *Plan) DiskBytes() (n int64) {
	for _, s := range p.Shards {
		n += s.Size
	}
	for _, t := range p.Texts {
		n += int64(len(t.Data))
	}
	for _, f := range p.Files {
		n += f.Size
	}
	return n
}

// New plans the conversion of a checkpoint.
func New(v *checkpoint.Inventory, o Options) (*Plan, error) {
	if o.ShardSize == 0 {
		o.ShardSize = DefaultShardSize
	}
	f := family.Of(v.Config)
	layout, err := f.Resolve(o.Layout)
	if err != nil {
		return nil, err
	}
	sites, err := f.Sites(v, o.KeepMTP)
	if err != nil {
		return nil, err
	}
	form := f.FormOf(v, sites)
	if form.MLX && form.FP8 > 0 {
		return nil, fault.Unsupported(v.Dir, "MLX-native names and %s FP8 tensors: neither form is whole", humanize.Comma(int64(form.FP8)))
	}
	groups, err := f.Groups(v, sites)
	if err != nil {
		return nil, err
	}
	if err := f.CheckLayers(v, groups); err != nil {
		return nil, err
	}
	p := &Plan{Source: v, Family: f, Form: form, Layout: layout, DType: o.DType}
	if p.DType == dtype.Invalid {
		p.DType = unaskedType(sites, p.Form)
	}
	if err := p.checkForm(o); err != nil {
		return nil, err
	}
	b := builder{plan: p, cast: o.DType}
	if layout == family.Stacked {
		for _, g := range groups {
			b.stack(g)
		}
	}
	for i := range sites {
		b.add(&sites[i])
	}
	if err := b.place(o.ShardSize); err != nil {
		return nil, err
	}
	if err := p.writeTexts(o); err != nil {
		return nil, err
	}
	if err := p.checkNames(); err != nil {
		return nil, err
	}
	p.note()
	p.check()
	return p, nil
}

// unaskedType is what the output's weights are where the user asks for nothing: bfloat16 where there is FP8, else what most of their bytes are.
func unaskedType(sites []family.Site, form family.Form) dtype.DType {
	if form.FP8 > 0 {
		return dtype.BF16
	}
	bytes := map[dtype.DType]int64{}
	for i := range sites {
		if s := &sites[i]; s.Role != family.Drop {
			bytes[s.Tensor.DType] += s.Tensor.Size
		}
	}
	most := dtype.BF16
	for _, t := range []dtype.DType{dtype.F16, dtype.F32} {
		if bytes[t] > bytes[most] {
			most = t
		}
	}
	return most
}

// checkNames refuses two files of one name, as a file system that folds case would see them.
func (p *Plan) checkNames() error {
	seen := map[string]string{strings.ToLower(LockName): LockName}
	var names []string
	for _, s := range p.Shards {
		names = append(names, s.Name)
	}
	for _, f := range p.Files {
		names = append(names, f.Name)
	}
	for _, t := range p.Texts {
		names = append(names, t.Name)
	}
	for _, name := range names {
		if other, ok := seen[strings.ToLower(name)]; ok {
			return fault.Corrupt(name, "and %s would be one file where names fold case", other).WithHint("rename or remove one of them in the source")
		}
		seen[strings.ToLower(name)] = name
	}
	return nil
}

// checkForm stops where there is nothing to do, and where what is asked cannot be made of this source.
func (p *Plan) checkForm(o Options) error {
	form := p.Form
	needed := form.FP8 > 0 || form.PerExpert && p.Layout == family.Stacked
	if needed && !form.MLX {
		return nil
	}
	method := p.Source.Config.Quantization().Get("quant_method").String()
	switch {
	case !form.MLX && method != "" && method != "fp8":
		return fault.Unsupported(p.Source.Dir, "quantized by %s, which this version does not read", method)
	case !o.asked():
		return fault.New(fault.ErrNothingToDo, p.Source.Dir, "%s: usable as it is, nothing to convert", form).WithHint(
			"--dtype and --layout ask for another form")
	case form.Quantized:
		return fault.Unsupported(p.Source.Dir, "%s: its weights cannot be converted without loss", form)
	case form.MLX && o.Layout != "" && o.Layout != family.Auto:
		return fault.Unsupported(p.Source.Dir, "%s: cannot be brought into the %s layout", form, o.Layout)
	case form.Stacked && p.Layout == family.PerExpert:
		return fault.Unsupported(p.Source.Dir, "%s: experts that are stacked are not taken apart", form)
	}
	return nil
}
