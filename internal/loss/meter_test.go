package loss

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast"
	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/metalcast/metalcast/internal/synth"
)

// Extents may start and end anywhere, even inside groups, cover several tensors, and come in any
// order: the sums are the same, and nothing is left over.
func TestMeterTakesRunsOfAnyCut(t *testing.T) {
	needtest.Alone(t)
	dir := t.TempDir()
	src, wide, dst := filepath.Join(dir, "src"), filepath.Join(dir, "wide"), filepath.Join(dir, "dst")
	_, err := synth.Write(t.Context(), src, synth.Options{Family: "deepseek_v3", Layers: 2, Hidden: 128})
	require.NoError(t, err)
	_, err = metalcast.Convert(t.Context(), src, wide, metalcast.Options{Layout: "mlx", DType: "float32"})
	require.NoError(t, err)
	data, err := os.ReadFile(filepath.Join(wide, "model.safetensors"))
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(1, 2))
	longestRuns := []int{7, 100_000, 300, 10_000_000} // elements
	for k, q := range []metalcast.Quantize{{GroupSize: 128}, {Mode: "nvfp4"}} {
		require.NoError(t, os.RemoveAll(dst))
		_, err = metalcast.Convert(t.Context(), src, dst, metalcast.Options{Quantize: &q})
		require.NoError(t, err)
		want, err := Measure(t.Context(), src, dst, Options{})
		require.NoError(t, err)
		for _, longest := range longestRuns[needtest.Rounds(k, 0):needtest.Rounds(k+1, 4)] {
			v, err := checkpoint.Open(t.Context(), dst)
			require.NoError(t, err)
			modules, err := quantizedModules(v)
			require.NoError(t, err)
			p, err := planned(t.Context(), src, "", "")
			require.NoError(t, err)
			m, err := newMeter(p, v, modules)
			require.NoError(t, err)
			m.disk, err = v.OpenSource()
			require.NoError(t, err)
			var runs []engine.Extent
			for at := len(p.Shards[0].Header); at < len(data); {
				n := min(4*(1+rng.IntN(longest)), len(data)-at)
				runs = append(runs, engine.Extent{Off: int64(at), Data: data[at : at+n]})
				at += n
			}
			if longest == 7 { // near each other, as a slow disk would have it; otherwise in any order
				for i := 0; i+8 < len(runs); i += 8 {
					rng.Shuffle(8, func(a, b int) { runs[i+a], runs[i+b] = runs[i+b], runs[i+a] })
				}
			} else {
				rng.Shuffle(len(runs), func(a, b int) { runs[a], runs[b] = runs[b], runs[a] })
			}
			most := 0
			for i := range runs {
				if err := m.Write(runs[i : i+1]); err != nil {
					t.Fatal(err)
				}
				if longest != 7 || i%3 > 0 && !needtest.Long() {
					continue
				}
				open := 0
				for _, q := range m.tensors {
					if q != nil {
						open += len(q.open)
					}
				}
				most = max(most, open)
			}
			require.NoError(t, m.disk.Close())
			got := m.report()
			equalReports(t, want, got)
			if longest == 7 {
				assert.Positive(t, most, "groups were cut")
				assert.LessOrEqual(t, most, 8)
			}
		}
	}
}

// equalReports allows for sums in another order.
func equalReports(t *testing.T, want, got *Loss) {
	t.Helper()
	require.Len(t, got.Tensors, len(want.Tensors))
	by := map[string]Tensor{}
	for _, e := range got.Tensors {
		by[e.Name] = e
	}
	for _, w := range want.Tensors {
		g := by[w.Name]
		assert.InEpsilon(t, float64(w.RelativeRMSE), float64(g.RelativeRMSE), 1e-12, w.Name)
		assert.InEpsilon(t, float64(w.MaxGroupError), float64(g.MaxGroupError), 1e-12, w.Name)
		assert.Equal(t, [3]int64{w.Weights, w.Groups, w.ZeroedGroups}, [3]int64{g.Weights, g.Groups, g.ZeroedGroups}, w.Name)
		require.Len(t, g.Worst, len(w.Worst))
		for i := range w.Worst {
			if math.Abs(float64(w.Worst[i].RelativeError-g.Worst[i].RelativeError)) > 1e-12 {
				t.Errorf("%s: worst group %d is %v, want %v", w.Name, i, g.Worst[i], w.Worst[i])
			}
		}
	}
}

func TestMeterMissesNothing(t *testing.T) {
	m := measured{name: "w", quantizedModule: &quantizedModule{shape: []int64{2, 64}}, open: map[int64]groupSums{}}
	m.sums.weights = 64
	assert.PanicsWithValue(t, `metalcast: internal error: 64 of the 128 weights of "w" were measured`, m.complete)
}

func TestModuleOf(t *testing.T) {
	for name, want := range map[string]struct {
		layer  int
		module string
	}{
		"language_model.model.layers.12.mlp.switch_mlp.down_proj.weight": {12, "mlp.switch_mlp.down_proj"},
		"model.layers.0.self_attn.q_proj.weight":                         {0, "self_attn.q_proj"},
		"backbone.layers.3.mixer.in_proj.weight":                         {3, "mixer.in_proj"},
		"vision_tower.blocks.7.mlp.linear_fc1.weight":                    {7, "vision_tower.blocks.mlp.linear_fc1"},
		"model.layers.1.mlp.experts.5.w1.weight":                         {1, "mlp.experts.5.w1"},
		"lm_head.weight":                                                 {-1, "lm_head"},
		"model.embed_tokens.weight":                                      {-1, "embed_tokens"},
		"model.layers.4.weight":                                          {4, "model.layers.4"},
		"model.layers.-1.q_proj.weight":                                  {-1, "-1.q_proj"},
		"0.weight":                                                       {-1, "0"},
		"a.99999999999999999999.weight":                                  {-1, "a.99999999999999999999"},
	} {
		layer, module := moduleOf(name)
		assert.Equal(t, want.layer, layer, name)
		assert.Equal(t, want.module, module, name)
	}
}
