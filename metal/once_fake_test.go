//go:build fakemetal

package metal

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/emulator/probe"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/mlxquant"
	"github.com/metalcast/metalcast/shaders"
)

// What a group's codes are made with, divisions and all, is computed once for the group, not by each of its threads. A counter in the kernel's text shows it.
func TestAGroupIsFoundOnce(t *testing.T) {
	for _, name := range []string{"affine_group(", "mx_group(", "nv_group("} {
		assert.Equal(t, 2, strings.Count(shaders.Quantize.Text, name), "%s is defined and called once", name)
	}
	const call = "find_group<Source>(g, in, t,"
	require.Equal(t, 1, strings.Count(shaders.Quantize.Text, call))
	text := strings.Replace(shaders.Quantize.Text, call, "status.met += 1u; "+call, 1)
	for _, f := range []mlxquant.Format{mlxquant.Affine.Default(), {Mode: mlxquant.Affine, Bits: 3, GroupSize: 128}, mlxquant.MXFP4.Default(), mlxquant.NVFP4.Default()} {
		for _, turned := range []bool{false, true} {
			p := kernel.Params{Op: kernel.Quantize, From: dtype.BF16, To: dtype.BF16, Format: f, Transposed: turned}
			j := kernel.Job{Rows: 128, Cols: 32, SrcStride: 32}
			if !turned {
				j = kernel.Job{Rows: 32, Cols: 128, SrcStride: 128}
			}
			out := placePacked(&p, &j, 0)
			var l layout
			l.plan([]kernel.Batch{{Params: p, Jobs: []kernel.Job{j}}})
			require.Len(t, l.quantize, 1)
			status := make([]byte, statusSize)
			try := probe.Try{
				Source: text, Kernel: "quantize_bf16", Grid: [3]int{256}, Threadgroup: [3]int{256},
				Buffers: [][]byte{make([]byte, 2*4096), make([]byte, out), bytesOf(l.quantize), status},
			}
			require.NoError(t, try.Run())
			assert.EqualValues(t, kDone, binary.LittleEndian.Uint32(status))
			assert.EqualValues(t, 4096/f.GroupSize, binary.LittleEndian.Uint32(status[4:]), "%s", p)
		}
	}
}
