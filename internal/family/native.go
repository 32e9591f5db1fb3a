package family

import (
	"strings"

	"github.com/metalcast/metalcast/internal/fault"
)

// noPlace returns why the MLX-native form has no place for a tensor, "" if it has one.
func (p *Placer) noPlace(name string) string {
	switch {
	case hasPrefix(name, p.family.Native.Tower):
		return "vision tower; mlx-lm's form of the family has none (--layout auto keeps it)"
	case strings.HasSuffix(name, "rotary_emb.inv_freq"):
		return "rotary frequencies; MLX computes them"
	case p.tied && isHead(name):
		return "output head; tied to the embeddings"
	}
	return ""
}

// rename replaces the beginning of a name by its MLX-native form.
func (p *Placer) rename(name string) string {
	for _, r := range p.family.Native.Prefixes {
		if rest, ok := strings.CutPrefix(name, r.From); ok {
			return r.To + rest
		}
	}
	return name
}

// Module returns the module that a matrix of this form belongs to, if mlx_lm.convert can quantize
// it.
func (n *Native) Module(name string, shape []int64) (path string, ok bool) {
	path, ok = strings.CutSuffix(name, ".weight")
	return path, ok && len(shape) >= 2 && !strings.HasSuffix(path, "conv1d") && !hasSuffix(name, n.PlainArrays)
}

// IsRouter reports whether mlx_lm.convert keeps a module at 8 bits.
func (n *Native) IsRouter(path string) bool { return hasSuffix(path, n.EightBits) }

// KeepsType reports whether mlx_lm.convert leaves the type of a tensor.
func (n *Native) KeepsType(name string) bool { return hasSuffix(name, n.KeepType) }

// IsUncounted reports whether total_parameters leaves out a tensor.
func (n *Native) IsUncounted(name string) bool { return hasSuffix(name, n.Uncounted) }

// native places a tensor that is not an expert as mlx-lm 0.32.2's sanitize methods do.
func (p *Placer) native(s *Site) ([]Place, error) {
	t, n := s.Tensor, p.family.Native
	if n.MLA {
		if stem, ok := strings.CutSuffix(t.Name, ".kv_b_proj.weight"); ok {
			return p.splitKV(s, p.rename(stem))
		}
	}
	place := whole(s, p.rename(t.Name), t.Shape)
	switch {
	case n.Conv && strings.HasSuffix(t.Name, "conv1d.weight"):
		if len(t.Shape) != 3 || t.Shape[1] != 1 {
			return nil, fault.Corrupt(t.String(), "shape is %v, [channels, 1, width] was expected", t.Shape)
		}
		place.Shape = []int64{t.Shape[0], t.Shape[2], 1} // the same bytes
	case hasSuffix(t.Name, n.Norms) && len(t.Shape) == 1:
		place.AddOne = true
	}
	return []Place{place}, nil
}

// splitKV splits kv_b_proj [heads*(nope+value), rank]: the first rows of each head go, transposed,
// into embed_q [heads, rank, nope], the others into unembed_out [heads, value, rank].
func (p *Placer) splitKV(s *Site, stem string) ([]Place, error) {
	t := s.Tensor
	head := p.nope + p.value
	if len(t.Shape) != 2 || t.Shape[0] != p.heads*head {
		return nil, fault.Corrupt(t.String(), "shape is %v; config.json says %d heads of %d + %d rows", t.Shape, p.heads, p.nope, p.value)
	}
	rank := t.Shape[1]
	places := make([]Place, 0, 2*p.heads)
	for h := range p.heads {
		places = append(places,
			Place{Target: stem + ".embed_q.weight", Shape: []int64{p.heads, rank, p.nope}, Matrices: 1, Row: h * head, Rows: p.nope,
				At: h * rank * p.nope, Line: p.nope},
			Place{Target: stem + ".unembed_out.weight", Shape: []int64{p.heads, p.value, rank}, Matrices: 1, Row: h*head + p.nope, Rows: p.value,
				At: h * p.value * rank})
	}
	return places, nil
}
