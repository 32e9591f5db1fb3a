//go:build fakemetal

package metalcast_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast"
	"github.com/metalcast/metalcast/emulator/probe"
	"github.com/metalcast/metalcast/internal/synth"
)

// A conversion compiles the kernels that it needs, beginning before it has read anything: a source
// that is refused leaves them to the next.
func TestFakeMetalCompilesWhatAConversionNeeds(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	_, err := synth.Write(t.Context(), src, synth.Options{Family: "qwen3_moe", Layers: 1, Experts: 2, Hidden: 64, Intermediate: 64, Vocab: 512, Shards: 1})
	require.NoError(t, err)
	convert := func(src, name string, q *metalcast.Quantize) error {
		_, err := metalcast.Convert(t.Context(), src, filepath.Join(dir, name), metalcast.Options{Device: "metal", Quantize: q})
		return err
	}
	// Takes what tests before this one may have left.
	require.NoError(t, convert(src, "first", &metalcast.Quantize{}))
	for _, c := range []struct {
		name     string
		src      string
		quantize *metalcast.Quantize
		compiled int
	}{
		{"plain", src, nil, 1},
		{"4bit", src, &metalcast.Quantize{}, 2},
		{"refused", filepath.Join(dir, "nothing"), nil, 1},
		{"after one refused", src, nil, 0},
		{"refused 4bit", filepath.Join(dir, "nothing"), &metalcast.Quantize{}, 2},
		{"4bit after that", src, &metalcast.Quantize{}, 0},
	} {
		restore := probe.Inject(probe.Faults{})
		err := convert(c.src, c.name, c.quantize)
		assert.Equal(t, c.compiled, probe.Count("library"), c.name)
		restore()
		assert.Equal(t, c.src == src, err == nil, "%s: %v", c.name, err)
	}
}
