package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/maruel/natural"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/family"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/mlxquant"
	"github.com/metalcast/metalcast/internal/safetensors"
)

// builder collects output tensors and pieces; offsets count from the tensor's start until place
// makes them final.
type builder struct {
	plan    *Plan
	placer  *family.Placer
	cast    dtype.DType // of floating tensors that are not FP8; Invalid leaves them
	chooser *chooser    // nil: nothing is quantized
	targets map[string]int
	filled  []int64 // bytes planned for each target
}

// add plans what becomes of a site.
func (b *builder) add(s *family.Site) error {
	switch s.Role {
	case family.Drop:
		b.plan.Dropped = append(b.plan.Dropped, Dropped{s.Tensor, s.Reason})
		return nil
	case family.Scale:
		b.plan.scaleBytes += s.Tensor.Size
		return nil
	}
	places, reason, err := b.placer.Places(s)
	if err != nil {
		return err
	}
	if reason != "" {
		b.plan.Dropped = append(b.plan.Dropped, Dropped{s.Tensor, reason})
		return nil
	}
	for i := range places {
		if err := b.put(s, &places[i]); err != nil {
			return err
		}
	}
	return nil
}

// maxPieces bounds a plan: no model has a fifth as many matrices, and a sparse file may promise any
// number.
const maxPieces = 1 << 20

// room refuses n more pieces if they are too many.
func (b *builder) room(s *family.Site, n int64) error {
	if int64(len(b.plan.Pieces))+n > maxPieces {
		return fault.Unsupported(s.Tensor.String(), "shape is %v: with it there are more than %d matrices to convert", s.Tensor.Shape, maxPieces)
	}
	return nil
}

// put plans one place of a site, quantized or not.
func (b *builder) put(s *family.Site, place *family.Place) error {
	to := b.outType(s)
	if b.chooser != nil {
		to = b.chooser.outType(place.Target, s.Tensor.DType)
		f, err := b.chooser.format(place.Target, place.Shape, to)
		if err != nil {
			return err
		}
		if f != nil && !place.AddOne {
			return b.quantize(s, place, to, *f)
		}
	}
	target, err := b.target(place.Target, to, place.Shape)
	if err != nil {
		return err
	}
	if p := b.plan; p.Layout == family.MLX && p.Family.Native.IsUncounted(place.Target) {
		p.Tensors[target].Params = 0
	}
	return b.pieces(s, place, target)
}

// quantize plans a place whose rows are packed: codes, scales and, in affine formats, biases.
func (b *builder) quantize(s *family.Site, place *family.Place, t dtype.DType, f mlxquant.Format) error {
	last := len(place.Shape) - 1
	shape := func(n int64) []int64 { return append(slices.Clone(place.Shape[:last]), n) }
	cols := int(place.Shape[last])
	stem := strings.TrimSuffix(place.Target, ".weight")
	codes, err := b.target(place.Target, dtype.U32, shape(int64(f.RowBytes(cols)/4)))
	if err != nil {
		return err
	}
	b.plan.Tensors[codes].Params = b.plan.Tensors[codes].Size * 8 / int64(f.Bits)
	packed := &Packed{Biases: -1}
	if packed.Scales, err = b.target(stem+".scales", f.ScaleType(t), shape(int64(f.Groups(cols)))); err != nil {
		return err
	}
	b.plan.Tensors[packed.Scales].Params = 0
	if f.BiasType(t) != dtype.Invalid {
		if packed.Biases, err = b.target(stem+".biases", f.BiasType(t), shape(int64(f.Groups(cols)))); err != nil {
			return err
		}
		b.plan.Tensors[packed.Biases].Params = 0
	}
	n, rows, sourceCols := s.Matrices()
	if rows*sourceCols == 0 || place.Rows == 0 || place.Matrices == 0 {
		return nil
	}
	in := s.Tensor.DType.Size()
	piece := Piece{Source: s.Tensor, Row: place.Row, Rows: place.Rows, Cols: sourceCols, Target: codes, Line: place.Line}
	piece.Params = kernel.Params{Op: kernel.Quantize, From: s.Tensor.DType, To: t, Transposed: place.Line > 0, Format: f, Profile: b.chooser.Profile}
	piece.scaled(s)
	stride, matrices := place.Stride, place.Matrices
	// All matrices become one.
	if s.Scales == nil && place.Line == 0 && place.Rows == rows && stride == rows*sourceCols && matrices == n {
		piece.Rows, matrices = n*rows, 1
	}
	if err := b.room(s, matrices); err != nil {
		return err
	}
	group, scale := int64(f.GroupSize), f.ScaleType(t).Size()
	for k := range matrices {
		m := place.Matrix + k
		x := piece
		x.Matrix, x.Code = m, s.Tensor.Offset+(m*rows+place.Row)*sourceCols*in
		groups := (place.At + k*stride) / group
		x.Out = groups * int64(f.GroupBytes())
		p := *packed
		p.ScalesOut, p.BiasesOut = groups*scale, groups*scale
		x.Packed = &p
		x.scalesAt(s, m)
		b.append(x)
	}
	return nil
}

// scaled sets the form of the codes' scales.
func (p *Piece) scaled(s *family.Site) {
	if x := s.Scales; x != nil {
		p.Params.ScaleType, p.Params.BlockRows, p.Params.BlockCols = x.Type, int(x.Block.Rows), int(x.Block.Cols)
		p.Scale, p.ScaleCols = x.Tensor, x.Cols
	}
}

// scalesAt sets where the scales of a matrix begin.
func (p *Piece) scalesAt(s *family.Site, matrix int64) {
	if x := s.Scales; x != nil {
		p.Scales = x.Tensor.Offset + matrix*x.Stride*x.Type.Size()
	}
}

// append adds a piece and records what it fills.
func (b *builder) append(p Piece) {
	var room [3]Result
	for _, r := range p.Results(room[:0], 0, 0, p.Rows, p.Cols) {
		b.filled[r.Target] += r.N
	}
	b.plan.Pieces = append(b.plan.Pieces, p)
}

// complete refuses targets that are made twice: from a source with both separate and stacked
// experts.
func (b *builder) complete() error {
	for i := range b.plan.Tensors {
		t := &b.plan.Tensors[i]
		if have := b.filled[i]; have != t.Size {
			return fault.Corrupt(fmt.Sprintf("tensor %q", t.Name), "is in the source in two forms, stacked and apart: %d bytes for %d", have, t.Size)
		}
	}
	return nil
}

// target finds or adds an output tensor.
func (b *builder) target(name string, t dtype.DType, shape []int64) (int, error) {
	if i, ok := b.targets[name]; ok {
		if x := &b.plan.Tensors[i]; x.DType != t || !slices.Equal(x.Shape, shape) {
			return 0, fault.Corrupt(fmt.Sprintf("tensor %q", name), "would be %v in %s and %v in %s: the source has it in two forms", x.Shape, x.DType, shape, t)
		}
		return i, nil
	}
	size, ok := safetensors.Bytes(t, shape)
	if !ok { // only if it is empty: otherwise the source's bytes are there
		return 0, fault.Corrupt(fmt.Sprintf("tensor %q", name), "would be %v in %s, which no file holds", shape, t)
	}
	b.plan.Tensors = append(b.plan.Tensors, Tensor{Name: name, DType: t, Shape: shape, Size: size, Params: size * 8 / t.Bits()})
	b.targets[name] = len(b.plan.Tensors) - 1
	b.filled = append(b.filled, 0)
	return len(b.plan.Tensors) - 1, nil
}

// outType returns the type that a site's tensor has in the output.
func (b *builder) outType(s *family.Site) dtype.DType {
	t := s.Tensor
	switch {
	case t.DType == dtype.F8E4M3 && s.Scales != nil:
		return b.plan.DType
	case b.cast == dtype.Invalid || !t.DType.IsFloat():
		return t.DType
	case t.DType == dtype.F32 && b.plan.Family.StaysF32(t.Name):
		return t.DType
	}
	return b.cast
}

// pieces plans how a place's rows become target's elements: for each matrix a dequantized or
// transposed one, or else runs of elements that are converted one by one or only move, as long as
// they are contiguous in both.
func (b *builder) pieces(s *family.Site, place *family.Place, target int) error {
	t, to := s.Tensor, b.plan.Tensors[target].DType
	_, rows, cols := s.Matrices()
	if rows*cols == 0 || place.Rows == 0 || place.Matrices == 0 {
		return nil
	}
	in, out := t.DType.Size(), to.Size()
	piece := Piece{Source: t, Row: place.Row, Rows: place.Rows, Cols: cols, Target: target, Line: place.Line}
	piece.Params = kernel.Params{Op: kernel.Cast, From: t.DType, To: to, Transposed: place.Line > 0}
	switch {
	case s.Scales != nil:
		piece.Params.Op = kernel.Dequant
		piece.scaled(s)
	case place.AddOne:
		piece.Params.Op = kernel.AddOne
	case to == t.DType && place.Line > 0:
		piece.Params.Op = kernel.Copy
	case to == t.DType:
		piece.Params = kernel.Params{}
	}
	if op := piece.Params.Op; op != 0 && op != kernel.Dequant && !t.DType.IsFloat() {
		return fault.Unsupported(t.String(), "is %s and its place in the output is another form of it; that takes F16, BF16 or F32", t.DType)
	}
	n, perMatrix := place.Matrices, place.Rows
	if piece.Scale == nil && place.Line == 0 {
		if place.Rows == rows && place.Stride == rows*cols { // all matrices as one run
			n, perMatrix = 1, place.Matrices*rows
		}
		piece.Rows, piece.Cols = 1, perMatrix*cols
		if piece.Params.Op == 0 {
			piece.Cols *= in
		}
	}
	if err := b.room(s, n); err != nil {
		return err
	}
	for k := range n {
		m := place.Matrix + k
		piece.Matrix = m
		piece.Code = t.Offset + (m*rows+place.Row)*cols*in
		piece.Out = (place.At + k*place.Stride) * out
		piece.scalesAt(s, m)
		b.append(piece)
	}
	return nil
}

// place assigns tensors to shards in natural name order, orders each shard, and makes every offset
// final.
func (b *builder) place(limit int64) {
	p := b.plan
	order := make([]int, len(p.Tensors)) // new index -> old index
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return compareNatural(p.Tensors[a].Name, p.Tensors[b].Name) })
	var used int64
	for _, i := range order {
		t := &p.Tensors[i]
		if len(p.Shards) == 0 || used > 0 && used+t.Size > limit {
			p.Shards = append(p.Shards, Shard{})
			used = 0
		}
		t.Shard = len(p.Shards) - 1
		used += t.Size
	}
	slices.SortStableFunc(order, func(a, b int) int { return compareInFile(&p.Tensors[a], &p.Tensors[b]) })
	tensors, now := make([]Tensor, len(order)), make([]int, len(order))
	for at, old := range order {
		tensors[at], now[old] = p.Tensors[old], at
	}
	p.Tensors = tensors
	p.encodeHeaders()
	for i := range p.Pieces {
		q := &p.Pieces[i]
		q.Target = now[q.Target]
		q.Out += p.Tensors[q.Target].Offset
		if x := q.Packed; x != nil {
			x.Scales = now[x.Scales]
			x.ScalesOut += p.Tensors[x.Scales].Offset
			if x.Biases >= 0 {
				x.Biases = now[x.Biases]
				x.BiasesOut += p.Tensors[x.Biases].Offset
			}
		}
	}
	slices.SortFunc(p.Pieces, func(a, b Piece) int {
		return cmp.Or(cmp.Compare(a.Source.Shard, b.Source.Shard), cmp.Compare(a.Code, b.Code))
	})
}

func compareNatural(a, b string) int {
	if c := natural.Compare(a, b); c != 0 {
		return c
	}
	return cmp.Compare(a, b)
}

// compareInFile orders a shard: tensors of whole pages first, so that they stay page aligned; then
// wide types first, which keeps every offset a multiple of its element's size. The sort is stable
// on natural name order.
func compareInFile(a, b *Tensor) int {
	odd := func(t *Tensor) int {
		if t.Size%Align != 0 {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(a.Shard, b.Shard), cmp.Compare(odd(a), odd(b)), cmp.Compare(b.DType.Size(), a.DType.Size()))
}

func (p *Plan) encodeHeaders() {
	format := "pt"
	if p.Form.MLX || p.Layout == family.MLX {
		format = "mlx"
	}
	for first := 0; first < len(p.Tensors); {
		shard := p.Tensors[first].Shard
		var list []safetensors.Tensor
		var at int64
		end := first
		for ; end < len(p.Tensors) && p.Tensors[end].Shard == shard; end++ {
			t := &p.Tensors[end]
			list = append(list, safetensors.Tensor{Name: t.Name, DType: t.DType, Shape: t.Shape, Begin: at, End: at + t.Size})
			at += t.Size
		}
		s := &p.Shards[shard]
		s.Name = shardName(shard, len(p.Shards))
		s.Header = safetensors.Encode(list, format, Align)
		s.Size = int64(len(s.Header)) + at
		for i := range list {
			p.Tensors[first+i].Offset = int64(len(s.Header)) + list[i].Begin
		}
		first = end
	}
}

func shardName(i, n int) string {
	if n == 1 {
		return "model.safetensors"
	}
	return fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, n)
}
