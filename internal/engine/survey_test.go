package engine_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/engine/enginetest"
	"github.com/metalcast/metalcast/internal/plan"
)

// counted counts what is read of a source.
type counted struct {
	engine.Source
	reads, bytes int
}

func (c *counted) ReadAt(shard int, p []byte, off int64) error {
	c.reads++
	c.bytes += len(p)
	return c.Source.ReadAt(shard, p, off)
}

// scaled is a checkpoint of n weights of 64x64 whose scales lie behind them, as the safetensors
// library writes them.
func scaled(n int, scale []byte) *Checkpoint {
	c := &Checkpoint{Shards: map[string][]Tensor{}, Files: map[string]string{"config.json": `{"model_type":"x"}`}}
	var weights, scales []Tensor
	for i := range n {
		w := Tensor{Name: fmt.Sprintf("w%d.weight", i), DType: "F8_E4M3", Shape: []int{64, 64}}
		for range w.Bytes() {
			w.Data = append(w.Data, 0x40)
		}
		weights = append(weights, w)
		scales = append(scales, Tensor{Name: w.Name + "_scale", DType: "F32", Shape: []int{1}, Data: scale})
	}
	c.Shards["model.safetensors"] = append(weights, scales...)
	return c
}

// Scales that lie together are read together, and codes only where a scale asks for it: a row of
// each weight.
func TestSurveyReadsFew(t *testing.T) {
	const n = 1000
	p, src := enginetest.Open(t, scaled(n, []byte{0, 0, 0x80, 0x3F}), plan.Options{})
	c := &counted{Source: src}
	found, zero, err := engine.Survey(t.Context(), p, c, false)
	require.NoError(t, err)
	assert.Empty(t, found)
	assert.Empty(t, zero)
	assert.Equal(t, counted{src, 1, 4 * n}, *c)

	p, src = enginetest.Open(t, scaled(n, []byte{0, 0, 0x80, 0x46}), plan.Options{}) // 2^14
	c = &counted{Source: src}
	found, zero, err = engine.Survey(t.Context(), p, c, false)
	require.NoError(t, err)
	assert.Empty(t, zero)
	require.Len(t, found, n)
	assert.Equal(t, engine.Suspect{Piece: n - 1, Code: 2, Scale: 1 << 14}, found[n-1])
	assert.Equal(t, counted{src, 1 + n, (4 + 64) * n}, *c)
}
