package synth

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/fnv"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/newdir"
)

// tree hashes every file of a directory.
func tree(t *testing.T, dir string) map[string]uint64 {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	sums := map[string]uint64{}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		h := fnv.New64a()
		h.Write(text)
		sums[e.Name()] = h.Sum64()
	}
	return sums
}

func TestSameSeedSameBytes(t *testing.T) {
	o := Options{Layers: 4, Experts: 8, MTP: true, Seed: 7}
	want := tree(t, write(t, o).Dir)
	old := runtime.GOMAXPROCS(1)
	one := tree(t, write(t, o).Dir)
	runtime.GOMAXPROCS(old)
	assert.Equal(t, want, one, "on one processor")

	o.Seed = 8
	other := tree(t, write(t, o).Dir)
	assert.NotEqual(t, want["model-00001-of-00004.safetensors"], other["model-00001-of-00004.safetensors"])
	assert.Equal(t, want["config.json"], other["config.json"])
}

// A tensor's data does not depend on its shard.
func TestShardsDoNotChangeData(t *testing.T) {
	o := Options{Layers: 1, Experts: 4}
	four := write(t, o)
	o.Shards = 1
	assert.Equal(t, four.data, write(t, o).data)
}

// The bytes are the same on every machine and in every version. These were computed independently,
// from the definitions of FNV-1a and PCG-DXSM.
func TestGolden(t *testing.T) {
	for k, want := range map[kind][]byte{
		expert:    {0x12, 0xA9, 0x1D, 0x48, 0xD7, 0x10, 0x41, 0x16, 0x9D, 0xA3},
		scale:     {0x82, 0x39, 0xE4, 0x39, 0xC2, 0x39, 0xC5, 0x39, 0x7D, 0x39},
		gatedNorm: {0x2A, 0x36, 0x87, 0x3F, 0xB5, 0x39, 0x82, 0x3F, 0x21, 0x7B},
	} {
		x := &tensor{kind: k}
		x.Name, x.DType = "golden", kinds[k].dtype
		got := make([]byte, 10)
		newContent(1, x).fill(got)
		assert.Equal(t, want, got, "kind %d", k)
	}
}

func TestNumbers(t *testing.T) {
	c := write(t, Options{Layers: 4, Experts: 32, Seed: 3})
	var codes [256]int
	seen := map[string]string{}
	for name, x := range c.tensors {
		data := c.data[name]
		switch {
		case x.DType == dtype.F8E4M3:
			for _, b := range data {
				codes[b]++
			}
			assert.Empty(t, seen[string(data)], "%s has the data of another matrix", name)
			seen[string(data)] = name
		case isScale(name):
			for v := range values(x.DType, data) {
				assert.True(t, v >= 1.9e-4 && v <= 5.1e-4, "%s: %g", name, v)
			}
		default:
			for v := range values(x.DType, data) {
				assert.True(t, math.Abs(v) < 7, "%s: %g", name, v)
			}
		}
	}
	for b, n := range codes {
		assert.Equal(t, b != 0x7F && b != 0xFF, n > 0, "code %#02x occurs %d times", b, n)
	}
	for v := range values(dtype.F32, c.data["model.language_model.layers.0.linear_attn.norm.weight"]) {
		assert.InDelta(t, 1, v, 0.11)
	}
	for v := range values(dtype.BF16, c.data["model.language_model.norm.weight"]) {
		assert.InDelta(t, 0, v, 0.11)
	}
}

// values decodes BF16 or F32 data.
func values(d dtype.DType, data []byte) func(yield func(float64) bool) {
	return func(yield func(float64) bool) {
		for len(data) > 0 {
			var bits uint32
			if d == dtype.F32 {
				bits = binary.LittleEndian.Uint32(data)
			} else {
				bits = uint32(binary.LittleEndian.Uint16(data)) << 16
			}
			if !yield(float64(math.Float32frombits(bits))) {
				return
			}
			data = data[d.Size():]
		}
	}
}

func TestWithoutNaN(t *testing.T) {
	for b := range 256 {
		want := byte(b)
		if b&0x7F == 0x7F {
			want = byte(b) & 0x80
		}
		for at := range 8 {
			for _, around := range []byte{0x00, 0x7E, 0x80, 0xFE} {
				in := bytes.Repeat([]byte{around}, 8)
				in[at] = byte(b)
				out := make([]byte, 8)
				binary.LittleEndian.PutUint64(out, withoutNaN(binary.LittleEndian.Uint64(in)))
				in[at] = want
				require.Equal(t, in, out)
			}
		}
	}
}

func TestExistingDestinations(t *testing.T) {
	o := Options{Layers: 1, Experts: 2}
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	require.NoError(t, os.Mkdir(empty, 0o755))
	_, err := Write(t.Context(), empty, o)
	require.NoError(t, err)
	before := tree(t, empty)

	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, []byte("x"), 0o644))
	interrupted := filepath.Join(dir, "interrupted")
	require.NoError(t, os.Mkdir(interrupted+".partial", 0o755))
	for _, dst := range []string{empty, file, interrupted} {
		_, err := Write(t.Context(), dst, o)
		assert.ErrorContains(t, err, "exists", dst)
		assert.NotEmpty(t, fault.Hint(err))
	}
	assert.Equal(t, before, tree(t, empty))
	assert.DirExists(t, interrupted+".partial")

	_, err = Write(t.Context(), filepath.Join(dir, "absent", "made"), o)
	assert.ErrorContains(t, err, "no such directory")
	assert.NotEmpty(t, fault.Hint(err))
}

func TestCancellationLeavesNothing(t *testing.T) {
	for name, o := range map[string]Options{
		"before": {Layers: 1, Experts: 2},
		"while":  {Size: 100e6},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if name == "before" {
				cancel()
			}
			o.Progress = func(done, total int64) {
				assert.LessOrEqual(t, done, total)
				if done > total/2 {
					cancel()
				}
			}
			_, err := Write(ctx, filepath.Join(dir, "made"), o)
			require.ErrorIs(t, err, context.Canceled)
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			assert.Empty(t, entries)
		})
	}
}

func TestFailureLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	err := inNewDir(filepath.Join(dir, "made"), func(partial string) error {
		require.NoError(t, os.WriteFile(filepath.Join(partial, "x"), nil, 0o644))
		return newdir.Explain("x", os.ErrPermission)
	})
	require.ErrorIs(t, err, os.ErrPermission)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, entries)
}

func TestProgressReachesTheTotal(t *testing.T) {
	var last, whole int64
	o := Options{Layers: 4, Experts: 2, Progress: func(done, total int64) { last, whole = done, total }}
	s, err := Write(t.Context(), filepath.Join(t.TempDir(), "made"), o)
	require.NoError(t, err)
	assert.Equal(t, s.Bytes, last)
	assert.Equal(t, s.Bytes, whole)
}

func BenchmarkFill(b *testing.B) {
	for _, k := range []kind{expert, matrix, decay} {
		x := &tensor{kind: k}
		x.DType = kinds[k].dtype
		b.Run(x.DType.String(), func(b *testing.B) {
			c, p := newContent(1, x), make([]byte, chunk)
			b.SetBytes(chunk)
			for b.Loop() {
				c.fill(p)
			}
		})
	}
}
