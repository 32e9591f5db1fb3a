package metalcast

import (
	"context"
	"slices"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/pass"
	"github.com/metalcast/metalcast/internal/plan"
)

// Preview is what a conversion writes, from headers and scales.
type Preview struct {
	Source   string `json:"source"`
	Repo     string `json:"repo,omitempty"`
	Revision string `json:"revision,omitempty"`
	Family   string `json:"family"`
	// Known: it is one of metalcast's; other model types keep their names.
	Known         bool            `json:"family_known"`
	Form          string          `json:"form"`
	Layout        string          `json:"layout"`
	DType         string          `json:"dtype"`
	SourceTensors int             `json:"source_tensors"`
	SourceBytes   int64           `json:"source_bytes"`
	Tensors       []PlannedTensor `json:"tensors"`
	Shards        []PlannedShard  `json:"shards"`
	Dropped       []DroppedGroup  `json:"dropped,omitempty"`
	ScalesUsed    int             `json:"scales_used"`
	Files         []string        `json:"files"` // beside the shards: copied or written
	DiskBytes     int64           `json:"disk_bytes"`
	MemoryBytes   int64           `json:"memory_bytes"` // of the windows in flight
	Notes         []string        `json:"notes,omitempty"`
	// MLXProblem is why mlx-lm does not load the output, or why that is not known.
	MLXProblem string `json:"mlx_lm_problem,omitempty"`
	// Tokenizer: there is a tokenizer beside the weights, which is copied.
	Tokenizer    bool          `json:"tokenizer"`
	Quantization *Quantization `json:"quantization,omitempty"`
	// Quantizes: metalcast can quantize the family's models.
	Quantizes     bool    `json:"quantizes"`
	BitsPerWeight float64 `json:"bits_per_weight"` // of all tensors, scales included
	// LeastMac is the least memory of a Mac, of 16, 32, 64 and 128 GB, that holds the weights; 0:
	// none.
	LeastMac int `json:"least_mac_gb,omitempty"`
}

// PlannedTensor is a tensor of the output and how many source tensors it is made of.
type PlannedTensor struct {
	Name    string  `json:"name"`
	DType   string  `json:"dtype"`
	Shape   []int64 `json:"shape"`
	Bytes   int64   `json:"bytes"`
	Shard   string  `json:"shard"`
	Sources int     `json:"sources"`
	// Action is copied, cast, dequantized, transposed, increased by 1, stacked, quantized, or made
	// (scales and biases).
	Action string `json:"action"`
}

// PlannedShard is a file of the output.
type PlannedShard struct {
	Name    string `json:"name"`
	Bytes   int64  `json:"bytes"`
	Tensors int    `json:"tensors"`
}

// DroppedGroup is the source tensors that are dropped for one reason.
type DroppedGroup struct {
	Reason  string   `json:"reason"`
	Bytes   int64    `json:"bytes"`
	Tensors []string `json:"tensors"`
}

// PlanConversion returns what Convert would write, or refuses what Convert would refuse. It reads
// headers, scales and small files, and writes nothing.
func PlanConversion(ctx context.Context, src string, o Options) (*Preview, error) {
	defer pass.LimitMemory(o.MaxMemory)()
	p, err := newPlan(ctx, src, o)
	if err != nil {
		return nil, err
	}
	memory, err := pass.Budget(p, o.MaxMemory)
	if err != nil {
		return nil, err
	}
	if o.Scales != TrustScales {
		if err := pass.SurveyScales(ctx, p); err != nil {
			return nil, err
		}
	}
	v := preview(p, engine.NewSchedule(p, memory), o)
	return &v, nil
}

func preview(p *plan.Plan, s *engine.Schedule, o Options) Preview {
	v := Preview{
		Source: p.Source.Dir, Repo: p.Source.Repo, Revision: p.Source.Revision,
		Family: p.Family.Name(), Known: p.Family.Known(), Form: p.Form.String(), Layout: p.LayoutName(), MLXProblem: p.MLXProblem(), DType: p.DType.ConfigName(),
		SourceTensors: len(p.Source.Tensors), SourceBytes: p.Source.Bytes(),
		DiskBytes: p.DiskBytes() + recordOf(p, o).Size(p, o.Hashes), MemoryBytes: s.Memory(), Notes: p.Notes,
		Dropped: droppedGroups(p), Tokenizer: p.Source.HasTokenizer(),
	}
	v.Tensors, v.ScalesUsed = plannedTensors(p)
	v.Quantization, v.Quantizes = quantization(p.Quantized), p.Family.Native != nil
	var weights, params int64
	for i := range p.Tensors {
		weights += p.Tensors[i].Size
		params += p.Tensors[i].Params
	}
	v.BitsPerWeight, v.LeastMac = float64(8*weights)/float64(max(params, 1)), leastMac(weights)
	for i := range p.Shards {
		v.Shards = append(v.Shards, PlannedShard{Name: p.Shards[i].Name, Bytes: p.Shards[i].Size})
	}
	for i := range p.Tensors {
		v.Shards[p.Tensors[i].Shard].Tensors++
	}
	for _, f := range p.Files {
		v.Files = append(v.Files, f.Name)
	}
	for _, t := range p.Texts {
		v.Files = append(v.Files, t.Name)
	}
	v.Files = append(v.Files, plan.ProvenanceName)
	slices.Sort(v.Files)
	return v
}

func plannedTensors(p *plan.Plan) (list []PlannedTensor, scales int) {
	list = make([]PlannedTensor, len(p.Tensors))
	for i := range p.Tensors {
		t := &p.Tensors[i]
		list[i] = PlannedTensor{Name: t.Name, DType: t.DType.String(), Shape: t.Shape, Bytes: t.Size, Shard: p.Shards[t.Shard].Name, Action: "copied"}
	}
	last := make([]*checkpoint.Tensor, len(list)) // a tensor's pieces follow each other
	used := map[*checkpoint.Tensor]bool{}
	for i := range p.Pieces {
		q := &p.Pieces[i]
		t := &list[q.Target]
		if q.Packed != nil {
			list[q.Packed.Scales].Action = "made"
			if q.Packed.Biases >= 0 {
				list[q.Packed.Biases].Action = "made"
			}
		}
		if last[q.Target] != q.Source {
			last[q.Target] = q.Source
			t.Sources++
		}
		if q.Scale != nil {
			used[q.Scale] = true
		}
		if q.Packed != nil {
			t.Action = "quantized"
		} else if t.Sources > 1 {
			t.Action = "stacked"
		} else if q.Params.Op != 0 {
			t.Action = actions[q.Params.Op]
		}
	}
	return list, len(used)
}

var actions = map[kernel.Op]string{kernel.Dequant: "dequantized", kernel.Cast: "cast", kernel.Copy: "transposed", kernel.AddOne: "increased by 1"}

func droppedGroups(p *plan.Plan) (groups []DroppedGroup) {
	for _, g := range p.DroppedGroups() {
		groups = append(groups, DroppedGroup(g))
	}
	return groups
}
