package engine

import (
	"bytes"
	"fmt"
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
				assert.Zero(t, cachedPages(t, f, first, (tt.off+tt.n)&^(block-1)-first), "whole blocks are not in the page cache")
			} else {
				assert.Positive(t, cachedPages(t, f, 0, size))
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
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &st); err != nil || st.Dio_offset_align == 0 || st.Dio_offset_align > block {
		needtest.Skip(t, "directio", "the temporary directory's file system has no direct writes: %s", fmt.Sprint(err, st.Dio_offset_align))
	}
	return f, size
}

func cachedPages(t *testing.T, f *os.File, off, n int) int {
	t.Helper()
	var s unix.Cachestat_t
	if err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{Off: uint64(off), Len: uint64(n)}, &s, 0); err != nil {
		needtest.Skip(t, "directio", "the system does not tell what the page cache has: %v", err)
	}
	return int(s.Cache)
}
