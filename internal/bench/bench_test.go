package bench

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/cpufallback"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/needtest"
)

// small is a suite of a few megabytes whose conversion makes a file twice the checkpoint's size.
func small(t *testing.T) *Suite {
	return &Suite{
		Dir: t.TempDir(), Size: 3 << 20,
		Implementations: []Implementation{{Name: "cpu, 2 workers", Threads: 2, Open: func() (kernel.Backend, error) { return cpufallback.New(2), nil }}},
		Write: func(_ context.Context, path string, data []byte, size int64) error {
			return os.WriteFile(path, data[:size], 0o600)
		},
		Checkpoint: func(_ context.Context, dst string, size int64) error {
			return errors.Join(os.Mkdir(dst, 0o700), os.WriteFile(filepath.Join(dst, "a.safetensors"), make([]byte, size/3), 0o600),
				os.WriteFile(filepath.Join(dst, "b.safetensors"), make([]byte, size/3*2), 0o600))
		},
		Convert: func(_ context.Context, src, dst string) (read, written int64, err error) {
			return 3 << 19, 3 << 20, errors.Join(os.Mkdir(dst, 0o700), os.WriteFile(filepath.Join(dst, "c"), make([]byte, 3<<20), 0o600))
		},
		Begin: func(string) {}, Each: func(Row) {},
	}
}

// What an implementation skips is not measured.
func TestSkip(t *testing.T) {
	s := small(t)
	s.Implementations[0].Skip = kernel.Quantize
	rows, err := s.Run(t.Context())
	require.NoError(t, err)
	for _, r := range rows {
		assert.NotContains(t, r.Name, "quantize")
	}
	assert.Len(t, rows, len(measured())-4+1+3+2)
}

func left(t *testing.T, s *Suite) (names []string) {
	entries, err := os.ReadDir(s.Dir)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestSuite(t *testing.T) {
	needtest.Alone(t)
	s := small(t)
	var told []Row
	s.Each = func(r Row) { told = append(told, r) }
	rows, err := s.Run(t.Context())
	require.NoError(t, err)
	assert.Equal(t, told, rows)
	assert.Empty(t, left(t, s))
	names := map[string]Row{}
	for _, r := range rows {
		names[r.Group+": "+r.Name] = r
		assert.Positive(t, r.Seconds, r)
		assert.Positive(t, r.Ratio, r)
		assert.NotEmpty(t, r.Reference, r)
		assert.InEpsilon(t, float64(r.Bytes)/1e9/r.Seconds, r.GBPerSecond, 1e-9)
	}
	assert.Len(t, rows, len(measured())+1+3+2)
	assert.EqualValues(t, 3*512*2048+512*2048/128/128*2, names["kernel: dequant F8_E4M3 128x128 BF16 -> BF16"].Bytes)
	assert.EqualValues(t, 512*2048+128+512*2048/2+2*2*512*2048/64, names["kernel: quantize F8_E4M3 128x128 BF16 -> BF16 -> affine 4/64 as metal"].Bytes)
	assert.EqualValues(t, 2*s.Size, names["disk: copy loop"].Bytes)
	assert.EqualValues(t, 9<<19, names["conversion: convert, FP8 to bfloat16"].Bytes)
	assert.InDelta(t, 1, names["conversion: copy loop"].Ratio, 0)
}

// However a run ends, nothing is left of it, and an interrupt is an interrupt whatever else went
// wrong.
func TestNothingIsLeft(t *testing.T) {
	broken := errors.New("broken")
	for name, spoil := range map[string]func(*Suite, context.CancelFunc){
		"no backend": func(s *Suite, _ context.CancelFunc) {
			s.Implementations[0].Open = func() (kernel.Backend, error) { return nil, broken }
		},
		"a failed synth": func(s *Suite, _ context.CancelFunc) {
			s.Checkpoint = func(context.Context, string, int64) error { return broken }
		},
		"a failed conversion": func(s *Suite, _ context.CancelFunc) {
			s.Convert = func(_ context.Context, _, dst string) (int64, int64, error) {
				return 0, 0, errors.Join(broken, os.Mkdir(dst+".partial", 0o700))
			}
		},
		"an interrupt before the disk": func(s *Suite, cancel context.CancelFunc) {
			s.Begin = func(what string) {
				if what == "disk" {
					cancel()
				}
			}
		},
		"an interrupted conversion": func(s *Suite, cancel context.CancelFunc) {
			s.Convert = func(_ context.Context, _, dst string) (int64, int64, error) {
				cancel()
				return 0, 0, errors.Join(context.Canceled, errors.New("kept"), os.Mkdir(dst+".partial", 0o700))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s := small(t)
			if name != "no backend" {
				s.Implementations = nil
			}
			spoil(s, cancel)
			rows, err := s.Run(ctx)
			assert.Empty(t, rows)
			if ctx.Err() != nil {
				require.EqualError(t, err, context.Canceled.Error())
			} else {
				require.ErrorIs(t, err, broken)
			}
			assert.Empty(t, left(t, s))
		})
	}
	t.Run("a panic", func(t *testing.T) {
		s := small(t)
		s.Implementations = nil
		s.Checkpoint = func(context.Context, string, int64) error { panic("a bug") }
		assert.Panics(t, func() { _, _ = s.Run(t.Context()) })
		assert.Empty(t, left(t, s))
	})
	t.Run("no such directory", func(t *testing.T) {
		s := small(t)
		s.Dir = filepath.Join(s.Dir, "none")
		_, err := s.Run(t.Context())
		require.ErrorIs(t, err, os.ErrNotExist)
	})
}

// The copy writes as many bytes as it is told to, whatever it reads.
func TestCopyFile(t *testing.T) {
	dir := t.TempDir()
	from := filepath.Join(dir, "from")
	require.NoError(t, os.WriteFile(from, make([]byte, 1000), 0o600))
	for _, size := range []int64{0, 1, 281, 1000, 1999, 2000, 4096} {
		to := filepath.Join(dir, "to")
		require.NoError(t, copyFile(t.Context(), from, to, size, make([]byte, 64)))
		st, err := os.Stat(to)
		require.NoError(t, err)
		assert.Equal(t, size, st.Size())
		require.NoError(t, os.Remove(to))
	}
}
