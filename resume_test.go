package metalcast_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast"
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
	src := randomMoe(4, 512, 512, 1).Write(t)
	whole := filepath.Join(t.TempDir(), "whole")
	_, err := metalcast.Convert(t.Context(), src, whole, metalcast.Options{})
	require.NoError(t, err)
	for _, part := range []float64{0.1, 0.5, 0.99, 1} {
		dst := filepath.Join(t.TempDir(), "dst")
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
	c := randomMoe(4, 512, 512, 1)
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
		{"--layout was stacked and is mlx now", func(o *metalcast.Options) { o.Quantize = &metalcast.Quantize{} }},
		{"the time at which a shard of the source was written is another", nil},
	} {
		o := manyWindows
		if test.change != nil {
			test.change(&o)
		} else {
			require.NoError(t, os.Chtimes(filepath.Join(src, "model.safetensors"), time.Time{}, time.Now().Add(time.Hour)))
		}
		_, err := metalcast.Convert(t.Context(), src, dst, o)
		require.ErrorContains(t, err, "dst.partial: was left by an interrupted run that this one cannot go on with: "+test.want)
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

// A run that was refused for NaN goes on once NaN is allowed, and its report counts them all.
func TestConvertGoesOnAfterNaN(t *testing.T) {
	c := randomMoe(4, 512, 512, 1)
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
