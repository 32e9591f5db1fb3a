package metalcast

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/family"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/pass"
	"github.com/metalcast/metalcast/internal/plan"
)

// Inspection describes a checkpoint, from its headers and scales.
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
	// Layout is "one tensor per expert", "stacked" or "stacked, transposed".
	Layout string `json:"expert_layout,omitempty"`
	// Runtimes is what they do with the checkpoint as it is.
	Runtimes []Verdict `json:"runtimes,omitempty"`
	MTP      int       `json:"mtp_tensors"`
	Vision   int       `json:"vision_tensors"`
	// MLXRejects is how many tensors mlx-lm calls "not in model" when it loads the checkpoint as it
	// is; -1 if the family is unknown.
	MLXRejects int      `json:"mlx_lm_rejects"`
	Usable     bool     `json:"usable"`            // as it is: there is nothing to convert
	Why        string   `json:"why,omitempty"`     // it is usable, and what was seen to load it
	Problem    string   `json:"problem,omitempty"` // why it cannot be converted
	Hint       string   `json:"hint,omitempty"`
	Notes      []string `json:"notes,omitempty"`
	// Scanned reports whether every weight was read; Findings are then the FP8 tensors with NaN codes,
	// scales that are not finite, or weights that no model has.
	Scanned  bool      `json:"scanned,omitempty"`
	Findings []Finding `json:"findings,omitempty"`
}

// InspectOptions are the options of Inspect. The zero value reads headers and scales only.
type InspectOptions struct {
	// Revision chooses a branch, tag or commit if the source is a model id.
	Revision string
	// Scan reads every weight, to count NaN codes, non-finite scales and weights that no model has.
	Scan bool
	// Progress is called during a scan, as by Convert.
	Progress func(phase string, done, total int64)
}

// Verdict is what a runtime does with a checkpoint.
type Verdict struct {
	Runtime string `json:"runtime"` // "mlx-lm 0.32.2"
	Does    string `json:"does"`    // "loads it"
}

// DTypeCount counts the tensors of one element type.
type DTypeCount struct {
	DType   string `json:"dtype"`
	Tensors int    `json:"tensors"`
	Bytes   int64  `json:"bytes"`
}

// ScaleCount counts the FP8 weights whose scales have one form.
type ScaleCount struct {
	Dialect string `json:"dialect"` // "weight_scale_inv, BF16, blocks of 128x128"
	Weights int    `json:"weights"`
}

// ExpertKind counts the layers that have the same number of experts.
type ExpertKind struct {
	Experts int `json:"experts"`
	Layers  int `json:"layers"`
}

// Inspect describes the checkpoint at src, from headers and scales. It fails only if src cannot be
// read at all; whatever prevents a conversion is a Problem.
func Inspect(ctx context.Context, src string, o InspectOptions) (*Inspection, error) {
	v, err := openSource(ctx, src, o.Revision)
	if err != nil {
		return nil, err
	}
	f := family.Of(v.Config)
	r := &Inspection{
		Source: v.Dir, Repo: v.Repo, Revision: v.Revision, ModelType: v.Config.ModelType(), Family: f.Name(),
		Shards: len(v.Shards), Tensors: len(v.Tensors), Bytes: v.Bytes(), MLXRejects: -1, Notes: v.Notes,
	}
	r.DTypes = dtypes(v)
	layers := family.Layers(v.Config)
	for i := range v.Tensors {
		switch name := v.Tensors[i].Name; {
		case f.IsMTP(name, layers):
			r.MTP++
		case f.IsVision(name):
			r.Vision++
		}
	}
	p, planError := plan.New(v, plan.Options{})
	if planError == nil {
		planError = pass.SurveyScales(ctx, p)
	}
	switch {
	case errors.Is(planError, ErrNothingToDo):
		r.Usable = true
		var e *fault.Error
		if errors.As(planError, &e) {
			r.Why = e.What
		}
	case planError != nil:
		r.Problem, r.Hint = planError.Error(), Hint(planError)
	}
	if p != nil {
		r.Notes = p.SourceNotes
	}
	if foreign := f.ForeignOf(v); len(foreign) > 0 {
		r.Form, r.Runtimes = family.Form{FP8: family.ScaledFP8(v), Foreign: foreign}.String(), verdicts(family.ForeignVerdicts(foreign))
		return r, nil
	}
	sites, err := f.Sites(v, family.Options{})
	if err != nil { // plan.New met it too, or stopped earlier
		return r, nil
	}
	form := f.FormOf(v, sites)
	r.Form = form.String()
	for _, d := range family.DialectsOf(sites) {
		r.Scales = append(r.Scales, ScaleCount(d))
	}
	if groups, err := f.Groups(v, sites); err == nil {
		r.Experts = expertKinds(f, groups, sites)
		r.Layout = f.ExpertLayout(sites)
	}
	if f.Known() {
		r.MLXRejects = f.MLXRejects(v, sites)
	}
	switch head := cmp.Or(f.HeadProblem(v.Config, v.Names()), f.SizeProblem(v)); {
	// Nobody has tried what is incomplete.
	case errors.Is(planError, ErrCorrupt) || errors.Is(planError, ErrIncomplete):
	case head != "":
		r.Runtimes = []Verdict{{family.MLXLM, "does not load it: " + head}}
	default:
		r.Runtimes = verdicts(f.Verdicts(v, sites, form, r.MLXRejects))
	}
	r.Notes = append(slices.Clone(r.Notes), family.SkipListNotes(v)...)
	if o.Scan && p != nil && form.FP8 > 0 {
		r.Scanned = true
		r.Findings, err = scan(ctx, p, o)
	}
	return r, err
}

// scan runs a plan, writes nothing, and returns what it finds.
func scan(ctx context.Context, p *plan.Plan, o InspectOptions) ([]Finding, error) {
	defer pass.LimitMemory(0)()
	runner, err := pass.New(p, pass.Options{
		KeepNaN: true, AllowOverflow: true, AllowLarge: true, Progress: o.Progress,
	})
	if err != nil {
		return nil, err
	}
	defer runner.Close()
	result, err := runner.Run(ctx, "scanning", engine.Discard{}, engine.Progress{})
	return findings(result), err
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

func verdicts(of []family.Verdict) (list []Verdict) {
	for _, v := range of {
		list = append(list, Verdict(v))
	}
	return list
}

// expertKinds counts layers by their number of experts, separate or stacked.
func expertKinds(f *family.Family, groups []*family.Group, sites []family.Site) (list []ExpertKind) {
	add := func(n int) {
		k := slices.IndexFunc(list, func(c ExpertKind) bool { return c.Experts == n })
		if k < 0 {
			k = len(list)
			list = append(list, ExpertKind{Experts: n})
		}
		list[k].Layers++
	}
	for _, g := range groups {
		add(len(g.Sites[f.Experts.Up]))
	}
	for i := range sites {
		if sites[i].Role != family.Drop && f.IsStack(&sites[i]) {
			add(int(sites[i].Tensor.Shape[0]))
		}
	}
	return list
}
