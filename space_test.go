package metalcast_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast"
	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/metalcast/metalcast/internal/space"
)

// under has a test run by another system's rules.
func under(t *testing.T, r space.Rules) {
	t.Helper()
	old := space.System
	t.Cleanup(func() { space.System = old })
	space.System = r
}

// here is the space of a new directory.
func here(t *testing.T) (dir string, s space.Disk) {
	t.Helper()
	dir = t.TempDir()
	s, err := space.Of(filepath.Join(dir, "dst"))
	require.NoError(t, err)
	return dir, s
}

// tiny writes a checkpoint of one weight; without its bytes, where rows are many.
func tiny(t *testing.T, rows int64) (src string) {
	t.Helper()
	src = t.TempDir()
	const cols = 1 << 20
	weights, scales := rows*cols, (rows+127)/128*(cols/128)*4
	header := fmt.Sprintf(`{"huge.weight":{"dtype":"F8_E4M3","shape":[%d,%d],"data_offsets":[0,%d]},`+
		`"huge.weight_scale_inv":{"dtype":"F32","shape":[%d,%d],"data_offsets":[%d,%d]}}`, rows, cols, weights, (rows+127)/128, cols/128, weights, weights+scales)
	path := filepath.Join(src, "model.safetensors")
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	require.NoError(t, os.WriteFile(path, append(b, header...), 0o644))
	if err := os.Truncate(path, int64(8+len(header))+weights+scales); err != nil {
		needtest.Skip(t, "system", "this file system has no sparse files of %d bytes: %v", weights, err)
	}
	require.NoError(t, os.WriteFile(filepath.Join(src, "config.json"), []byte(`{"model_type":"x"}`), 0o644))
	return src
}

// What is larger than the whole disk is refused everywhere, before anything is written. In float32
// the output is four times the source, which is a file of holes that a disk with a quarter free
// takes.
func TestConvertRefusesATooSmallDisk(t *testing.T) {
	dir, s := here(t)
	src := tiny(t, s.Total/4>>20+1)
	dst := filepath.Join(dir, "dst")
	for _, goos := range []string{"linux", "darwin"} {
		under(t, space.For(goos))
		space.System.Purgeable = append(space.System.Purgeable, s.Type) // as if more could be freed
		if goos == "linux" {
			space.System.Purgeable = nil
		}
		_, err := metalcast.Convert(t.Context(), src, dst, metalcast.Options{DType: "float32", Device: "cpu"})
		require.ErrorIs(t, err, metalcast.ErrNoSpace)
		assert.Regexp(t, `dst: .* \(\d+ bytes\) are needed, [^:]* are free`, err.Error())
		assert.NotEmpty(t, metalcast.Hint(err))
		assert.NoDirExists(t, dst+".partial")
	}
}

// On a Mac an output that has its room and leaves less than the reserve is removed again, unless
// --ignore-space says otherwise.
func TestConvertKeepsAReserve(t *testing.T) {
	dir, s := here(t)
	src, dst := tiny(t, 1), filepath.Join(dir, "dst")
	if s.Total-s.Free < 64<<20 {
		needtest.Skip(t, "system", "all of this disk is free")
	}
	var warnings []string
	o := metalcast.Options{Device: "cpu", Warn: func(m string) { warnings = append(warnings, m) }}
	under(t, space.Rules{Purgeable: []string{s.Type}, Reserve: s.Free + (s.Total-s.Free)/2, Part: 1})
	_, err := metalcast.Convert(t.Context(), src, dst, o)
	require.ErrorIs(t, err, metalcast.ErrNoSpace)
	assert.Regexp(t, `dst: .* are left free beside the output, .* stay free for swap files`, err.Error())
	assert.Contains(t, metalcast.Hint(err), "--ignore-space")
	require.Len(t, warnings, 1)
	assert.True(t, strings.HasSuffix(warnings[0], "; macOS may free more"), warnings[0])
	assert.NoDirExists(t, dst+".partial")
	warnings, o.IgnoreSpace = nil, true
	_, err = metalcast.Convert(t.Context(), src, dst, o)
	require.NoError(t, err)
	assert.Empty(t, warnings)
}
