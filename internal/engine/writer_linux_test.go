package engine

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/metalcast/metalcast/internal/needtest"
)

// A long run goes past the page cache, however its ends lie, unless it lies in memory otherwise than in the file or the file system refuses; its bytes are the same.
func TestWriterWritesLongRunsPastTheCache(t *testing.T) {
	mem, err := unix.Mmap(-1, 0, longRun+chunk+block, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	require.NoError(t, err)
	defer func() { assert.NoError(t, unix.Munmap(mem)) }()
	_, _ = rand.NewChaCha8([32]byte{2}).Read(mem)
	for _, tt := range []struct {
		name    string
		at, off int // in memory and in the file
		n       int
		refused bool
		direct  bool
	}{
		{"blocks", 0, 8192, longRun + chunk, false, true},
		{"a block more", 0, 0, longRun + block, false, true},
		{"odd ends", 16, 4096 + 16, longRun + 5, false, true},
		{"the least", 4095, 4095, longRun, false, true},
		{"short", 0, 0, longRun - 1, false, false},
		{"lies otherwise in memory", 8, 4096 + 16, longRun, false, false},
		{"refused", 16, 4096 + 16, longRun, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, size := create(t, longRun+2*chunk)
			w := writer{refused: tt.refused}
			n, err := w.write(f, mem[tt.at:tt.at+tt.n], int64(tt.off))
			require.NoError(t, err)
			assert.Equal(t, tt.n, n)
			assert.Equal(t, tt.refused, w.refused)
			if tt.direct {
				first := (tt.off + block - 1) &^ (block - 1)
				assert.Zero(t, needtest.CachedPages(t, f, first, (tt.off+tt.n)&^(block-1)-first), "whole blocks are not in the page cache")
			} else {
				assert.Positive(t, needtest.CachedPages(t, f, 0, size))
			}
			want := make([]byte, size)
			copy(want[tt.off:], mem[tt.at:tt.at+tt.n])
			got, err := os.ReadFile(f.Name())
			require.NoError(t, err)
			assert.True(t, bytes.Equal(want, got))
			n, err = w.write(f, []byte("odd"), 1)
			require.NoError(t, err, "what is short is buffered again")
			assert.Equal(t, 3, n)
		})
	}
}

// A file that cannot be written to directly says so when asked, or when it is written to.
func TestWriterGoesOnWhereDirectWritesAreRefused(t *testing.T) {
	mem, err := unix.Mmap(-1, 0, longRun+2*block, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	require.NoError(t, err)
	defer func() { assert.NoError(t, unix.Munmap(mem)) }()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer null.Close()
	var w writer
	n, err := w.write(null, mem[5:], 5)
	require.NoError(t, err)
	assert.Equal(t, len(mem)-5, n)
	assert.True(t, w.refused)
	assert.EqualValues(t, longRun, w.pacer.flight, "all of it is written otherwise")
	assert.EqualValues(t, block, w.pacer.queue[0].off)

	f, _ := create(t, longRun+2*block)
	require.ErrorIs(t, writeDirect(f, mem[1:1+longRun], 1), unix.EINVAL)
	n, err = f.WriteAt(mem[1:4], 1)
	require.NoError(t, err, "the file is as before")
	assert.Equal(t, 3, n)
}

// create makes a file of a size on a file system that has direct writes.
func create(t *testing.T, size int) (*os.File, int) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "x"), os.O_RDWR|os.O_CREATE, 0o644)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	require.NoError(t, preallocate(f, int64(size)))
	d, err := os.OpenFile(f.Name(), os.O_RDWR|unix.O_DIRECT, 0)
	if err == nil {
		mem, mapErr := unix.Mmap(-1, 0, block, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		require.NoError(t, mapErr)
		_, err = d.WriteAt(mem, 0)
		require.NoError(t, unix.Munmap(mem))
		require.NoError(t, d.Close())
	}
	if err != nil || needtest.CachedPages(t, f, 0, block) > 0 {
		needtest.Skip(t, "directio", "the temporary directory's file system has no writes past the page cache: %v", err)
	}
	return f, size
}
