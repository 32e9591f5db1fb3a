// Package plan decides, from headers alone, everything that a conversion writes: which tensors, of
// which type and shape, at which offset of which shard, and which piece of the source becomes which
// part of them. Later steps move and compute bytes, and decide nothing.
package plan

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/family"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/kernel"
)

// DefaultShardSize is that of mlx_lm and Hugging Face: 5 GiB of tensor data.
const DefaultShardSize = 5 << 30

// Align is the granularity of a shard's header and of its first tensors, in bytes: the page size of
// Apple silicon, for uncached writes and mapped reads.
const Align = 16 << 10

// Names that are metalcast's own: the mark of a directory that is being made, its journal, and
// where a checkpoint comes from. No other file of the output has such a name.
const (
	LockName       = checkpoint.LockName
	JournalName    = checkpoint.JournalName
	ProvenanceName = checkpoint.ProvenanceName
)

// Options are what the output's bytes depend on.
type Options struct {
	Layout family.Layout // "" is Auto
	// F16, BF16 or F32, for everything that floats. Invalid: FP8 becomes BF16, and the rest stays.
	DType     dtype.DType
	Roles     family.Options
	Invert    bool          // the source holds the reciprocals of scales
	Quantize  *Quantization // nil: weights are not quantized; otherwise the layout is MLX
	ShardSize int64         // most bytes of data in a shard; 0 is DefaultShardSize
	Tool      string        // name and version, for the model card
}

// asked reports whether the user wants a certain form, so that a usable source is no reason to
// stop.
func (o Options) asked() bool {
	return o.Quantize != nil || o.DType != dtype.Invalid || o.Layout != "" && o.Layout != family.Auto
}

// Plan is the output, to the byte, and where it comes from.
type Plan struct {
	Source  *checkpoint.Inventory
	Family  *family.Family
	Form    family.Form // of the source
	Layout  family.Layout
	DType   dtype.DType // what FP8 weights become
	Invert  bool        // weights are codes times the reciprocals of their scales, in float32
	Tensors []Tensor    // by shard, then offset
	Shards  []Shard
	Pieces  []Piece // in the source's order: by shard, then offset
	Dropped []Dropped
	Files   []checkpoint.File // copied byte for byte
	// Files that the plan itself writes; config.json and the index come last.
	Texts       []Text
	Notes       []string   // what a person should know
	SourceNotes []string   // those about the source as it is
	Quantized   *Quantized // result of -q; nil without it

	stray []string // tensors of the output that no runtime has a place for
	// Tensors of single experts that may or may not have to be stacked.
	apart      []string
	scaleBytes int64    // data of the scales that are consumed
	gaps       []string // what the model lacks, if that is not an error
}

// Tensor is a tensor of the output.
type Tensor struct {
	Name   string
	DType  dtype.DType
	Shape  []int64
	Shard  int   // index into Plan.Shards
	Offset int64 // from the start of the shard's file
	Size   int64 // bytes
	Params int64 // parameters that it holds, as mlx_lm and Hugging Face count them
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
	Matrix int64         // which matrix of Source, if it has leading dimensions
	Row    int64         // its first row
	Params kernel.Params // Op is 0 if bytes only move
	// Rows x Cols elements of Params.From, row-major. If bytes only move, or elements are converted
	// one by one, it is one row of all bytes or elements.
	Rows, Cols int64
	Code       int64 // offset of the first element in the source shard's file
	Scale      *checkpoint.Tensor
	Scales     int64 // offset of the matrix's first scale in the file of Scale's shard
	ScaleCols  int64 // scales in a row of blocks
	Target     int   // index into Plan.Tensors
	// Offset of the result in the target shard's file; rows follow each other without gaps.
	Out int64
	// Elements of the target from one column's result to the next, if Params.Transposed; at least
	// Rows.
	Line int64
	// Where the other results of kernel.Quantize go; Target and Out are those of the codes.
	Packed *Packed
}

// Packed is where scales and biases go, each as Target and Out of a Piece; Biases is -1 if the
// format has none.
type Packed struct {
	Scales, Biases       int
	ScalesOut, BiasesOut int64
}

// Result is a range of an output tensor that a piece fills.
type Result struct {
	Target int
	Out, N int64 // bytes
}

// Results appends what the piece, or the rectangle of it that starts at (row, col), fills. A
// rectangle of a quantized piece is whole rows of the result, or whole groups of one row.
func (p *Piece) Results(list []Result, row, col, rows, cols int64) []Result {
	if p.Packed == nil {
		size := int64(1)
		if p.Params.Op != 0 {
			size = p.Params.To.Size()
		}
		at := row*p.Cols + col
		if p.Params.Transposed {
			at = col*p.Line + row
		}
		return append(list, Result{p.Target, p.Out + at*size, rows * cols * size})
	}
	first, n := row*p.Cols+col, rows*cols // elements of the result
	if p.Params.Transposed {
		first = col*p.Rows + row
	}
	f := p.Params.Format
	group := int64(f.GroupSize)
	scale := f.ScaleType(p.Params.To).Size()
	list = append(list, Result{p.Target, p.Out + first/group*int64(f.GroupBytes()), n / group * int64(f.GroupBytes())},
		Result{p.Packed.Scales, p.Packed.ScalesOut + first/group*scale, n / group * scale})
	if p.Packed.Biases >= 0 {
		list = append(list, Result{p.Packed.Biases, p.Packed.BiasesOut + first/group*scale, n / group * scale})
	}
	return list
}

// Apart reports whether the results of a piece have gaps that other pieces fill: gate and up side
// by side.
func (p *Piece) Apart() bool { return p.Params.Transposed && p.Line > p.Rows }

// InBytes returns what the piece reads of its source tensor.
func (p *Piece) InBytes() int64 {
	if p.Params.Op == 0 {
		return p.Cols
	}
	return p.Rows * p.Cols * p.Params.From.Size()
}

// OutBytes returns what it writes.
func (p *Piece) OutBytes() (n int64) {
	var room [3]Result
	for _, r := range p.Results(room[:0], 0, 0, p.Rows, p.Cols) {
		n += r.N
	}
	return n
}

// Dropped is a source tensor that the output does not have.
type Dropped struct {
	Tensor *checkpoint.Tensor
	Reason string
}

// Text is a small file whose content the plan holds.
type Text struct {
	Name string
	Data []byte
}

// DiskBytes returns the space that the output needs.
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
	if o.Roles.KeepMTP {
		layers := family.Layers(v.Config)
		if lost := slices.IndexFunc(v.Absent, func(name string) bool { return f.IsMTP(name, layers) }); lost >= 0 {
			return nil, fault.Incomplete(checkpoint.IndexName, "names %q of the multi-token prediction head, which is in no shard", v.Absent[lost]).WithHint("leave --keep-mtp out, or download the rest")
		}
	}
	if err := checkForeign(v, f.ForeignOf(v), o); err != nil {
		return nil, err
	}
	sites, err := f.Sites(v, o.Roles)
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
	// Problems of the source come before problems of this form: the hint then is two commands, and the
	// first would meet them.
	layout, err := f.Resolve(o.Layout)
	if o.Quantize != nil {
		layout, err = f.ResolveQuantized(o.Layout)
	}
	if err != nil {
		return nil, workingSteps(err, &Plan{Source: v, Family: f, Form: form, Layout: f.Auto})
	}
	p := &Plan{Source: v, Family: f, Form: form, Layout: layout, DType: o.DType, Invert: o.Invert}
	if p.gaps, err = f.CheckWhole(v, sites); err != nil {
		return nil, err
	}
	if p.DType == dtype.Invalid {
		p.DType = unaskedType(sites, p.Form)
	}
	for i := range sites {
		if sites[i].Stray {
			p.stray = append(p.stray, sites[i].Tensor.Name)
		}
		if family.IsApart(&sites[i]) {
			p.apart = append(p.apart, sites[i].Tensor.Name)
		}
	}
	if err := p.checkForm(o); err != nil {
		return nil, err
	}
	placer, err := f.Placer(v.Config, layout, form, groups, o.Roles)
	if err != nil {
		return nil, err
	}
	b := builder{plan: p, cast: o.DType, placer: placer, targets: map[string]int{}}
	if o.Quantize != nil {
		if b.chooser, err = newChooser(p, o); err != nil {
			return nil, err
		}
	}
	used := 0
	for i := range sites {
		if r := sites[i].Role; r != family.Scale && r != family.Drop {
			used++
		}
	}
	p.Pieces = make([]Piece, 0, used) // most tensors are one matrix
	for i := range sites {
		if err := b.add(&sites[i]); err != nil {
			return nil, err
		}
	}
	if err := b.complete(); err != nil {
		return nil, err
	}
	if b.chooser != nil {
		if p.Quantized, err = b.chooser.finish(); err != nil {
			return nil, err
		}
	}
	b.place(o.ShardSize)
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

// unaskedType returns the type of the output's weights if the user asks for none: bfloat16 if there
// is FP8, otherwise that of most of their bytes.
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

// checkNames refuses two files whose names are equal to a file system that folds case, or Unicode's
// ways to write an accent: APFS does both.
func (p *Plan) checkNames() error {
	// Names as folded returns them.
	seen := map[string]string{LockName: LockName, JournalName: JournalName, ProvenanceName: ProvenanceName}
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
		other, ok := seen[folded(name)]
		switch {
		case ok && norm.NFC.String(name) == norm.NFC.String(other):
			return fault.Corrupt(name, "%+q and %+q would be one file where accents have one form, as on a Mac", other, name).WithHint("rename or remove one of them in the source")
		case ok:
			return fault.Corrupt(name, "and %s would be one file where names fold case", other).WithHint("rename or remove one of them in the source")
		}
		seen[folded(name)] = name
	}
	return nil
}

// folded returns equal text for names that match regardless of case, canonically (Unicode 3.13,
// definition D145).
func folded(name string) string { return norm.NFD.String(cases.Fold().String(norm.NFD.String(name))) }

// usable says who loads a source of which nothing has to be converted.
func (p *Plan) usable() string {
	problem := p.MLXProblem()
	if head := p.Family.HeadProblem(p.Source.Config, p.Source.Names()); head != "" && p.Family.Known() {
		problem = head
	}
	switch {
	case !p.Family.Known():
		return problem
	case problem != "":
		return "as its runtimes want it, except for mlx-lm (" + problem + ")"
	}
	return "usable as it is by " + family.MLXLM
}

const takeAnother = "convert the checkpoint that it was quantized from, or one that its publisher has in FP8 or bfloat16"

// checkForeign refuses weights in formats that metalcast does not convert. If a runtime loads them
// as they are, and nothing else is asked for, there is nothing to do.
func checkForeign(v *checkpoint.Inventory, foreign []family.Foreign, o Options) error {
	if len(foreign) == 0 {
		return nil
	}
	var list []string
	for _, f := range foreign {
		list = append(list, f.String())
	}
	what := strings.Join(list, ", ")
	fp8 := family.ScaledFP8(v)
	q := v.Config.Quantization()
	method := q.Get("quant_method").String()
	if format := cmp.Or(q.Get("format").String(), q.Get("quant_algo").String()); format != "" {
		method += " " + format
	}
	switch {
	case fp8 > 0:
		return fault.Unsupported(v.Dir, "%s beside %s in FP8: converting a part would leave neither form", what, humanize.Comma(int64(fp8))).WithHint("%s", takeAnother)
	case len(foreign) == 1 && foreign[0].ReadBy != "" && !o.asked():
		return fault.New(fault.ErrNothingToDo, v.Dir, "%s: %s loads it as it is, nothing to convert", what, foreign[0].ReadBy)
	case method != "":
		what += fmt.Sprintf(" (quantized by %s)", method)
	}
	return fault.Unsupported(v.Dir, "%s: metalcast converts FP8 (F8_E4M3) and plain weights", what).WithHint("%s", takeAnother)
}

// workingSteps returns an error whose hint is two commands, metalcast's and mlx_lm's, without those
// that do not work: the first may have nothing to do, and mlx-lm may not know the model type.
func workingSteps(err error, plain *Plan) error {
	var e *fault.Error
	c := plain.Source.Config
	switch {
	case !errors.As(err, &e) || !strings.HasPrefix(e.Hint, "in two steps"):
	case plain.Family.NoTwoSteps != "":
		return e.WithHint("mlx_lm.convert does not do it either: %s", plain.Family.NoTwoSteps)
	case !plain.Family.LoadsInMLX(c):
		return e.WithHint("mlx-lm does not know model_type %q either; in a copy of config.json that says %q it does", c.ModelType(), plain.Family.Name())
	case errors.Is(plain.checkForm(Options{}), fault.ErrNothingToDo):
		return e.WithHint("in one step: mlx_lm.convert --hf-path SRC --mlx-path DST")
	}
	return err
}

// checkForm stops if there is nothing to do, and refuses what cannot be made of this source.
func (p *Plan) checkForm(o Options) error {
	form := p.Form
	needed := form.FP8 > 0 || form.Companions > 0 || form.PerExpert && p.Layout == family.Stacked || p.Layout == family.MLX ||
		form.Stacked && p.Layout == family.PerExpert && p.Family.Experts.GateUpName != ""
	method := p.Source.Config.Quantization().Get("quant_method").String()
	if form.FP8 == 0 && !form.MLX && !slices.Contains([]string{"", "fp8", "modelopt", "compressed-tensors"}, method) {
		return fault.Unsupported(p.Source.Dir, "quantized by %s, which this version does not read", method)
	}
	if needed && !form.MLX || o.Quantize != nil && !form.Quantized {
		return nil
	}
	switch {
	case !o.asked(), form.MLX && o.Layout == family.MLX && o.DType == dtype.Invalid:
		err := fault.New(fault.ErrNothingToDo, p.Source.Dir, "%s: %s, nothing to convert", form, p.usable())
		if form.Quantized {
			return err
		}
		return err.WithHint("--dtype and --layout ask for another form")
	case form.Quantized:
		return fault.Unsupported(p.Source.Dir, "%s: its weights cannot be converted without loss", form).WithHint("convert the checkpoint that it was made from")
	case form.MLX && o.Layout != "" && o.Layout != family.Auto && o.Layout != family.MLX:
		return fault.Unsupported(p.Source.Dir, "%s: cannot be brought into the %s layout", form, o.Layout)
	}
	return nil
}
