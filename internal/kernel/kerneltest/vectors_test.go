package kerneltest

import (
	"testing"

	"github.com/metalcast/metalcast/internal/vectortest"
	"github.com/stretchr/testify/require"
)

// TestVectors compares the reference with docs/parity-vectors, and then with vectors in which one
// bit is changed.
func TestVectors(t *testing.T) {
	cases, changed := vectortest.Load(t), 0
	require.Greater(t, len(cases), 30)
	for _, c := range cases {
		w, jobs := vectorWindow(t, &c)
		out := append([]byte{}, w.Out...)
		Reference(w.In, out, w.Batches)
		require.Empty(t, jobs.differences(out))
		for i := range jobs {
			x := &jobs[i].want
			for _, part := range []vectortest.Rows{x.Values, x.Codes, x.Scales, x.Biases} {
				for _, at := range []int{0, len(part) / 2, len(part) - 1} {
					if len(part) == 0 {
						continue
					}
					part[at] ^= 1
					require.Len(t, jobs.differences(out), 1, "%s -> %s", c.Name, x)
					part[at] ^= 1
					changed++
				}
			}
		}
	}
	require.Greater(t, changed, 1000)
}
