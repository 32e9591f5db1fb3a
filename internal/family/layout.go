package family

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/fault"
)

// Place is where some rows of a site's tensor go. A tensor of shape [..., rows, cols] is a stack of
// matrices; one with fewer dimensions is one row.
type Place struct {
	Target   string  // the output tensor's name
	Shape    []int64 // and its shape
	Matrix   int64   // the first matrix of the source
	Matrices int64   // how many matrices
	Row      int64   // their first row
	Rows     int64   // how many rows
	At       int64   // elements from the target's start to the first of them
	Stride   int64   // target elements from one matrix to the next
	// Target elements from one column to the next if the matrix is transposed; 0 if not.
	Line   int64
	AddOne bool // 1 is added to the elements
}

// Placer returns for every site of a checkpoint where it goes in a layout.
type Placer struct {
	family  *Family
	layout  Layout
	experts map[string]int64 // experts of a group, by the group's name
	tied    bool

	headless bool // the output has no head in any layout

	heads, nope, value int64 // of multi-head latent attention, if the layout splits it
}

// Placer prepares the places of a layout that Resolve returned.
func (f *Family) Placer(c *checkpoint.Config, layout Layout, form Form, groups []*Group, o Options) (*Placer, error) {
	p := &Placer{family: f, layout: layout, experts: map[string]int64{}, tied: f.Tied(c), headless: f.redundantHead(c)}
	for _, g := range groups {
		p.experts[g.Name] = int64(len(g.Sites[f.Experts.Up]))
	}
	if form.MLX {
		p.layout = Auto // everything is in its place already
	}
	if p.layout != MLX {
		return p, nil
	}
	if o.KeepMTP {
		return nil, fault.Unsupported("--keep-mtp", "MLX-native models have no multi-token prediction head")
	}
	if f.Native.MLA {
		for _, x := range []struct {
			key string
			to  *int64
		}{{"num_attention_heads", &p.heads}, {"qk_nope_head_dim", &p.nope}, {"v_head_dim", &p.value}} {
			r := c.TextSetting(x.key)
			if *x.to = r.Int(); *x.to < 1 || *x.to > mostHeads {
				return nil, fault.Incomplete(checkpoint.ConfigName, "%s is %s; --layout mlx needs it, from 1 to %d, to split kv_b_proj", x.key, cmp.Or(r.Raw, "missing"), mostHeads)
			}
		}
	}
	return p, nil
}

// mostHeads bounds what kv_b_proj is split into; no model comes near it.
const mostHeads = 1 << 16

// matrices returns a shape as a stack of matrices.
func matrices(shape []int64) (n, rows, cols int64) {
	switch r := len(shape); r {
	case 0:
		return 1, 1, 1
	case 1:
		return 1, 1, shape[0]
	default:
		return product(shape[:r-2]), shape[r-2], shape[r-1]
	}
}

// Matrices returns the site's tensor as a stack of matrices.
func (s *Site) Matrices() (n, rows, cols int64) { return matrices(s.Tensor.Shape) }

// Places returns the places of a site that is a Move, Weight or Expert; or none, and the reason, if
// the layout has no place for it.
func (p *Placer) Places(s *Site) (places []Place, reason string, err error) {
	if p.layout == MLX {
		if reason := p.noPlace(s.Tensor.Name); reason != "" {
			return nil, reason, nil
		}
	}
	if p.headless && isHead(s.Tensor.Name) {
		return nil, "output head; tied to the embeddings, and mlx-lm refuses it beside them", nil
	}
	if s.Role == Expert {
		return p.expert(s), "", nil
	}
	if e := p.family.Experts; e != nil && e.GateUpName != "" && len(s.Tensor.Shape) == 3 {
		switch group, tail, ok := cutLast(s.Tensor.Name, e.Infix); {
		case !ok || p.layout == Stacked:
		case tail == e.GateUpName || tail == e.DownName:
			places, err = p.unstack(s, group, tail)
			return places, "", err
		}
	}
	if p.layout == MLX {
		places, err = p.native(s)
		return places, "", err
	}
	return []Place{whole(s, s.Tensor.Name, s.Tensor.Shape)}, "", nil
}

// whole returns a site's tensor as it is.
func whole(s *Site, name string, shape []int64) Place {
	n, rows, cols := s.Matrices()
	return Place{Target: name, Shape: shape, Matrices: n, Rows: rows, Stride: rows * cols}
}

// cutLast splits "model.layers.3.mlp.experts.down_proj" after the infix.
func cutLast(name, infix string) (group, tail string, ok bool) {
	at := strings.LastIndex(name, infix)
	if at < 0 {
		return "", "", false
	}
	at += len(infix)
	return name[:at], name[at:], true
}

// expert places one expert's projection: under its own name, in its half of gate_up_proj, in
// down_proj, or in MLX's stack of the projection.
func (p *Placer) expert(s *Site) []Place {
	e, t := p.family.Experts, s.Tensor
	n, rows, cols := p.experts[s.Group], t.Shape[0], t.Shape[1]
	place := Place{Matrices: 1, Rows: rows, Stride: rows * cols, At: int64(s.Index) * rows * cols}
	switch {
	case p.layout == MLX:
		place.Target, place.Shape = p.switchName(s.Group, s.Proj), []int64{n, rows, cols}
	case p.layout != Stacked:
		return []Place{whole(s, t.Name, t.Shape)}
	case s.Proj == e.Down:
		place.Target, place.Shape = s.Group+e.DownName, []int64{n, rows, cols}
		if e.Transposed {
			place.Shape, place.Line = []int64{n, cols, rows}, rows
		}
	default:
		place.Target, place.Shape = s.Group+e.GateUpName, []int64{n, 2 * rows, cols}
		place.At *= 2
		half := rows * cols
		if e.Transposed {
			place.Shape, place.Line, half = []int64{n, cols, 2 * rows}, 2*rows, rows
		}
		if s.Proj == e.Up {
			place.At += half
		}
	}
	return []Place{place}
}

// maxExperts bounds what a stack is split into; no model comes near it.
const maxExperts = 1 << 16

// unstack splits gate_up_proj [E,2I,H] or down_proj [E,H,I] into experts, or into MLX's
// projections.
func (p *Placer) unstack(s *Site, group, tail string) (places []Place, err error) {
	e := p.family.Experts
	if e.Transposed {
		return nil, fault.Unsupported(s.Tensor.String(), "experts that are stacked and transposed are not taken apart")
	}
	n, rows, cols := s.Matrices()
	if n == 0 || n > maxExperts {
		return nil, fault.Corrupt(s.Tensor.String(), "shape is %v; a stack of 1 to %d experts was expected", s.Tensor.Shape, maxExperts)
	}
	projections := []string{e.Down}
	if tail == e.GateUpName {
		if projections = []string{e.Gate, e.Up}; rows%2 != 0 {
			return nil, fault.Corrupt(s.Tensor.String(), "shape is %v; gate and up rows cannot be equally many", s.Tensor.Shape)
		}
		rows /= 2
	}
	for i, proj := range projections {
		half := Place{Matrices: n, Row: int64(i) * rows, Rows: rows, Stride: rows * cols}
		if p.layout == MLX {
			half.Target, half.Shape = p.switchName(group, proj), []int64{n, rows, cols}
			places = append(places, half)
			continue
		}
		for m := range n {
			half.Target, half.Shape = fmt.Sprintf("%s%d.%s.weight", group, m, proj), []int64{rows, cols}
			half.Matrix, half.Matrices = m, 1
			places = append(places, half)
		}
	}
	return places, nil
}

// switchName returns MLX's name for the stack of a projection.
func (p *Placer) switchName(group, proj string) string {
	names := p.family.Native.Names
	for i, name := range p.family.Experts.projections() {
		if name == proj {
			return p.rename(strings.TrimSuffix(group, p.family.Experts.Infix)) + p.family.Native.Switch + names[i] + ".weight"
		}
	}
	panic("family: internal error: no projection " + strconv.Quote(proj))
}
