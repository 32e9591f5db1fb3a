package kerneltest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/mlxquant"
	"github.com/metalcast/metalcast/internal/vectortest"
	"github.com/stretchr/testify/require"
)

// testVectors runs docs/parity-vectors, with which other converters test themselves.
func testVectors(t *testing.T, be kernel.Backend) {
	rig := NewRig(be)
	for _, c := range vectortest.Load(t) {
		w, jobs := vectorWindow(t, &c)
		rig.Check(t, w)
		for _, difference := range jobs.differences(rig.slot.Out()) {
			t.Error(difference)
		}
	}
}

// vectorJob is a result of a case and the job that must produce it.
type vectorJob struct {
	name   string
	want   vectortest.Result
	params kernel.Params
	job    kernel.Job
}

type vectorJobs []vectorJob

// vectorWindow returns a window with a job for each result of a case, each with a different
// alignment of the source.
func vectorWindow(t testing.TB, c *vectortest.Case) (*Window, vectorJobs) {
	w, jobs := NewWindow(1), vectorJobs{}
	for i, want := range c.Results {
		p := vectorParams(t, c, &want)
		l := Layout{Rows: c.Source.Shape[0], Cols: c.Source.Shape[1], Shift: i, Codes: c.Source.Data}
		if p.Scaled() {
			l.Scales = vectorScales(t, c.Scales)
		}
		jobs = append(jobs, vectorJob{c.Name, want, p, *w.Add(p, l)})
	}
	return w, jobs
}

func vectorParams(t testing.TB, c *vectortest.Case, want *vectortest.Result) kernel.Params {
	ops := map[string]kernel.Op{"dequantize": kernel.Dequant, "cast": kernel.Cast, "add_one": kernel.AddOne, "quantize": kernel.Quantize}
	require.Contains(t, ops, c.Op)
	p := kernel.Params{Op: ops[c.Op], From: named(t, c.Source.DType), To: named(t, want.DType)}
	if s := c.Scales; s != nil {
		p.ScaleType, p.BlockRows, p.BlockCols = named(t, s.DType), s.Block[0], s.Block[1]
		if s.Use == "divide" {
			p.ScaleType = dtype.F32 // the type of the reciprocals, which the engine computes
		}
	}
	if p.Op == kernel.Quantize {
		mode, ok := mlxquant.ParseMode(want.Mode)
		require.True(t, ok, want.Mode)
		p.Format = mlxquant.Format{Mode: mode, Bits: want.Bits, GroupSize: want.GroupSize}
		profiles := map[string]mlxquant.Profile{"metal": mlxquant.Metal, "cpu": mlxquant.CPU}
		require.Contains(t, profiles, want.Profile)
		p.Profile = profiles[want.Profile]
	}
	return p
}

func named(t testing.TB, name string) dtype.DType {
	kind, ok := dtype.Parse(name)
	require.True(t, ok, name)
	return kind
}

// vectorScales returns the bits of scales, or of their reciprocals: rounding a quotient of float32s
// to float64 first does not change the float32 result.
func vectorScales(t testing.TB, s *vectortest.Scales) (list []uint32) {
	kind := named(t, s.DType)
	for i := range s.Shape[0] * s.Shape[1] {
		size := int(kind.Size())
		word := make([]byte, 4)
		copy(word, s.Data[i*size:(i+1)*size])
		bits := binary.LittleEndian.Uint32(word)
		if s.Use == "divide" {
			bits = formatOf(dtype.F32).round(1 / load(s.Data, 0, i, kind))
		}
		list = append(list, bits)
	}
	return list
}

// differences compares all results in a slot's Out with the vectors.
func (jobs vectorJobs) differences(out []byte) (list []string) {
	for i := range jobs {
		x := &jobs[i]
		size := int(x.params.To.Size())
		values, codes, scales, biases := int64(x.job.Rows*x.job.Cols*size), int64(0), int64(0), int64(0)
		if x.params.Op == kernel.Quantize {
			values = 0
			_, _, codes, scales, biases = x.params.Packed(&x.job)
		}
		for _, part := range []struct {
			name string
			at   int
			size int64
			want []byte
		}{{"values", x.job.Dst, values, x.want.Values}, {"codes", x.job.Dst, codes, x.want.Codes}, {"scales", x.job.DstScale, scales, x.want.Scales}, {"biases", x.job.DstBias, biases, x.want.Biases}} {
			if got := out[part.at:][:part.size]; !bytes.Equal(got, part.want) {
				list = append(list, fmt.Sprintf("%s -> %s: %s: %s", x.name, &x.want, part.name, firstDifference(got, part.want)))
			}
		}
	}
	return list
}

func firstDifference(got, want []byte) string {
	if len(got) != len(want) {
		return fmt.Sprintf("%d bytes, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			return fmt.Sprintf("byte %d is %#02x, want %#02x", i, got[i], want[i])
		}
	}
	return ""
}
