// Package loss measures what quantizing a checkpoint has cost, against its source's weights.
package loss

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/maruel/natural"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/family"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/pass"
	"github.com/metalcast/metalcast/internal/plan"
	"github.com/metalcast/metalcast/internal/record"
)

// Loss is what quantizing a checkpoint has cost, against its source's weights.
type Loss struct {
	Source      string   `json:"source"`
	Destination string   `json:"destination"`
	Family      string   `json:"family"`
	Device      string   `json:"device"`
	Total       Figures  `json:"total"`
	Modules     []Module `json:"modules"` // by kind, worst first
	Tensors     []Tensor `json:"tensors"` // worst first
	// Others counts the tensors of the destination that are not quantized.
	Others  int     `json:"unquantized_tensors"`
	Seconds float64 `json:"seconds"`

	tool string
}

// Figures are the errors of some quantized weights. RelativeRMSE is RMS(dst-src) / RMS(src).
type Figures struct {
	Weights       int64 `json:"weights"`
	RelativeRMSE  Ratio `json:"relative_rmse"`
	MaxGroupError Ratio `json:"max_relative_group_error"`
	Groups        int64 `json:"groups"`
	// ZeroedGroups became all zero although they were not.
	ZeroedGroups int64 `json:"zeroed_groups"`
}

// Tensor is the error of one tensor of the destination.
type Tensor struct {
	Name  string `json:"name"`
	Layer int    `json:"layer"` // -1 if in none
	// The kind of module: the name without its layer, "self_attn.q_proj".
	Module string  `json:"module"`
	Format string  `json:"format"` // "affine 4/64"
	Shape  []int64 `json:"shape"`  // of the weights
	Figures
	Worst []Group `json:"worst_groups"` // a few, by relative error
}

// Group is the error of one group: consecutive weights of a row that share a scale.
type Group struct {
	Index         []int64 `json:"index"` // of its first weight
	Where         string  `json:"where"` // in words: "expert 3, row 5, columns 64-127"
	RelativeError Ratio   `json:"relative_error"`
	RMSE          float64 `json:"rmse"`
	RMS           float64 `json:"rms"` // of its weights in the source
}

// Module is the error of all modules of one kind.
type Module struct {
	Module  string   `json:"module"`
	Tensors int      `json:"tensors"`
	Formats []string `json:"formats"`
	Figures
	WorstTensor string `json:"worst_tensor"`
	WorstRMSE   Ratio  `json:"worst_relative_rmse"`
}

// Ratio is an error divided by what it is relative to. It is infinite if zeros became something
// else, which JSON represents as null.
type Ratio float64

// MarshalJSON writes a number, or null.
func (r Ratio) MarshalJSON() ([]byte, error) {
	if math.IsInf(float64(r), 0) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(r))
}

// String returns the ratio in percent, with three digits.
func (r Ratio) String() string {
	if math.IsInf(float64(r), 0) {
		return "infinite"
	}
	return fmt.Sprintf("%.3g %%", 100*float64(r))
}

// Options are the choices of a measurement. The zero value is what most callers want.
type Options struct {
	// Tool names the program and its version in the HTML page.
	Tool string
	// Scales says how to read the source's scales, as the root package's Options do; nil is as the
	// record in the destination's metalcast.json says, if it has one.
	Scales *string
	// Revision chooses a branch, tag or commit if the source is a model id.
	Revision string
	// Pass has the device and the memory; of its other choices Measure takes its own.
	Pass pass.Options
}

// Measure compares the quantized checkpoint dst with the weights of src, whoever made it: metalcast
// or mlx_lm.convert. A weight of the source is an FP8 code times its scale, in float32, or what
// another type holds; one of dst is what MLX's matrix products, which compute in float32, take it
// for. Headers and config.json of dst say what is quantized and how.
func Measure(ctx context.Context, src, dst string, o Options) (*Loss, error) {
	start := time.Now()
	defer pass.LimitMemory(o.Pass.MaxMemory)()
	quantized, err := checkpoint.Open(ctx, dst)
	if err != nil {
		return nil, err
	}
	modules, err := quantizedModules(quantized)
	if err != nil {
		return nil, fault.In(dst, err)
	}
	made, err := record.Read(dst)
	scales := ""
	switch {
	case o.Scales != nil:
		scales = *o.Scales
	case err == nil:
		scales = made.Options.Scales
	case !errors.Is(err, fault.ErrIncomplete):
		return nil, fault.In(filepath.Join(dst, plan.ProvenanceName), err)
	}
	p, err := planned(ctx, src, o.Revision, scales)
	if errors.Is(err, fault.ErrUnsupported) {
		return nil, fault.WithHint(fault.In(src, err), "the error is measured in MLX-native form, which not every source has; without --error every checkpoint is verified")
	} else if err != nil {
		return nil, err
	}
	if made != nil && o.Pass.Warn != nil && !made.Source.SameShards(p.Source) {
		o.Pass.Warn(filepath.Join(dst, plan.ProvenanceName) + ": speaks of other shards than this source's")
	}
	if scales != "trust" {
		if err := pass.SurveyScales(ctx, p); err != nil {
			return nil, err
		}
	}
	m, err := newMeter(p, quantized, modules)
	if err != nil {
		return nil, fault.In(dst, err)
	}
	device, err := m.run(ctx, o.Pass.Recheck())
	if err != nil {
		return nil, err
	}
	r := m.report()
	r.tool, r.Source, r.Destination, r.Family, r.Device = o.Tool, p.Source.Dir, dst, p.Family.Name(), device
	r.Seconds = time.Since(start).Seconds()
	return r, nil
}

// planned plans the source in MLX-native form and float32, in one shard: nothing is written.
func planned(ctx context.Context, src, revision, scales string) (*plan.Plan, error) {
	if scales != "" && scales != "trust" && scales != "invert" {
		return nil, fault.New(fault.ErrUsage, "--scales", "%q is neither trust nor invert", scales)
	}
	v, err := checkpoint.Find(ctx, src, revision, family.Needless)
	if err != nil {
		return nil, err
	}
	p, err := plan.New(v, plan.Options{
		Layout: family.MLX, DType: dtype.F32, ShardSize: math.MaxInt64 / 2, Invert: scales == "invert",
		Roles: family.Options{TrustScales: scales == "trust"},
	})
	if err != nil {
		return nil, err
	}
	return p, ctx.Err()
}

// run reads both checkpoints once, side by side. Values stay as they are: the meter looks for those
// that are not finite.
func (m *meter) run(ctx context.Context, o pass.Options) (device string, err error) {
	runner, err := pass.New(m.plan, o)
	if err != nil {
		return "", err
	}
	defer runner.Close()
	runner.Reserve(m.memory())
	if m.disk, err = m.quantized.OpenSource(); err != nil {
		return "", err
	}
	defer m.disk.Close()
	if _, err := runner.Run(ctx, "measuring", m, engine.Progress{}); err != nil {
		return "", err
	}
	return runner.Device, errors.Join(runner.Source.Unchanged(), m.disk.Unchanged(), ctx.Err())
}

// report summarizes the sums.
func (m *meter) report() *Loss {
	r := &Loss{Others: len(m.quantized.Tensors)}
	var total sums
	kinds := map[string]*sums{}
	modules := map[string]*Module{}
	for _, t := range m.tensors {
		if t == nil {
			continue
		}
		t.complete()
		r.Others -= t.tensors()
		e := t.report()
		r.Tensors = append(r.Tensors, e)
		total.add(&t.sums)
		k := modules[e.Module]
		if k == nil {
			k = &Module{Module: e.Module, WorstTensor: e.Name, WorstRMSE: e.RelativeRMSE}
			modules[e.Module], kinds[e.Module] = k, new(sums)
		}
		if k.Tensors++; e.RelativeRMSE > k.WorstRMSE {
			k.WorstTensor, k.WorstRMSE = e.Name, e.RelativeRMSE
		}
		if !slices.Contains(k.Formats, e.Format) {
			k.Formats = append(k.Formats, e.Format)
		}
		kinds[e.Module].add(&t.sums)
	}
	for name, k := range modules {
		k.Figures = kinds[name].figures()
		slices.Sort(k.Formats)
		r.Modules = append(r.Modules, *k)
	}
	r.Total = total.figures()
	slices.SortFunc(r.Modules, func(a, b Module) int {
		return cmp.Or(cmp.Compare(b.RelativeRMSE, a.RelativeRMSE), cmp.Compare(a.Module, b.Module))
	})
	slices.SortFunc(r.Tensors, func(a, b Tensor) int {
		return cmp.Or(cmp.Compare(b.RelativeRMSE, a.RelativeRMSE), natural.Compare(a.Name, b.Name), cmp.Compare(a.Name, b.Name))
	})
	return r
}

// stems are the parts of a name that do not tell kinds of modules apart.
var stems = []string{"model", "language_model", "backbone", "layers"}

// moduleOf splits the name of a tensor into its layer and the kind of module.
func moduleOf(name string) (layer int, module string) {
	path := strings.Split(strings.TrimSuffix(name, ".weight"), ".")
	layer = -1
	var kept []string
	for i, part := range path {
		if n, err := strconv.Atoi(part); err == nil && n >= 0 && layer < 0 && i > 0 {
			layer = n
		} else if layer >= 0 || !slices.Contains(stems, part) {
			kept = append(kept, part)
		}
	}
	if len(kept) == 0 {
		kept = path
	}
	return layer, strings.Join(kept, ".")
}
