package checkpoint_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/checkpoint"
	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
	"github.com/metalcast/metalcast/internal/fault"
)

// renamed splits Moe(1)'s one shard among files of these names, without an index.
func renamed(names ...string) *Checkpoint {
	c := Moe(1)
	list := c.Shards["model.safetensors"]
	delete(c.Shards, "model.safetensors")
	for i, name := range names {
		c.Shards[name] = list[len(list)*i/len(names) : len(list)*(i+1)/len(names)]
	}
	return c
}

func TestOpenTakesShardsThatNoIndexNames(t *testing.T) {
	for name, test := range map[string]struct {
		c    *Checkpoint
		note string
	}{
		"a numbered set of another name": {renamed("pytorch_model-00001-of-00002.safetensors", "pytorch_model-00002-of-00002.safetensors"), "the 2 shards from pytorch_model-00001-of-00002.safetensors on are read"},
		"one file of another name":       {renamed("model.fp8.safetensors"), "model.fp8.safetensors is read"},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := checkpoint.Open(t.Context(), test.c.Write(t))
			require.NoError(t, err)
			assert.Len(t, v.Tensors, 7)
			require.Len(t, v.Notes, 1)
			assert.Contains(t, v.Notes[0], test.note)
		})
	}
	v, err := checkpoint.Open(t.Context(), renamed("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors").Write(t))
	require.NoError(t, err)
	assert.Empty(t, v.Notes)
}

func TestOpenRefusesShardsThatAreNoSet(t *testing.T) {
	stale := func(named string, there ...string) *Checkpoint {
		c := renamed(there...)
		c.Files[checkpoint.IndexName] = `{"weight_map":{"a":"` + named + `"}}`
		return c
	}
	for name, test := range map[string]struct {
		c          *Checkpoint
		kind       error
		want, hint string
	}{
		"two files":                {renamed("a.safetensors", "b.safetensors"), fault.ErrCorrupt, "2 shards of names that are no set's, a.safetensors, b.safetensors", "weight_map"},
		"two sets":                 {renamed("a-00001-of-00001.safetensors", "b-00001-of-00001.safetensors"), fault.ErrCorrupt, "2 shards of names that are no set's", "weight_map"},
		"a set with a gap":         {renamed("a-00001-of-00003.safetensors", "a-00003-of-00003.safetensors"), fault.ErrIncomplete, "a-00002-of-00003.safetensors: missing", "hf download"},
		"an index of another set":  {stale("model-00001-of-00002.safetensors", "model-00001-of-00001.safetensors"), fault.ErrCorrupt, "names 1 shard, none of which is there; beside it there is model-00001-of-00001.safetensors", "remove model.safetensors.index.json"},
		"an index of no set there": {stale("model-00001-of-00002.safetensors", "model-00001-of-00003.safetensors"), fault.ErrIncomplete, "model-00001-of-00002.safetensors: missing", "hf download"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := checkpoint.Open(t.Context(), test.c.Write(t))
			require.ErrorIs(t, err, test.kind)
			assert.ErrorContains(t, err, test.want)
			assert.Contains(t, fault.Hint(err), test.hint)
		})
	}
}

// What the index names and nobody needs may be absent, with the shard that would have held it.
func TestFindTakesAnIndexThatNamesMore(t *testing.T) {
	spare := func(*checkpoint.Config) func(string) bool {
		return func(name string) bool { return strings.HasPrefix(name, "mtp.") }
	}
	for name, test := range map[string]struct {
		more map[string]string
		want string // "": it is taken
	}{
		"in a shard that is there":       {map[string]string{"mtp.a": "model.safetensors"}, ""},
		"in a shard that is not":         {map[string]string{"mtp.a": "mtp.safetensors", "mtp.b": "mtp.safetensors"}, ""},
		"with one that is needed":        {map[string]string{"mtp.a": "model.safetensors", "x": "model.safetensors"}, `1 of its 9 tensors are in no shard; the first is "x"`},
		"in a shard with a needed one":   {map[string]string{"mtp.a": "mtp.safetensors", "x": "mtp.safetensors"}, "mtp.safetensors: missing"},
		"in two, of which one is needed": {map[string]string{"mtp.a": "a.safetensors", "x": "b.safetensors"}, "b.safetensors: missing"},
	} {
		t.Run(name, func(t *testing.T) {
			c := Moe(1)
			c.Index(test.more)
			dir := c.Write(t)
			v, err := checkpoint.Find(t.Context(), dir, "", spare)
			if test.want != "" {
				require.ErrorIs(t, err, fault.ErrIncomplete)
				assert.ErrorContains(t, err, test.want)
				return
			}
			require.NoError(t, err)
			assert.Len(t, v.Absent, len(test.more))
			require.Len(t, v.Notes, 1)
			assert.Contains(t, v.Notes[0], `in no shard that no output needs; the first is "mtp.a"`)
			_, err = checkpoint.Open(t.Context(), dir)
			assert.ErrorIs(t, err, fault.ErrIncomplete)
		})
	}
}

func TestUnlistedFindsATensorBesideTheShards(t *testing.T) {
	c := Moe(1)
	list := c.Shards["model.safetensors"]
	c.Shards = map[string][]Tensor{"model.safetensors": list[:6], "scales.safetensors": list[6:]}
	index, err := json.Marshal(map[string]any{"weight_map": map[string]string{list[0].Name: "model.safetensors"}})
	require.NoError(t, err)
	c.Files[checkpoint.IndexName], c.Files["broken.safetensors"] = string(index), "x"
	v, err := checkpoint.Open(t.Context(), c.Write(t))
	require.NoError(t, err)
	assert.Equal(t, "scales.safetensors", v.Unlisted(list[6].Name))
	assert.Empty(t, v.Unlisted("nothing"))
}
