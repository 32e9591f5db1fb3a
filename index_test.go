package metalcast_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast"
	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
)

// An index that still names the prediction head, which its uploader left out, stands in nobody's
// way but his who asks for the head.
func TestConvertWithoutAHeadThatTheIndexNames(t *testing.T) {
	c := Moe(2)
	c.Index(map[string]string{"mtp.fc.weight": "mtp.safetensors", "model.layers.0.self_attn.rotary_emb.inv_freq": "model.safetensors"})
	src := c.Write(t)
	_, err := metalcast.Convert(t.Context(), src, filepath.Join(t.TempDir(), "dst"), metalcast.Options{KeepMTP: true})
	require.ErrorIs(t, err, metalcast.ErrIncomplete)
	assert.ErrorContains(t, err, `names "mtp.fc.weight" of the multi-token prediction head, which is in no shard`)
	r, err := metalcast.Convert(t.Context(), src, filepath.Join(t.TempDir(), "dst"), metalcast.Options{})
	require.NoError(t, err)
	require.NotEmpty(t, r.Notes)
	assert.Contains(t, r.Notes[0], "names 2 tensors in no shard that no output needs")
}

func TestConvertSaysWhereAnUnlistedScaleIs(t *testing.T) {
	c := Moe(2)
	c.Index(nil)
	list := c.Shards["model.safetensors"]
	scale := list[1]
	require.Contains(t, scale.Name, "_scale_inv")
	c.Shards["model.safetensors"] = append(list[:1:1], list[2:]...)
	c.Index(nil)
	c.Shards["scales.safetensors"] = []Tensor{scale}
	_, err := metalcast.Convert(t.Context(), c.Write(t), filepath.Join(t.TempDir(), "dst"), metalcast.Options{})
	require.ErrorIs(t, err, metalcast.ErrIncomplete)
	assert.ErrorContains(t, err, "its scale is in scales.safetensors, which model.safetensors.index.json does not name")
	assert.Contains(t, metalcast.Hint(err), "add the tensors of scales.safetensors to the weight_map")
}

func TestConvertTakesAModelsModulesAlong(t *testing.T) {
	src := Moe(1).Write(t)
	for name, text := range map[string]string{"modules.json": `[{"path":"1_Pooling"}]`, "1_Pooling/config.json": `{"pooling_mode_lasttoken":true}`} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(src, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(src, name), []byte(text), 0o644))
	}
	dst := filepath.Join(t.TempDir(), "dst")
	_, err := metalcast.Convert(t.Context(), src, dst, metalcast.Options{Verify: true})
	require.NoError(t, err)
	got, err := os.ReadFile(filepath.Join(dst, "1_Pooling", "config.json"))
	require.NoError(t, err)
	assert.Equal(t, `{"pooling_mode_lasttoken":true}`, string(got))
	_, err = metalcast.Verify(t.Context(), src, dst, metalcast.VerifyOptions{})
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(dst, "1_Pooling", "config.json")))
	_, err = metalcast.Verify(t.Context(), src, dst, metalcast.VerifyOptions{})
	assert.ErrorIs(t, err, metalcast.ErrMismatch)
}
