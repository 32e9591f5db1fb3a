package plan

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/maruel/natural"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/family"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/safetensors"
)

// builder collects output tensors and pieces; offsets count from the tensor's start until place makes them final.
type builder struct {
	plan *Plan
	cast dtype.DType // of floating tensors that are not FP8; Invalid leaves them
}

// target adds an output tensor.
func (b *builder) target(name string, t dtype.DType, shape []int64) int {
	size, ok := safetensors.Bytes(t, shape)
	if !ok {
		panic(fmt.Sprintf("plan: internal error: %q: shape %v x %s", name, shape, t))
	}
	b.plan.Tensors = append(b.plan.Tensors, Tensor{Name: name, DType: t, Shape: shape, Size: size})
	return len(b.plan.Tensors) - 1
}

// add plans a tensor that keeps its name. Experts come here only where the layout leaves them apart.
func (b *builder) add(s *family.Site) {
	t := s.Tensor
	switch s.Role {
	case family.Drop:
		b.plan.Dropped = append(b.plan.Dropped, Dropped{t, s.Reason})
	case family.Scale:
		b.plan.scaleBytes += t.Size
	case family.Expert:
		if b.plan.Layout != family.Stacked {
			b.pieces(s, b.target(t.Name, b.outType(s), t.Shape), 0)
		}
	case family.Move, family.Weight:
		b.pieces(s, b.target(t.Name, b.outType(s), t.Shape), 0)
	}
}

// stack plans a layer's stacked tensors: gate_up [E,2I,H] takes gate and up of an expert one after the other, down [E,H,I].
func (b *builder) stack(g *family.Group) {
	e := b.plan.Family.Experts
	gate, up, down := g.Sites[e.Gate], g.Sites[e.Up], g.Sites[e.Down]
	n, shape := int64(len(gate)), gate[0].Tensor.Shape
	t := b.outType(gate[0])
	gateUp := b.target(g.Name+e.GateUpName, t, []int64{n, 2 * shape[0], shape[1]})
	downs := b.target(g.Name+e.DownName, t, []int64{n, shape[1], shape[0]})
	size := shape[0] * shape[1] * t.Size() // of one projection
	for i := range gate {
		at := int64(i) * size
		b.pieces(gate[i], gateUp, 2*at)
		b.pieces(up[i], gateUp, 2*at+size)
		b.pieces(down[i], downs, at)
	}
}

// outType is the type that a site's tensor has in the output.
func (b *builder) outType(s *family.Site) dtype.DType {
	t := s.Tensor
	switch {
	case t.DType == dtype.F8E4M3 && s.Scale != nil:
		return b.plan.DType
	case b.cast == dtype.Invalid || !t.DType.IsFloat():
		return t.DType
	case t.DType == dtype.F32 && b.plan.Family.StaysF32(t.Name):
		return t.DType
	}
	return b.cast
}

// pieces plans how a site's tensor becomes target's bytes from at on: a dequantized matrix for each of its leading indices, a cast, or a move.
func (b *builder) pieces(s *family.Site, target int, at int64) {
	t, to := s.Tensor, b.plan.Tensors[target].DType
	if t.Size == 0 {
		return
	}
	switch {
	case s.Scale != nil:
		b.dequant(s, target, at)
	case to != t.DType:
		p := kernel.Params{Op: kernel.Cast, From: t.DType, To: to}
		b.plan.Pieces = append(b.plan.Pieces, Piece{Source: t, Params: p, Rows: 1, Cols: t.Size / t.DType.Size(), Code: t.Offset, Target: target, Out: at})
	default:
		b.plan.Pieces = append(b.plan.Pieces, Piece{Source: t, Rows: 1, Cols: t.Size, Code: t.Offset, Target: target, Out: at})
	}
}

func (b *builder) dequant(s *family.Site, target int, at int64) {
	t, to := s.Tensor, b.plan.Tensors[target].DType
	rank := len(t.Shape)
	rows, cols := t.Shape[rank-2], t.Shape[rank-1]
	params := kernel.Params{
		Op: kernel.Dequant, From: t.DType, To: to, ScaleType: s.Scale.DType,
		BlockRows: int(s.Block.Rows), BlockCols: int(s.Block.Cols),
	}
	scaleCols := (cols + s.Block.Cols - 1) / s.Block.Cols
	grid := scaleCols * ((rows + s.Block.Rows - 1) / s.Block.Rows) * s.Scale.DType.Size()
	for m := range t.Size / (rows * cols) {
		b.plan.Pieces = append(b.plan.Pieces, Piece{
			Source: t, Matrix: m, Params: params, Rows: rows, Cols: cols, Code: t.Offset + m*rows*cols,
			Scale: s.Scale, Scales: s.Scale.Offset + m*grid, ScaleCols: scaleCols,
			Target: target, Out: at + m*rows*cols*to.Size(),
		})
	}
}

// place gives tensors to shards in natural name order, orders each shard, and makes every offset final.
func (b *builder) place(limit int64) error {
	p := b.plan
	order := make([]int, len(p.Tensors)) // new place -> old place
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return compareNatural(p.Tensors[a].Name, p.Tensors[b].Name) })
	for k := 1; k < len(order); k++ {
		if name := p.Tensors[order[k]].Name; name == p.Tensors[order[k-1]].Name {
			return fault.Corrupt(fmt.Sprintf("tensor %q", name), "is in the source, and stacking would make it too: its layer has experts in both forms")
		}
	}
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
	}
	slices.SortFunc(p.Pieces, func(a, b Piece) int {
		return cmp.Or(cmp.Compare(a.Source.Shard, b.Source.Shard), cmp.Compare(a.Code, b.Code))
	})
	return nil
}

func compareNatural(a, b string) int {
	switch {
	case natural.Less(a, b):
		return -1
	case natural.Less(b, a):
		return 1
	}
	return cmp.Compare(a, b)
}

// compareInFile orders a shard: tensors of whole pages first, so that they stay page aligned; then wide types first, which
// keeps every offset a multiple of its element's size. The sort is stable on natural name order.
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
	if p.Form.MLX {
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
