package synth

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/metalcast/metalcast/internal/safetensors"
)

func TestShardsLookLikeTheLibrarys(t *testing.T) {
	c := write(t, Options{Layers: 8, Experts: 16, MTP: true})
	require.Equal(t, 4, c.Shards)
	previous := ""
	for _, name := range []string{"model-00001-of-00004.safetensors", "model-00002-of-00004.safetensors", "model-00003-of-00004.safetensors", "model-00004-of-00004.safetensors"} {
		h := c.shards[name]
		require.NotNil(t, h, name)
		assert.Equal(t, map[string]string{"format": "pt"}, h.Metadata)
		assert.Zero(t, h.DataStart%8)
		assert.True(t, slices.IsSortedFunc(h.Tensors, func(a, b safetensors.Tensor) int {
			if a.DType != b.DType {
				return int(b.DType) - int(a.DType)
			}
			return strings.Compare(a.Name, b.Name)
		}), "greater dtypes first, then names")
		// Shards follow each other in the order of names.
		first := slices.MinFunc(h.Tensors, func(a, b safetensors.Tensor) int { return strings.Compare(a.Name, b.Name) }).Name
		assert.Less(t, previous, first)
		previous = slices.MaxFunc(h.Tensors, func(a, b safetensors.Tensor) int { return strings.Compare(a.Name, b.Name) }).Name
	}
	apart := 0
	for name := range c.tensors {
		if isScale(name) && c.in[name] != c.in[strings.TrimSuffix(name, "_scale_inv")] {
			apart++
		}
	}
	assert.Equal(t, 3, apart, "weights whose scale lies in another shard: one at each border")
}

func TestIndex(t *testing.T) {
	c := write(t, Options{Layers: 4, Experts: 2})
	text, err := os.ReadFile(filepath.Join(c.Dir, "model.safetensors.index.json"))
	require.NoError(t, err)
	var index struct {
		Metadata  map[string]int64  `json:"metadata"`
		WeightMap map[string]string `json:"weight_map"`
	}
	require.NoError(t, json.Unmarshal(text, &index))
	assert.Equal(t, map[string]int64{"total_size": c.Bytes}, index.Metadata)
	assert.Equal(t, c.in, index.WeightMap)
	var lines []string
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, `    "`) && strings.Contains(line, ".safetensors") {
			lines = append(lines, line)
		}
	}
	assert.Len(t, lines, c.Tensors)
	assert.True(t, slices.IsSorted(lines))
}

func TestShardCounts(t *testing.T) {
	small := Options{Layers: 4, Experts: 2}
	for _, n := range []int{1, 2, 3, 17} {
		o := small
		o.Shards = n
		assert.Equal(t, n, write(t, o).Shards)
	}
	o := small
	o.ShardSize = 40_000 // lm_head and embed_tokens are larger
	c := write(t, o)
	for name, h := range c.shards {
		if len(h.Tensors) > 1 {
			assert.LessOrEqual(t, h.Tensors[len(h.Tensors)-1].End, o.ShardSize, name)
		}
	}
	all, err := newModel(small)
	require.NoError(t, err)
	shards, err := split(all.tensors, len(all.tensors), 0)
	require.NoError(t, err)
	assert.Len(t, shards, len(all.tensors), "one tensor in each")
}

func TestSizes(t *testing.T) {
	for _, tc := range []Options{
		{Size: 60e6},
		{Size: 200e6},
		{Size: 200e6, MTP: true, Stacked: true},
		{Size: 1e9, Layers: 2},
		{Size: 3e9, Experts: 8},
		{Size: 8e9},
		{Size: 35e9},
		{Family: Dense, Size: 300e6},
		{Family: Dense, Size: 8e9},
	} {
		_, bytes := measured(t, tc)
		assert.InEpsilon(t, tc.Size, bytes, 0.10, "%+v", tc)
	}
	// The result is the release itself if its size is requested.
	o, err := Options{Size: 35_750e6}.withDefaults()
	require.NoError(t, err)
	d, err := o.choose()
	require.NoError(t, err)
	assert.Equal(t, o.family.full.layers, d.layers)
	assert.InDelta(t, o.family.full.experts, d.experts, 4)
}

func TestSize200MB(t *testing.T) {
	needtest.Alone(t)
	c := write(t, Options{Size: 200e6})
	assert.InEpsilon(t, 200e6, c.DiskBytes, 0.10)
	assert.Equal(t, []int64{512, 2048}, c.tensors["model.language_model.layers.3.mlp.experts.0.up_proj.weight"].Shape)
	assert.Equal(t, dtype.F8E4M3, c.tensors["model.language_model.layers.3.mlp.experts.0.up_proj.weight"].DType)
}
