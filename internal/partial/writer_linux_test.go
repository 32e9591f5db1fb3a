package partial

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/needtest"
)

// Long extents bypass the page cache, wherever their ends are, unless they are aligned differently
// in memory than in the file or the file system refuses; the bytes are the same.
func TestWriterWritesLongRunsPastTheCache(t *testing.T) {
	const size = 4*engine.LongRun + 2*chunk
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	require.NoError(t, err)
	defer func() { assert.NoError(t, unix.Munmap(mem)) }()
	_, _ = rand.NewChaCha8([32]byte{2}).Read(mem)
	type extent struct {
		at, off int // in memory and in the file
		n       int
		direct  bool
	}
	for _, tt := range []struct {
		name    string
		refused bool
		extents []extent
	}{
		{"blocks", false, []extent{{0, 8192, engine.LongRun + chunk, true}}},
		{"a block more", false, []extent{{0, 0, engine.LongRun + block, true}}},
		{"odd ends", false, []extent{{16, 4096 + 16, engine.LongRun + 5, true}}},
		{"the least", false, []extent{{4095, 4095, engine.LongRun, true}}},
		{"short", false, []extent{{0, 0, engine.LongRun - 1, false}}},
		{"lies otherwise in memory", false, []extent{{8, 4096 + 16, engine.LongRun, false}}},
		{"refused", true, []extent{{16, 4096 + 16, engine.LongRun, false}}},
		{"several", false, []extent{
			{16, 4096 + 16, engine.LongRun + 5, true}, {2 * engine.LongRun, 3*engine.LongRun + 77, 1000, false}, {3 * engine.LongRun, 2 * engine.LongRun, engine.LongRun, true},
		}},
		{"several, refused", true, []extent{{16, 4096 + 16, engine.LongRun + 5, false}, {3 * engine.LongRun, 2 * engine.LongRun, engine.LongRun, false}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := create(t, size)
			want := make([]byte, size)
			var extents []engine.Extent
			for _, x := range tt.extents {
				extents = append(extents, engine.Extent{Off: int64(x.off), Data: mem[x.at : x.at+x.n]})
				copy(want[x.off:], mem[x.at:x.at+x.n])
			}
			w := writer{refused: tt.refused}
			require.NoError(t, w.write(f, extents))
			assert.Equal(t, tt.refused, w.refused)
			for _, x := range tt.extents {
				first := (x.off + block - 1) &^ (block - 1)
				whole := max((x.off+x.n)&^(block-1)-first, 0)
				if x.direct {
					assert.Zero(t, needtest.CachedPages(t, f, first, whole), "whole blocks are not in the page cache: %v", x)
				} else {
					assert.Positive(t, needtest.CachedPages(t, f, x.off, x.n), "%v", x)
				}
			}
			got, err := os.ReadFile(f.Name())
			require.NoError(t, err)
			assert.True(t, bytes.Equal(want, got))
			_, err = f.WriteAt([]byte("odd"), 1)
			require.NoError(t, err, "the file is as before")
		})
	}
}

// A file that cannot be written to directly says so when asked, or when it is written to.
func TestWriterGoesOnWhereDirectWritesAreRefused(t *testing.T) {
	mem, err := unix.Mmap(-1, 0, engine.LongRun+2*block, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	require.NoError(t, err)
	defer func() { assert.NoError(t, unix.Munmap(mem)) }()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer null.Close()
	var w writer
	require.NoError(t, w.write(null, []engine.Extent{{Off: 5, Data: mem[5:]}, {Off: 4 * engine.LongRun, Data: mem[:engine.LongRun]}}))
	assert.True(t, w.refused)
	assert.EqualValues(t, 2*engine.LongRun+block, w.pacer.flight, "all of it is written otherwise")
	assert.EqualValues(t, block, w.pacer.queue[0].off)

	f := create(t, engine.LongRun+2*block)
	refused, err := writeDirect(f, []engine.Extent{{Off: 1, Data: mem[1 : 1+engine.LongRun]}})
	if err == nil {
		needtest.Skip(t, "directio", "the temporary directory's file system writes anything directly")
	}
	require.ErrorIs(t, err, unix.EINVAL)
	assert.True(t, refused)
	_, err = f.WriteAt(mem[1:4], 1)
	require.NoError(t, err, "the file is as before")
}

// create makes a file of a size on a file system that has direct writes.
func create(t *testing.T, size int) *os.File {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "x"), os.O_RDWR|os.O_CREATE, 0o644)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	require.NoError(t, OS{}.preallocate(f, int64(size)))
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
	return f
}
