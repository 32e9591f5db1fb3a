//go:build unix

package metalcast_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast"
	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/metalcast/metalcast/internal/synth"
)

func TestVerifyFindsEveryFlippedBit(t *testing.T) {
	needtest.Alone(t)
	c := RandomMoe(2, 64, 64, 1)
	c.Files["tokenizer.json"] = `{"a long": "enough file"}`
	src := c.Write(t)
	rng := rand.New(rand.NewPCG(1, 2))
	for name, o := range map[string]metalcast.Options{
		"bfloat16": {Hashes: true},
		"4 bits":   {Quantize: &metalcast.Quantize{}},
	} {
		dst := filepath.Join(t.TempDir(), "dst")
		_, err := metalcast.Convert(t.Context(), src, dst, o)
		require.NoError(t, err)
		r, err := metalcast.Verify(t.Context(), src, dst, metalcast.VerifyOptions{})
		require.NoError(t, err)
		require.Len(t, r.Sums, 6)
		entries, err := os.ReadDir(dst)
		require.NoError(t, err)
		flips := needtest.Rounds(45, 150)
		if os.Getenv("METALCAST_NIGHTLY") != "" {
			flips = 1000
		}
		for i := range flips {
			e := entries[i%len(entries)]
			if i >= flips/3 { // most of them among the weights
				e = entries[slices.IndexFunc(entries, func(e os.DirEntry) bool { return strings.HasSuffix(e.Name(), ".safetensors") })]
			}
			path := filepath.Join(dst, e.Name())
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			at, bit := rng.IntN(len(b)), byte(1)<<rng.IntN(8)
			b[at] ^= bit
			require.NoError(t, os.WriteFile(path, b, 0o644))
			r, err := metalcast.Verify(t.Context(), src, dst, metalcast.VerifyOptions{})
			where := fmt.Sprintf("%s: byte %d, bit %d of %s", name, at, bit, e.Name())
			if e.Name() == "metalcast.json" && r == nil { // no JSON any more
				require.ErrorIs(t, err, metalcast.ErrCorrupt, where)
			} else {
				require.ErrorIs(t, err, metalcast.ErrMismatch, where)
				require.Contains(t, fmt.Sprint(r.Problems, r.Differences), e.Name(), where)
			}
			if r != nil && len(r.Differences) > 0 {
				require.EqualValues(t, 1, r.Differences[0].Bytes, where)
			}
			b[at] ^= bit
			require.NoError(t, os.WriteFile(path, b, 0o644))
		}
		_, err = metalcast.Verify(t.Context(), src, dst, metalcast.VerifyOptions{})
		require.NoError(t, err)
	}
}

func TestVerifyLocatesWhatDiffers(t *testing.T) {
	src := RandomMoe(4, 64, 64, 1).Write(t)
	dst := filepath.Join(t.TempDir(), "dst")
	_, err := metalcast.Convert(t.Context(), src, dst, metalcast.Options{})
	require.NoError(t, err)
	spoil := func(name string, change func(path string) error) {
		require.NoError(t, change(filepath.Join(dst, name)))
	}
	verify := func(o metalcast.VerifyOptions) *metalcast.Verification {
		r, err := metalcast.Verify(t.Context(), src, dst, o)
		require.ErrorIs(t, err, metalcast.ErrMismatch)
		return r
	}
	// down_proj [4, 64, 64] begins the data: it is of whole pages.
	st, err := os.Stat(filepath.Join(dst, "model.safetensors"))
	require.NoError(t, err)
	header := st.Size() - 2*(4*64*64+4*128*64) - 2*4
	spoil("model.safetensors", func(path string) error { return poke(path, header+2*(3*64*64+5*64+7)) })
	r := verify(metalcast.VerifyOptions{})
	require.Len(t, r.Differences, 1)
	assert.Equal(t, metalcast.TensorProblem{
		Shard: "model.safetensors", Tensor: "model.language_model.layers.0.mlp.experts.down_proj", Index: []int64{3, 5, 7},
		Where: "expert 3, row 5, column 7", Byte: 2 * (3*64*64 + 5*64 + 7), Bytes: 1,
	}, r.Differences[0])
	assert.Empty(t, r.Problems)

	spoil("extra.bin", func(path string) error { return os.WriteFile(path, nil, 0o644) })
	spoil("config.json", os.Remove)
	spoil("model.safetensors", func(path string) error { return os.Truncate(path, st.Size()-1) })
	r = verify(metalcast.VerifyOptions{})
	assert.Equal(t, []string{
		"config.json: is missing", "extra.bin: is in no plan of this conversion",
		fmt.Sprintf("model.safetensors: is %d bytes long, %d were written; 1 tensor ends behind that", st.Size()-1, st.Size()),
	}, r.Problems)

	// Against another source, and with other options than those recorded.
	other := RandomMoe(4, 64, 64, 2).Write(t)
	r, err = metalcast.Verify(t.Context(), other, dst, metalcast.VerifyOptions{})
	require.ErrorIs(t, err, metalcast.ErrMismatch)
	assert.NotEmpty(t, r.Differences)
	r, err = metalcast.Verify(t.Context(), src, dst, metalcast.VerifyOptions{Convert: &metalcast.Options{Layout: "per-expert"}})
	require.ErrorIs(t, err, metalcast.ErrMismatch)
	assert.NotEmpty(t, r.Problems)
}

// A shard that ends too early is one problem with a count, and what it still holds is compared.
func TestVerifyOfAShardThatIsCut(t *testing.T) {
	src, _ := Synthetic(t, synth.Options{Family: "qwen3_moe", Layers: 2})
	dst := filepath.Join(t.TempDir(), "dst")
	_, err := metalcast.Convert(t.Context(), src, dst, metalcast.Options{Hashes: true})
	require.NoError(t, err)
	path := filepath.Join(dst, "model.safetensors")
	st, err := os.Stat(path)
	require.NoError(t, err)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	header := 8 + int(binary.LittleEndian.Uint64(b))
	ends := []int{}
	for _, x := range HeaderOf(t, b) {
		ends = append(ends, header+x.Offsets[1])
	}
	for _, size := range []int{int(st.Size()) - 1, int(st.Size()) / 2, header, header - 1, 3, 0} {
		require.NoError(t, os.WriteFile(path, b[:size], 0o644))
		behind := 0
		for _, end := range ends {
			if end > size {
				behind++
			}
		}
		r, err := metalcast.Verify(t.Context(), src, dst, metalcast.VerifyOptions{})
		require.ErrorIs(t, err, metalcast.ErrMismatch)
		require.Len(t, r.Problems, 1)
		assert.Regexp(t, fmt.Sprintf("^model.safetensors: is %d bytes long, %d were written; %d tensors? ends? behind that$", size, st.Size(), behind), r.Problems[0])
		assert.Empty(t, r.Differences)
		assert.Equal(t, []metalcast.CutShard{{Name: "model.safetensors", Tensors: behind}}, r.CutOff)
		assert.EqualValues(t, max(size-header, 0), r.Bytes, "what is there is compared, and no more")
	}
	spoilt := bytes.Clone(b[:st.Size()/2])
	spoilt[header] ^= 1
	require.NoError(t, os.WriteFile(path, spoilt, 0o644))
	r, err := metalcast.Verify(t.Context(), src, dst, metalcast.VerifyOptions{})
	require.ErrorIs(t, err, metalcast.ErrMismatch)
	assert.Len(t, r.Differences, 1)
}

// The record knows its source: another one is said to be that, and nothing else.
func TestVerifyWithAnotherSource(t *testing.T) {
	src, _ := Synthetic(t, synth.Options{Family: "qwen3_moe", Layers: 2})
	dst := filepath.Join(t.TempDir(), "dst")
	_, err := metalcast.Convert(t.Context(), src, dst, metalcast.Options{})
	require.NoError(t, err)
	longer, _ := Synthetic(t, synth.Options{Family: "qwen3_moe", Layers: 3})
	dense, _ := Synthetic(t, synth.Options{Family: "deepseek_v3", Layers: 1, Shards: 1})
	for other, want := range map[string]string{
		longer:             "its model-00001-of-0000\\d.safetensors was \\d+ bytes long, that of .* is \\d+",
		dense:              "of \\d+ shards, .* has 1",
		Moe(2).Write(t):    "of \\d+ shards, .* has 1",
		filepath.Join(dst): "of \\d+ shards, .* has 1",
	} {
		// The record's, and given ones.
		for _, options := range []*metalcast.Options{nil, {Layout: "stacked"}} {
			r, err := metalcast.Verify(t.Context(), other, dst, metalcast.VerifyOptions{Convert: options})
			require.ErrorIs(t, err, metalcast.ErrMismatch)
			require.Len(t, r.Problems, 1)
			assert.Regexp(t, "^metalcast.json: says that this was made from another source: "+want+"$", r.Problems[0])
			assert.Empty(t, r.Differences)
		}
	}
	_, err = metalcast.Verify(t.Context(), src, dst, metalcast.VerifyOptions{})
	require.NoError(t, err)
}

// Another model of the same shapes has the same headers. If both are of the hub the record knows
// that too; else so much differs that the comparison ends, and says why.
func TestVerifyWithAModelOfTheSameShapes(t *testing.T) {
	needtest.Alone(t)
	hub := t.TempDir()
	snapshot := func(name string, seed uint64) string {
		dir := filepath.Join(hub, "models--org--"+name, "snapshots", "0123")
		require.NoError(t, os.MkdirAll(filepath.Dir(dir), 0o755))
		_, err := synth.Write(t.Context(), dir, synth.Options{Family: "deepseek_v3", Seed: seed, Experts: 32, Hidden: 128, Intermediate: 64})
		require.NoError(t, err)
		return dir
	}
	base, tuned := snapshot("base", 1), snapshot("tuned", 2)
	dst := filepath.Join(t.TempDir(), "dst")
	_, err := metalcast.Convert(t.Context(), base, dst, metalcast.Options{})
	require.NoError(t, err)
	r, err := metalcast.Verify(t.Context(), tuned, dst, metalcast.VerifyOptions{})
	require.ErrorIs(t, err, metalcast.ErrMismatch)
	assert.Equal(t, []string{"metalcast.json: says that this was made from another source: " + tuned + " is org/tuned; it was org/base at 0123"}, r.Problems)

	moved := filepath.Join(t.TempDir(), "moved") // of no known origin
	require.NoError(t, os.Rename(tuned, moved))
	r, err = metalcast.Verify(t.Context(), moved, dst, metalcast.VerifyOptions{})
	require.ErrorIs(t, err, metalcast.ErrMismatch)
	assert.True(t, r.EndedEarly)
	assert.Len(t, r.Differences, 100)
	assert.Less(t, r.Bytes, r.DataBytes)
	assert.Contains(t, err.Error(), "at which the comparison ended")
	assert.Equal(t, "where so much differs "+moved+" is rather another model of the same shapes than the one it was made from", metalcast.Hint(err))
}

// A shard that is missing is one problem, and the others are compared.
func TestVerifyWithoutAShard(t *testing.T) {
	src, _ := Synthetic(t, synth.Options{Family: "qwen3_moe", Layers: 2})
	dst := filepath.Join(t.TempDir(), "dst")
	_, err := metalcast.Convert(t.Context(), src, dst, metalcast.Options{MaxShardSize: 1 << 20})
	require.NoError(t, err)
	shards, err := filepath.Glob(filepath.Join(dst, "*.safetensors"))
	require.NoError(t, err)
	require.Greater(t, len(shards), 1)
	require.NoError(t, os.Remove(shards[0]))
	b, err := os.ReadFile(shards[1])
	require.NoError(t, err)
	b[len(b)-1] ^= 1
	require.NoError(t, os.WriteFile(shards[1], b, 0o644))
	r, err := metalcast.Verify(t.Context(), src, dst, metalcast.VerifyOptions{})
	require.ErrorIs(t, err, metalcast.ErrMismatch)
	assert.Equal(t, []string{filepath.Base(shards[0]) + ": is missing"}, r.Problems)
	require.Len(t, r.Differences, 1)
	assert.Equal(t, filepath.Base(shards[1]), r.Differences[0].Shard)
}

func TestVerifyOfASample(t *testing.T) {
	src := RandomMoe(4, 512, 512, 1).Write(t)
	dst := filepath.Join(t.TempDir(), "dst")
	_, err := metalcast.Convert(t.Context(), src, dst, metalcast.Options{})
	require.NoError(t, err)
	all, err := metalcast.Verify(t.Context(), src, dst, metalcast.VerifyOptions{MaxMemory: 30 << 20})
	require.NoError(t, err)
	require.Equal(t, all.DataBytes, all.Bytes)
	for _, want := range []float64{0.001, 0.1, 0.5} {
		part, err := metalcast.Verify(t.Context(), src, dst, metalcast.VerifyOptions{MaxMemory: 30 << 20, Sample: want})
		require.NoError(t, err)
		got := float64(part.Bytes) / float64(part.DataBytes)
		assert.True(t, want <= got && got < want+0.1, "%v of %v", got, want)
	}
	_, err = metalcast.Verify(t.Context(), src, dst, metalcast.VerifyOptions{Sample: 2})
	require.ErrorIs(t, err, metalcast.ErrUsage)
	_, err = metalcast.Verify(t.Context(), src, src, metalcast.VerifyOptions{})
	require.ErrorContains(t, err, "metalcast.json: there is none")
}

// A record that two readers could take for different ones is no record.
func TestVerifyReadsTheRecordStrictly(t *testing.T) {
	src, dst := Moe(2).Write(t), filepath.Join(t.TempDir(), "dst")
	_, err := metalcast.Convert(t.Context(), src, dst, metalcast.Options{})
	require.NoError(t, err)
	name := filepath.Join(dst, "metalcast.json")
	sound, err := os.ReadFile(name)
	require.NoError(t, err)
	for _, change := range [][2]string{
		{`"options":`, `"metalcast": "0.1.0", "options":`}, {`"layout":`, `"layout": "mlx", "layout":`}, {`"options":`, `"Options":`}, {`"layout":`, `"unknown": 1, "layout":`},
		{`"options":`, `"repo": NaN, "options":`}, {`"stacked"`, "\"stacked\xFF\""}, {"{", "\xEF\xBB\xBF{"},
	} {
		record := strings.Replace(string(sound), change[0], change[1], 1)
		require.NotEqual(t, string(sound), record)
		require.NoError(t, os.WriteFile(name, []byte(record), 0o644))
		_, err = metalcast.Verify(t.Context(), src, dst, metalcast.VerifyOptions{})
		require.ErrorIs(t, err, metalcast.ErrCorrupt, change[1])
		require.ErrorContains(t, err, "metalcast.json")
	}
	require.NoError(t, os.WriteFile(name, append(sound, '{', '}'), 0o644))
	_, err = metalcast.Verify(t.Context(), src, dst, metalcast.VerifyOptions{})
	require.ErrorIs(t, err, metalcast.ErrCorrupt)
}
