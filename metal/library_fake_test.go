//go:build fakemetal

package metal_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/cpufallback"
	"github.com/metalcast/metalcast/emulator/probe"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/mlxquant"
	"github.com/metalcast/metalcast/metal"
)

// try opens a backend, runs one operation that quantizes or not, and closes it.
func try(t *testing.T, quantizes bool, o metal.Options) error {
	t.Helper()
	cpu := cpufallback.New(1)
	defer cpu.Close()
	o.CPU, o.Strict = cpu, true
	b, err := metal.Open(o)
	if err != nil {
		return err
	}
	defer func() { require.NoError(t, b.Close()) }()
	for _, p := range operations {
		if (p.Op == kernel.Quantize) != quantizes {
			continue
		}
		batch, in, out := operation(p)
		s, err := b.NewSlot(len(in), out)
		require.NoError(t, err)
		copy(s.In(), in)
		if err := b.Run(context.Background(), s, batch, make([]kernel.Tally, 1)); err != nil {
			return err
		}
	}
	return nil
}

// The kernels that quantize are compiled where they are needed, once, and what Prepare began is not compiled a second time.
func TestLibrariesAreCompiledOnceAndWhereTheyAreNeeded(t *testing.T) {
	_, err := metal.Describe() // the device stays
	require.NoError(t, err)
	live := probe.Live()
	for name, c := range map[string]struct {
		prepare   []bool
		quantizes bool
		options   metal.Options
		before    int // compiled when Open begins
		want      int
	}{
		"plain":                            {want: 1},
		"quantizing":                       {quantizes: true, want: 2},
		"quantizing, said before":          {quantizes: true, options: metal.Options{Quantize: true}, want: 2},
		"said before, not used":            {options: metal.Options{Quantize: true}, want: 2},
		"plain, prepared":                  {prepare: []bool{false}, before: 1, want: 1},
		"prepared twice":                   {prepare: []bool{false, false}, before: 1, want: 1},
		"prepared by two":                  {prepare: []bool{false, true}, before: 2, quantizes: true, want: 2},
		"quantizing, prepared":             {prepare: []bool{true}, before: 2, quantizes: true, options: metal.Options{Quantize: true}, want: 2},
		"quantizing, half of it prepared":  {prepare: []bool{false}, before: 1, quantizes: true, want: 2},
		"prepared, no use of what it made": {prepare: []bool{true}, before: 2, options: metal.Options{Quantize: true}, want: 2},
	} {
		t.Run(name, func(t *testing.T) {
			defer probe.Inject(probe.Faults{})()
			for _, quantize := range c.prepare {
				metal.Prepare(quantize)()
			}
			assert.Equal(t, c.before, probe.Count("library"))
			require.NoError(t, try(t, c.quantizes, c.options))
			assert.Equal(t, c.want, probe.Count("library"))
			assert.Equal(t, live, probe.Live(), "objects are left")
		})
	}
}

// What does not compile is said when the backend opens, though it was begun before, or when a window needs it; the next backend compiles again.
func TestWhatDoesNotCompileIsSaid(t *testing.T) {
	const text = "program_source:1:1: error: no such thing"
	for name, c := range map[string]struct {
		faults    probe.Faults
		prepare   bool
		quantizes bool
		options   metal.Options
		want      string
	}{
		"begun before":            {probe.Faults{NoLibrary: probe.Always()}, true, false, metal.Options{}, "Fake Metal: the kernels do not compile: " + text},
		"quantizing, at Open":     {probe.Faults{NoLibrary: probe.Nth(2)}, false, false, metal.Options{Quantize: true}, "Fake Metal: the kernels that quantize do not compile: " + text},
		"quantizing, in a window": {probe.Faults{NoLibrary: probe.From(2)}, false, true, metal.Options{}, "Fake Metal: the kernels that quantize do not compile: " + text},
	} {
		t.Run(name, func(t *testing.T) {
			c.faults.Text = text
			defer probe.Inject(c.faults)()
			if c.prepare {
				metal.Prepare(false)()
			}
			require.ErrorContains(t, try(t, c.quantizes, c.options), c.want)
			defer probe.Inject(probe.Faults{})()
			require.NoError(t, try(t, true, metal.Options{}))
		})
	}
}

// A window that quantizes more than one command buffer takes is the CPU's to the byte.
func TestQuantizingInSeveralCommandBuffers(t *testing.T) {
	p := kernel.Params{Op: kernel.Quantize, From: dtype.BF16, To: dtype.BF16, Format: mlxquant.MXFP4.Default()}
	j := kernel.Job{Rows: 1030, Cols: 4096, SrcStride: 4096, DstScale: 1030 * 4096 / 2}
	in := make([]byte, j.Rows*j.Cols*2)
	for i := range in {
		in[i] = byte(i*167>>3) & 0x3F
	}
	out := j.DstScale + j.Rows*j.Cols/32
	r := newRig(t, true)
	s := r.slot(len(in), out)
	batch := []kernel.Batch{{Params: p, Jobs: []kernel.Job{j}}}
	require.NoError(t, r.run(s, batch, in, out))
	defer probe.Inject(probe.Faults{})()
	require.NoError(t, r.run(s, batch, in, out))
	assert.Equal(t, 3, probe.Count("command-buffer"))
	assert.Empty(t, r.warnings)
}
