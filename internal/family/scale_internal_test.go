package family

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/checkpoint"
	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
)

// From the scales' side as from the weights': names of all endings, and of endings upon endings.
func TestFindAllScalesIsFindScalesOfEach(t *testing.T) {
	endings := []string{"", ".weight", "_weight", "_scale", "_scale_inv", "_weight_scale", ".scale", "_scales"}
	seen := map[string]bool{}
	var tensors []Tensor
	for _, a := range endings {
		for _, b := range endings {
			for _, c := range endings {
				if name := "a" + a + b + c; !seen[name] {
					seen[name] = true
					tensors = append(tensors, Tensor{Name: name, DType: "U8", Shape: []int{1}})
				}
			}
		}
	}
	c := Moe(1)
	c.Shards["model.safetensors"] = tensors
	c.Index(nil)
	v, err := checkpoint.Open(t.Context(), c.Write(t))
	require.NoError(t, err)
	found := findAllScales(v)
	for i := range v.Tensors {
		want := findScales(v, &v.Tensors[i])
		require.Equal(t, len(want), found[i].n, v.Tensors[i].Name)
		if len(want) > 0 {
			require.Contains(t, want, found[i].scale)
		}
	}
}
