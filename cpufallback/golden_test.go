package cpufallback

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/stretchr/testify/require"
)

// TestGoldens compares with results computed by numpy, ml_dtypes, torch and MLX; see testdata/README.md.
func TestGoldens(t *testing.T) {
	paths, err := filepath.Glob("../testdata/kernel/*.golden.gz")
	require.NoError(t, err)
	require.Len(t, paths, 7)
	be := New(0)
	t.Cleanup(func() { require.NoError(t, be.Close()) })
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".golden.gz")
		t.Run(name, func(t *testing.T) {
			g := readGolden(t, path)
			p := kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3}
			var j kernel.Job
			in := g["codes"].data
			switch kind, _, _ := strings.Cut(name, "_"); kind {
			case "codes": // every scale by every code: the codes repeat row after row
				j.Rows, j.Cols = g["scales"].shape[0], 256
				in = bytes.Repeat(in, j.Rows)
				p.BlockRows, p.BlockCols, j.ScaleStride = 1, 256, 1
			case "ragged":
				j.Rows, j.Cols = 130, 200
				p.BlockRows, p.BlockCols, j.ScaleStride = 128, 128, 2
			case "cast":
				in = g["source"].data
				p.Op, p.From = kernel.Cast, g["source"].dtype
				j.Rows, j.Cols = 1, g["source"].shape[0]
			default:
				t.Fatal("unknown golden ", name)
			}
			j.SrcStride, j.DstStride, j.Scale = j.Cols, j.Cols, len(in)
			if p.Op == kernel.Dequant {
				p.ScaleType = g["scales"].dtype
				in = append(bytes.Clone(in), g["scales"].data...)
			}
			for _, to := range []dtype.DType{dtype.BF16, dtype.F16, dtype.F32} {
				p.To = to
				compareGolden(t, be, p, j, in, g[to.String()].data)
			}
		})
	}
}

func compareGolden(t *testing.T, be kernel.Backend, p kernel.Params, j kernel.Job, in, want []byte) {
	t.Helper()
	s, err := be.NewSlot(len(in), len(want))
	require.NoError(t, err)
	copy(s.In(), in)
	require.NoError(t, be.Run(t.Context(), s, []kernel.Batch{{Params: p, Jobs: []kernel.Job{j}}}, make([]kernel.Tally, 1)))
	size := int(p.To.Size())
	inf, nan := uint64(roundTo(p.To, infinity)), uint64(nanBits(p.To))
	for i := 0; i < len(want); i += size {
		var w, got uint64
		for k := range size {
			w |= uint64(want[i+k]) << (8 * k)
			got |= uint64(s.Out()[i+k]) << (8 * k)
		}
		if w&(1<<(8*size-1)-1) > inf {
			w = nan // libraries differ in sign and payload, this package's is canonical
		}
		if got != w {
			t.Fatalf("%s, element %d: %#x, want %#x", p, i/size, got, w)
		}
	}
}

type array struct {
	dtype dtype.DType
	shape []int
	data  []byte
}

// readGolden reads a file of make_goldens.py: one line of JSON, then arrays as planes of bytes.
func readGolden(t *testing.T, path string) map[string]array {
	f, err := os.Open(path)
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	r := bufio.NewReader(z)
	line, err := r.ReadBytes('\n')
	require.NoError(t, err)
	var header struct {
		Arrays []struct {
			Name, Type string
			Shape      []int
		}
	}
	require.NoError(t, json.Unmarshal(line, &header))
	arrays := map[string]array{}
	for _, h := range header.Arrays {
		d, ok := dtype.Parse(h.Type)
		require.True(t, ok, h.Type)
		n, size := 1, int(d.Size())
		for _, k := range h.Shape {
			n *= k
		}
		planes, data := make([]byte, n*size), make([]byte, n*size)
		_, err := io.ReadFull(r, planes)
		require.NoError(t, err)
		for i := range data {
			data[i] = planes[i%size*n+i/size]
		}
		arrays[h.Name] = array{d, h.Shape, data}
	}
	_, err = r.ReadByte()
	require.ErrorIs(t, err, io.EOF)
	return arrays
}
