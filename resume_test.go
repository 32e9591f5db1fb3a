package metalcast_test

import (
	"bytes"
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast"
	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/metalcast/metalcast/internal/synth"
	"github.com/metalcast/metalcast/internal/temptest"
)

// manyWindows makes small windows, and a checkpoint after each few of them.
var manyWindows = metalcast.Options{MaxMemory: 30 << 20, CheckpointEvery: 200 << 10, Device: "cpu"}

// cut converts src into dst and ends the run once the given part of it is done.
func cut(t *testing.T, src, dst string, o metalcast.Options, part float64) error {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	o.Progress = func(_ string, done, total int64) {
		if float64(done) >= part*float64(total) {
			cancel()
		}
	}
	_, err := metalcast.Convert(ctx, src, dst, o)
	require.ErrorIs(t, err, context.Canceled)
	return err
}

func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	m := map[string][]byte{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			var b []byte
			b, err = os.ReadFile(path)
			m[strings.TrimPrefix(path, dir)] = b
		}
		return err
	}))
	return m
}

func sameFiles(t *testing.T, want, got string) {
	t.Helper()
	a, b := files(t, want), files(t, got)
	require.Len(t, b, len(a))
	for name := range a {
		require.True(t, bytes.Equal(a[name], b[name]), name)
	}
}

func TestConvertGoesOnWhereItWasCut(t *testing.T) {
	src := RandomMoe(4, 512, 512, 1).Write(t)
	whole := filepath.Join(t.TempDir(), "whole")
	_, err := metalcast.Convert(t.Context(), src, whole, metalcast.Options{})
	require.NoError(t, err)
	for _, part := range []float64{0.1, 0.5, 0.99, 1} {
		dst := filepath.Join(temptest.Dir(t), "dst")
		err := cut(t, src, dst, manyWindows, part)
		var kept *metalcast.Interrupted
		require.ErrorAs(t, err, &kept)
		assert.Equal(t, dst+".partial", kept.Partial)
		assert.NoDirExists(t, dst)

		o := manyWindows
		o.MaxMemory, o.Verify = 100<<20, true // what bytes do not depend on may be another
		var first int64 = -1
		o.Progress = func(phase string, done, _ int64) {
			if first < 0 {
				first = done
			}
		}
		r, err := metalcast.Convert(t.Context(), src, dst, o)
		require.NoError(t, err)
		assert.True(t, r.Resumed)
		assert.Positive(t, first, "what was done is not done again")
		sameFiles(t, whole, dst)
		assert.NoDirExists(t, dst+".partial")
	}
}

func TestConvertRefusesToGoOnWithSomethingElse(t *testing.T) {
	c := RandomMoe(4, 512, 512, 1)
	src := c.Write(t)
	dst := filepath.Join(t.TempDir(), "dst")
	require.Error(t, cut(t, src, dst, manyWindows, 0.5))
	for _, test := range []struct {
		want   string
		change func(o *metalcast.Options)
	}{
		{"--layout was stacked and is per-expert now", func(o *metalcast.Options) { o.Layout = "per-expert" }},
		{"--dtype was not given and is float16 now", func(o *metalcast.Options) { o.DType = "float16" }},
		{"--max-shard-size was 5368709120 and is 1048576 now", func(o *metalcast.Options) { o.MaxShardSize = 1 << 20 }},
		{"-q was not given and is now", func(o *metalcast.Options) { o.Quantize = &metalcast.Quantize{} }},
		{"a shard of the source was written since then", nil},
	} {
		o := manyWindows
		if test.change != nil {
			test.change(&o)
		} else {
			require.NoError(t, os.Chtimes(filepath.Join(src, "model.safetensors"), time.Time{}, time.Now().Add(time.Hour)))
		}
		_, err := metalcast.Convert(t.Context(), src, dst, o)
		require.ErrorContains(t, err, "dst.partial: was left by an interrupted run that this one cannot resume: "+test.want)
		assert.Contains(t, metalcast.Hint(err), "--restart")
		assert.FileExists(t, filepath.Join(dst+".partial", "metalcast.journal"), "nothing is touched")
		if test.change == nil {
			o.Restart = true
			r, err := metalcast.Convert(t.Context(), src, dst, o)
			require.NoError(t, err)
			assert.False(t, r.Resumed)
		}
	}
}

func TestConvertSaysWhichQuantizationDiffers(t *testing.T) {
	src, dst := RandomMoe(4, 512, 512, 1).Write(t), filepath.Join(t.TempDir(), "dst")
	o := manyWindows
	o.Quantize = &metalcast.Quantize{}
	require.Error(t, cut(t, src, dst, o, 0.5))
	for want, quantize := range map[string]*metalcast.Quantize{
		"-q was given and is not now":          nil,
		"--q-bits was 4 and is 8 now":          {Bits: 8},
		"--q-group-size was 64 and is 32 now":  {GroupSize: 32},
		"--q-mode was affine and is mxfp4 now": {Mode: "mxfp4"},
		"what -q asks for is another now":      {Overrides: []string{"*.down_proj=8"}},
	} {
		o.Quantize = quantize
		_, err := metalcast.Convert(t.Context(), src, dst, o)
		require.Error(t, err, want)
		assert.Regexp(t, "cannot resume: "+want+"$", err.Error())
	}
}

// What a run had done by half is done again, and counted once.
func TestConvertCountsOnceWhatItDoesAgain(t *testing.T) {
	for name, test := range map[string]struct {
		source *Checkpoint
		option metalcast.Options
	}{
		"stacked":                             {RandomMoe(4, 512, 512, 1), metalcast.Options{}},
		"gate and up in one line, transposed": {llama4(t), metalcast.Options{}},
		"nvfp4":                               {RandomMoe(4, 512, 512, 1), metalcast.Options{Quantize: &metalcast.Quantize{Mode: "nvfp4"}}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, list := range test.source.Shards {
				for _, x := range list {
					for i := 0; x.DType == "F8_E4M3" && test.option.Quantize == nil && i < len(x.Data); i += 1000 {
						x.Data[i] = 0x7F
					}
				}
			}
			src := test.source.Write(t)
			o := test.option
			o.Device, o.KeepNaN = "cpu", true
			whole := filepath.Join(t.TempDir(), "whole")
			want, err := metalcast.Convert(t.Context(), src, whole, o)
			require.NoError(t, err)
			require.Positive(t, int64(len(want.Findings))+want.NVFP4Groups)
			o.MaxMemory, o.CheckpointEvery = manyWindows.MaxMemory, 1
			for part := 0.05; part < 1; part += 1 / float64(needtest.Rounds(2, 10)) {
				dst := filepath.Join(t.TempDir(), "dst")
				require.Error(t, cut(t, src, dst, o, part))
				again := o
				again.Verify = true
				got, err := metalcast.Convert(t.Context(), src, dst, again)
				require.NoError(t, err)
				assert.Equal(t, want.Findings, got.Findings, "cut at %v", part)
				assert.Equal(t, []int64{want.NVFP4Groups, want.NVFP4Zeroed, want.NVFP4Coarse}, []int64{got.NVFP4Groups, got.NVFP4Zeroed, got.NVFP4Coarse})
				sameFiles(t, whole, dst)
			}
		})
	}
}

// llama4 is a checkpoint whose gate and up fill the same lines of one transposed tensor.
func llama4(t *testing.T) *Checkpoint {
	dir, _ := Synthetic(t, synth.Options{Family: "llama4", Layers: 2, Hidden: 512, Intermediate: 512})
	config, err := os.ReadFile(filepath.Join(dir, "config.json"))
	require.NoError(t, err)
	tensors := DecodeDir(t, dir)
	var list []Tensor
	for _, name := range slices.Sorted(maps.Keys(tensors)) {
		list = append(list, tensors[name])
	}
	return &Checkpoint{Files: map[string]string{"config.json": string(config)}, Shards: map[string][]Tensor{"model.safetensors": list}}
}

// A run that was refused for NaN goes on once NaN is allowed, and its report counts them all.
func TestConvertGoesOnAfterNaN(t *testing.T) {
	c := RandomMoe(4, 512, 512, 1)
	w := c.Find("model.language_model.layers.0.mlp.experts.3.up_proj.weight")
	w.Data[len(w.Data)-1] = 0x7F
	early := c.Find("model.language_model.layers.0.mlp.experts.0.up_proj.weight")
	early.Data[0] = 0xFF
	src := c.Write(t)
	whole, dst := filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "dst")
	keep := manyWindows
	keep.KeepNaN = true
	_, err := metalcast.Convert(t.Context(), src, whole, keep)
	require.NoError(t, err)

	require.Error(t, cut(t, src, dst, keep, 0.5))
	_, err = metalcast.Convert(t.Context(), src, dst, manyWindows)
	require.ErrorIs(t, err, metalcast.ErrCorrupt)
	require.ErrorContains(t, err, "experts.3.up_proj.weight")
	r, err := metalcast.Convert(t.Context(), src, dst, keep)
	require.NoError(t, err)
	assert.True(t, r.Resumed)
	assert.Len(t, r.Findings, 2)
	sameFiles(t, whole, dst)
}
