package metal

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/mlxquant"
	"github.com/metalcast/metalcast/shaders"
)

// TestStructs holds the argument structs here and in the shader equal: the same fields in the same order, all of 32 bits.
func TestStructs(t *testing.T) {
	for name, ours := range map[string]any{"TableTile": tableTile{}, "ThinTile": thinTile{}, "PlainTile": plainTile{}, "QuantizeTile": quantizeTile{}, "Status": status{}} {
		body := regexp.MustCompile(`(?s)struct ` + name + ` \{(.*?)\n\};`).FindStringSubmatch(shaders.Convert.Text + shaders.Quantize.Text)
		require.NotNil(t, body, name)
		var theirs []string
		for _, m := range regexp.MustCompile(`(?m)^\s*(\w+)\s+(\w+);`).FindAllStringSubmatch(body[1], -1) {
			assert.Equal(t, "uint", m[1], "%s.%s", name, m[2])
			theirs = append(theirs, strings.ReplaceAll(m[2], "_", ""))
		}
		typ := reflect.TypeOf(ours)
		var fields []string
		for i := range typ.NumField() {
			f := typ.Field(i)
			assert.Equal(t, reflect.Uint32, f.Type.Kind(), "%s.%s", name, f.Name)
			assert.EqualValues(t, 4*i, f.Offset)
			fields = append(fields, strings.ToLower(f.Name))
		}
		assert.Equal(t, theirs, fields, name)
		assert.EqualValues(t, 4*len(theirs), typ.Size())
	}
}

// The constants that host and kernels share.
func TestConstants(t *testing.T) {
	for _, text := range []string{
		"constant uint kDone = 0x600D600Du;", "constant uint kMetScale = 1u;", "constant uint kMetOverflow = 2u;", "constant uint kMetNaN = 4u;", "constant uint kMetGroup = 8u;",
		"constant uint kAffine = 0u;", "constant uint kMXFP4 = 1u;", "constant uint kMXFP8 = 2u;", "constant uint kNVFP4 = 3u;",
		"constant uint kBF16 = 0u;", "constant uint kF16 = 1u;", "constant uint kF32 = 2u;",
	} {
		assert.Contains(t, shaders.Convert.Text+shaders.Quantize.Text, text)
	}
	assert.EqualValues(t, 0x600D600D, kDone)
	assert.Equal(t, []int{1, 2, 4, 8}, []int{kMetScale, kMetOverflow, kMetNaN, kMetGroup})
	assert.Equal(t, []mlxquant.Mode{0, 1, 2, 3}, []mlxquant.Mode{mlxquant.Affine, mlxquant.MXFP4, mlxquant.MXFP8, mlxquant.NVFP4})
	assert.Equal(t, []mlxquant.Profile{0, 1}, []mlxquant.Profile{mlxquant.Metal, mlxquant.CPU})
	assert.Equal(t, map[dtype.DType]uint32{dtype.BF16: 0, dtype.F16: 1, dtype.F32: 2}, kTo)
}
