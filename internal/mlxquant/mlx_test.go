package mlxquant

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/stretchr/testify/require"
)

func sortedNames() []string { return slices.Sorted(maps.Keys(makers)) }

var floats = []dtype.DType{dtype.BF16, dtype.F16, dtype.F32}

// everyFormat lists all formats.
func everyFormat() (all []Format) {
	for m := range modes {
		for _, bits := range modes[m].bits {
			for _, size := range modes[m].groupSizes {
				all = append(all, Format{Mode(m), bits, size})
			}
		}
	}
	return all
}

func fpFormats() []Format {
	return slices.DeleteFunc(everyFormat(), func(f Format) bool { return f.Mode == Affine })
}

// python returns an interpreter that has MLX.
func python(t *testing.T) string {
	t.Helper()
	path := cmp.Or(os.Getenv("METALCAST_PYTHON"), "../../.venv/bin/python")
	if out, err := exec.CommandContext(t.Context(), path, "-c", "import mlx.core").CombinedOutput(); err != nil {
		needtest.Skip(t, "consumers", "no Python with mlx (%s: %v: %s); METALCAST_PYTHON names one", path, err, out)
	}
	return path
}

type job struct {
	Input   string      `json:"input"`
	DType   string      `json:"dtype"`
	Cols    int         `json:"cols"`
	Formats [][3]any    `json:"formats"`
	dtype   dtype.DType // DType
	w       []float32
	formats []Format
}

func newJob(name string, t dtype.DType, w []float32, formats []Format) job {
	j := job{Input: name + "-" + t.String(), DType: t.String(), Cols: mostGroup, dtype: t, w: w, formats: formats}
	for _, f := range formats {
		j.Formats = append(j.Formats, [3]any{f.Mode.String(), f.Bits, f.GroupSize})
	}
	return j
}

// sweep makes groups of 32 with every finite magnitude of a 16-bit type as the greatest in both
// halves; the other elements are arbitrary and smaller.
func sweep(r *rand.Rand, t dtype.DType) (w []float32) {
	most := narrow(t, maxFinite(t))
	for m := uint32(1); m <= most; m++ {
		for i := range 32 {
			b := r.Uint32N(m + 1)
			switch {
			case i%16 == 0:
				b = m
			case i%16 < 12: // with an exponent near m's
				b = m - min(m, r.Uint32N(1+uint32(8<<map[dtype.DType]int{dtype.BF16: 7, dtype.F16: 10}[t])))
			}
			w = append(w, widen(t, b|r.Uint32N(2)<<15))
		}
	}
	for len(w)%mostGroup != 0 {
		w = append(w, 0)
	}
	return w
}

// TestMLX compares with MLX itself, which has only the CPU's profile here.
func TestMLX(t *testing.T) {
	needtest.Alone(t)
	path := python(t)
	r := rand.New(rand.NewPCG(1, 2))
	jobs := mixed(r, needtest.Rounds(816, 4080))
	for _, from := range floats[:2] {
		jobs = append(jobs, newJob("sweep", from, sweep(r, from), fpFormats()))
	}
	dir := writeInputs(t, jobs)
	request, err := json.Marshal(jobs)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "request.json"), request, 0o600))
	out, err := exec.CommandContext(t.Context(), path, "testdata/quantize.py", dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Logf("MLX %s", out)

	compareAll(t, dir, "", CPU, jobs)
}

// mixed makes matrices of every type from groups of every kind, for all formats.
func mixed(r *rand.Rand, rows int) (jobs []job) {
	for _, from := range floats {
		w := make([]float32, rows*mostGroup)
		third := len(w) / 3 / mostGroup * mostGroup
		makeGroups(r, w[:third], 16, from)
		makeGroups(r, w[third:2*third], 32, from)
		makeGroups(r, w[2*third:], mostGroup, from)
		jobs = append(jobs, newJob("mixed", from, w, everyFormat()))
	}
	return jobs
}

func writeInputs(t *testing.T, jobs []job) (dir string) {
	dir = t.TempDir()
	for _, j := range jobs {
		size := int(j.dtype.Size())
		raw := make([]byte, size*len(j.w))
		for i, x := range j.w {
			put(raw[i*size:], size, narrow(j.dtype, x))
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, j.Input), raw, 0o600))
	}
	return dir
}

func compareAll(t *testing.T, dir, infix string, p Profile, jobs []job) {
	groups, refused := 0, 0
	for _, j := range jobs {
		for _, f := range j.formats {
			g, bad := compare(t, dir, infix, p, j, f)
			groups, refused = groups+g, refused+bad
		}
	}
	t.Logf("%d groups, %d of them with an infinite scale", groups, refused)
}

// compare compares group by group, then the values of dequantization.
func compare(t *testing.T, dir, infix string, p Profile, j job, f Format) (groups, refused int) {
	name := fmt.Sprintf("%s.%s.%d.%d.%s", j.Input, f.Mode, f.Bits, f.GroupSize, infix)
	read := func(part string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name+part))
		require.NoError(t, err)
		return b
	}
	q, err := New(f, p, j.dtype)
	require.NoError(t, err)
	codes, scales, values := read("codes"), read("scales"), read("values")
	onX86 := p == Metal || runtime.GOARCH == "amd64"
	if f.Mode == Affine && !onX86 {
		values = nil // on other machines MLX's compiler may fuse their multiplication with the addition
	}
	var biases []byte
	if f.Mode == Affine {
		biases = read("biases")
	}
	size, n := int(q.ScaleType(j.dtype).Size()), f.GroupBytes()
	got := make([]byte, n)
	dequantized := make([]float32, f.GroupSize)
	for i := range f.Groups(len(j.w)) {
		w := j.w[i*f.GroupSize : (i+1)*f.GroupSize]
		groups++
		scale, bias, finite := q.Group(got, w)
		var wantScale, wantBias uint32
		c, s := codes[i*n:(i+1)*n], scales[i*size:(i+1)*size]
		var b []byte
		switch {
		case size == 1:
			wantScale = uint32(s[0])
		default:
			b = biases[i*size : (i+1)*size]
			wantScale, wantBias = get(s, size), get(b, size)
		}
		if !finite {
			refused++
			require.Equal(t, Affine, f.Mode)
			require.True(t, math.IsInf(float64(widen(j.dtype, wantScale)), 0), "%sgroup %d: refused %v", name, i, w)
			continue
		}
		if f.Mode == Affine && !onX86 && widen(j.dtype, wantScale) == 0 {
			// 0/0 becomes a different integer on each kind of processor; times a scale of 0 it does not
			// matter
			c = got
		}
		if scale != wantScale || bias != wantBias || string(got) != string(c) {
			t.Fatalf("%sgroup %d: %v:\nscale %#x, want %#x, bias %#x, want %#x\ncodes %x\nwant  %x", name, i, w, scale, wantScale, bias, wantBias, got, c)
		}
		if len(values) == 0 { // affine on Metal, or not on x86
			continue
		}
		f.Dequantize(dequantized, c, s, b, j.dtype)
		for k, x := range dequantized {
			at := (i*f.GroupSize + k) * int(j.dtype.Size())
			want := get(values[at:], int(j.dtype.Size()))
			if got := narrow(j.dtype, x); got != want && x == x {
				t.Fatalf("%svalue %d of group %d: %#x, want %#x", name, k, i, got, want)
			}
		}
	}
	return groups, refused
}
