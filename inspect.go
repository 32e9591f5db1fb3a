package metalcast

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/family"
	"github.com/metalcast/metalcast/internal/plan"
)

// Inspection is what a checkpoint is, known from headers alone.
type Inspection struct {
	Source    string       `json:"source"`
	Repo      string       `json:"repo,omitempty"`
	Revision  string       `json:"revision,omitempty"`
	ModelType string       `json:"model_type"`
	Family    string       `json:"family"`
	Form      string       `json:"form"`
	Shards    int          `json:"shards"`
	Tensors   int          `json:"tensors"`
	Bytes     int64        `json:"bytes"`
	DTypes    []DTypeCount `json:"dtypes"`
	Scales    []ScaleCount `json:"scales,omitempty"`
	Experts   []ExpertKind `json:"experts,omitempty"`
	MTP       int          `json:"mtp_tensors"`
	Vision    int          `json:"vision_tensors"`
	// MLXRejects is how many tensors mlx-lm says are "not in model" when it loads the checkpoint as it is; -1 where the family is unknown.
	MLXRejects int      `json:"mlx_lm_rejects"`
	Usable     bool     `json:"usable"`            // as it is: there is nothing to convert
	Problem    string   `json:"problem,omitempty"` // why it cannot be converted
	Hint       string   `json:"hint,omitempty"`
	Notes      []string `json:"notes,omitempty"`
}

// DTypeCount is the tensors of one element type.
type DTypeCount struct {
	DType   string `json:"dtype"`
	Tensors int    `json:"tensors"`
	Bytes   int64  `json:"bytes"`
}

// ScaleCount is the FP8 weights whose scales have one form.
type ScaleCount struct {
	Dialect string `json:"dialect"` // "weight_scale_inv, BF16, blocks of 128x128"
	Weights int    `json:"weights"`
}

// ExpertKind is the layers that have the same number of experts.
type ExpertKind struct {
	Experts int `json:"experts"`
	Layers  int `json:"layers"`
}

// Inspect tells what the checkpoint at src is. It fails only where src cannot be read at all; what stands in a conversion's way is a Problem.
func Inspect(ctx context.Context, src, revision string) (*Inspection, error) {
	v, err := openSource(ctx, src, revision)
	if err != nil {
		return nil, err
	}
	f := family.Of(v.Config)
	r := &Inspection{
		Source: v.Dir, Repo: v.Repo, Revision: v.Revision, ModelType: v.Config.ModelType(), Family: f.Name(),
		Shards: len(v.Shards), Tensors: len(v.Tensors), Bytes: v.Bytes(), MLXRejects: -1,
	}
	r.DTypes = dtypes(v)
	for i := range v.Tensors {
		switch name := v.Tensors[i].Name; {
		case f.IsMTP(name):
			r.MTP++
		case f.IsVision(name):
			r.Vision++
		}
	}
	sites, err := f.Sites(v, false)
	if err != nil {
		r.Problem, r.Hint = err.Error(), Hint(err)
		r.Notes = v.Notes
		return r, nil
	}
	r.Form = f.FormOf(v, sites).String()
	r.Scales = dialects(sites)
	if f.Known() {
		r.MLXRejects = mlxRejects(f, sites)
	}
	if groups, err := f.Groups(v, sites); err == nil {
		r.Experts = expertKinds(f, groups)
	}
	switch p, err := plan.New(v, plan.Options{}); {
	case errors.Is(err, ErrNothingToDo):
		r.Usable, r.Notes = true, v.Notes
	case err != nil:
		r.Problem, r.Hint, r.Notes = err.Error(), Hint(err), v.Notes
	default:
		r.Notes = p.SourceNotes
	}
	return r, nil
}

func dtypes(v *checkpoint.Inventory) (list []DTypeCount) {
	for i := range v.Tensors {
		t := &v.Tensors[i]
		k := slices.IndexFunc(list, func(c DTypeCount) bool { return c.DType == t.DType.String() })
		if k < 0 {
			k = len(list)
			list = append(list, DTypeCount{DType: t.DType.String()})
		}
		list[k].Tensors++
		list[k].Bytes += t.Size
	}
	slices.SortFunc(list, func(a, b DTypeCount) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return list
}

func dialects(sites []family.Site) (list []ScaleCount) {
	for i := range sites {
		s := &sites[i]
		if s.Scale == nil {
			continue
		}
		name := fmt.Sprintf("weight_scale_inv, %s, blocks of %dx%d", s.Scale.DType, s.Block.Rows, s.Block.Cols)
		if len(s.Scale.Shape) < 2 {
			name = fmt.Sprintf("weight_scale_inv, %s, one for each tensor", s.Scale.DType)
		}
		k := slices.IndexFunc(list, func(c ScaleCount) bool { return c.Dialect == name })
		if k < 0 {
			k = len(list)
			list = append(list, ScaleCount{Dialect: name})
		}
		list[k].Weights++
	}
	slices.SortFunc(list, func(a, b ScaleCount) int { return cmp.Compare(b.Weights, a.Weights) })
	return list
}

func expertKinds(f *family.Family, groups []*family.Group) (list []ExpertKind) {
	for _, g := range groups {
		n := len(g.Sites[f.Experts.Gate])
		k := slices.IndexFunc(list, func(c ExpertKind) bool { return c.Experts == n })
		if k < 0 {
			k = len(list)
			list = append(list, ExpertKind{Experts: n})
		}
		list[k].Layers++
	}
	return list
}

// mlxRejects counts what mlx-lm has no place for: scales of every kind, and experts that are not stacked. It drops mtp and vision tensors itself.
func mlxRejects(f *family.Family, sites []family.Site) (n int) {
	for i := range sites {
		s := &sites[i]
		if f.IsMTP(s.Tensor.Name) || f.IsVision(s.Tensor.Name) {
			continue
		}
		if s.Role == family.Scale || s.Role == family.Expert || s.Role == family.Drop {
			n++
		}
	}
	return n
}
