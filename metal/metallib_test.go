//go:build fakemetal && metallib

package metal_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/emulator/probe"
	"github.com/metalcast/metalcast/shaders"
)

// The embedded metallibs are used, each for its kernels, and where one does not load its text is compiled. (build.sh makes them for the fake device.)
func TestMetallib(t *testing.T) {
	convert, quantize := shaders.Convert, shaders.Quantize
	t.Cleanup(func() { shaders.Convert, shaders.Quantize = convert, quantize })
	other := []byte("ELF!")
	for name, c := range map[string]struct {
		convert, quantize shaders.Library
	}{
		"both load":              {shaders.Library{Metallib: convert.Metallib}, shaders.Library{Metallib: quantize.Metallib}},
		"one of another system":  {shaders.Library{Metallib: convert.Metallib}, shaders.Library{Text: quantize.Text, Metallib: other}},
		"both of another system": {shaders.Library{Text: convert.Text, Metallib: other}, shaders.Library{Text: quantize.Text, Metallib: other}},
	} {
		t.Run(name, func(t *testing.T) {
			shaders.Convert, shaders.Quantize = c.convert, c.quantize
			defer probe.Inject(probe.Faults{})()
			r := newRig(t, true)
			assert.Equal(t, 1, probe.Count("library"))
			for _, p := range operations {
				batch, in, out := operation(p)
				require.NoError(t, r.run(r.slot(len(in), out), batch, in, out), p)
			}
			assert.Equal(t, 2, probe.Count("library"))
		})
	}
}
