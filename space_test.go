package metalcast

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/needtest"
)

// under has a test run by another system's rules.
func under(t *testing.T, r spaceRules) {
	t.Helper()
	old := rules
	t.Cleanup(func() { rules = old })
	rules = r
}

// here is the space of a new directory.
func here(t *testing.T) (dir string, s space) {
	t.Helper()
	dir = t.TempDir()
	s, err := spaceAt(filepath.Join(dir, "dst"))
	require.NoError(t, err)
	return dir, s
}

// A system keeps free the smaller of 5 GB and a fiftieth on a Mac, nothing elsewhere; where more may be freed on demand, only what exceeds the whole disk is refused.
func TestSpaceRules(t *testing.T) {
	const gb = int64(1e9)
	mac, other := rulesOf("darwin"), rulesOf("linux")
	for _, tt := range []struct {
		rules  spaceRules
		s      space
		need   int64
		refuse bool
		maybe  bool
	}{
		{other, space{100 * gb, 500 * gb, "ext4"}, 100 * gb, false, false},
		{other, space{100 * gb, 500 * gb, "apfs"}, 100*gb + 1, true, false},
		{mac, space{100 * gb, 500 * gb, "apfs"}, 95 * gb, false, false},
		{mac, space{100 * gb, 500 * gb, "apfs"}, 95*gb + 1, true, true},
		{mac, space{100 * gb, 500 * gb, "exfat"}, 95*gb + 1, true, false}, // nothing can be freed there
		{mac, space{100 * gb, 500 * gb, "apfs"}, 495 * gb, true, true},
		{mac, space{100 * gb, 500 * gb, "apfs"}, 495*gb + 1, true, false}, // whatever is freed
		{mac, space{20 * gb, 100 * gb, "apfs"}, 18 * gb, false, false},
		{mac, space{20 * gb, 100 * gb, "apfs"}, 18*gb + 1, true, true},
		{mac, space{1 * gb, 100 * gb, "apfs"}, 0, true, true},
	} {
		maybe, err := tt.rules.refuse("/dst", tt.need, tt.s)
		assert.Equal(t, tt.refuse, err != nil, "%+v", tt)
		assert.Equal(t, tt.maybe, maybe, "%+v", tt)
	}
	_, err := mac.refuse("/dst", 100*gb, space{100 * gb, 500 * gb, "apfs"})
	assert.EqualError(t, err, "/dst: 93 GiB (100000000000 bytes) are needed, 93 GiB (100000000000 bytes) are free, of which 4.7 GiB (5000000000 bytes) stay free for swap files")
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

// What is larger than the whole disk is refused everywhere, before anything is written. In float32 the output is four times the source, which is a file of holes
// that a disk with a quarter free takes.
func TestConvertRefusesATooSmallDisk(t *testing.T) {
	dir, s := here(t)
	src := tiny(t, s.total/4>>20+1)
	dst := filepath.Join(dir, "dst")
	for _, goos := range []string{"linux", "darwin"} {
		under(t, rulesOf(goos))
		rules.purgeable = append(rules.purgeable, s.fstype) // as if more could be freed
		if goos == "linux" {
			rules.purgeable = nil
		}
		_, err := Convert(t.Context(), src, dst, Options{DType: "float32", Device: "cpu"})
		require.ErrorIs(t, err, ErrNoSpace)
		assert.Regexp(t, `dst: .* \(\d+ bytes\) are needed, [^:]* are free`, err.Error())
		assert.NotEmpty(t, Hint(err))
		assert.NoDirExists(t, dst+".partial")
	}
}

// On a Mac an output that has its room and leaves less than the reserve is removed again, unless --ignore-space says otherwise.
func TestConvertKeepsAReserve(t *testing.T) {
	dir, s := here(t)
	src, dst := tiny(t, 1), filepath.Join(dir, "dst")
	if s.total-s.free < 64<<20 {
		needtest.Skip(t, "system", "all of this disk is free")
	}
	var warnings []string
	o := Options{Device: "cpu", Warn: func(m string) { warnings = append(warnings, m) }}
	under(t, spaceRules{purgeable: []string{s.fstype}, reserve: s.free + (s.total-s.free)/2, part: 1})
	_, err := Convert(t.Context(), src, dst, o)
	require.ErrorIs(t, err, ErrNoSpace)
	assert.Regexp(t, `dst: .* are left free beside the output, .* stay free for swap files`, err.Error())
	assert.Contains(t, Hint(err), "--ignore-space")
	require.Len(t, warnings, 1)
	assert.True(t, strings.HasSuffix(warnings[0], "; macOS may free more"), warnings[0])
	assert.NoDirExists(t, dst+".partial")
	warnings, o.IgnoreSpace = nil, true
	_, err = Convert(t.Context(), src, dst, o)
	require.NoError(t, err)
	assert.Empty(t, warnings)
}
