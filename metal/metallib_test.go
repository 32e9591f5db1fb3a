//go:build fakemetal && metallib

package metal_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/emulator/probe"
	"github.com/metalcast/metalcast/shaders"
)

// The embedded metallib is used, and where it does not load the text is compiled. (build.sh makes one for the fake device.)
func TestMetallib(t *testing.T) {
	good := shaders.Metallib
	t.Cleanup(func() { shaders.Metallib = good })
	require.Equal(t, "MTLB", string(good[:4]))
	batch, in, out := window(130, 260, 3, 1)
	for name, lib := range map[string][]byte{"good": good, "of another system": []byte("ELF!")} {
		shaders.Metallib = lib
		t.Run(name, func(t *testing.T) {
			defer probe.Inject(probe.Faults{})()
			r := newRig(t, true)
			assert.Equal(t, 1, probe.Count("library"))
			require.NoError(t, r.run(r.slot(len(in), out), batch, in, out))
		})
	}
}
