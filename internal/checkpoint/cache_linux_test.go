package checkpoint_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/metalcast/metalcast/internal/checkpoint"
	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
	"github.com/metalcast/metalcast/internal/needtest"
)

func TestReadingLeavesTheCacheAsItWas(t *testing.T) {
	c := &Checkpoint{Files: map[string]string{"config.json": `{"model_type":"x"}`}, Shards: map[string][]Tensor{
		"model.safetensors": {{Name: "a", DType: "U8", Shape: []int{8 << 20}}}}}
	dir := c.Write(t)
	f, err := os.Open(filepath.Join(dir, "model.safetensors"))
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.Sync())
	evict := func() { require.NoError(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)) }
	evict()
	if needtest.CachedPages(t, f, 0, 0) > 100 {
		needtest.Skip(t, "cachestat", "this system caches all of this directory")
	}
	v, err := checkpoint.Open(t.Context(), dir)
	require.NoError(t, err)
	read := func() {
		s, err := v.OpenSource()
		require.NoError(t, err)
		defer s.Close()
		p := make([]byte, 1<<20)
		for off := int64(1 << 10); off < 7<<20; off += 1 << 20 {
			require.NoError(t, s.ReadAt(0, p, off))
			s.Forget(0, off, 1<<20)
		}
	}
	evict()
	read()
	assert.Less(t, needtest.CachedPages(t, f, 0, 0), 8<<20/os.Getpagesize()/4, "what was not cached is not afterwards")
	_, err = os.ReadFile(filepath.Join(dir, "model.safetensors"))
	require.NoError(t, err)
	read()
	assert.Greater(t, needtest.CachedPages(t, f, 0, 0), 8<<20/os.Getpagesize()*3/4, "what was cached still is")
}
